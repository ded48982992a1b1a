"""The product's application: its handlers, the models on disk, and the pool that loads them.

Knows: how the parts are put together.
Refuses to know: sockets and terminals; `foundry serve` and `foundry model run` serve the same application.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from anyio import CapacityLimiter
from anyio.abc import TaskGroup

from foundry_proto.exchange import Gate
from foundry_proto.messages.chat import MAX_MESSAGES
from foundry_proto.operations import ALL
from foundry_runtime.application import Application, WorkLimits
from foundry_runtime.download.manager import MOST_DOWNLOADS, Downloads
from foundry_runtime.download.sources.api import Source
from foundry_runtime.feed import Feed
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.external import Relay
from foundry_runtime.models.pool import ModelPool, OpenModel
from foundry_runtime.models.published.models import PublishedModels
from foundry_runtime.models.registered import RegisteredModels
from foundry_runtime.platform import usable_cores
from foundry_serve.catalog import make_catalog, make_sources
from foundry_serve.handlers import HANDLERS
from foundry_serve.metrics import Metrics
from foundry_serve.observing import MeasuredOpener, Observer, Watching
from foundry_serve.reporting import reported
from foundry_serve.services import Services

__all__ = ["make_application"]


def make_application(
    directory: ModelDirectory,
    open_model: OpenModel,
    *,
    endpoints: Sequence[str] = (),
    stop: Callable[[], None] | None = None,
    sources: Sequence[Source] | None = None,
    published: PublishedModels | None = None,
    gate: Gate | None = None,
    work: WorkLimits | None = None,
    most_downloads: int = MOST_DOWNLOADS,
    most_messages: int = MAX_MESSAGES,
    watching: Watching | None = None,
) -> Application[Services]:
    """Put the application together.

    Args:
        directory: Where the models are.
        open_model: Loads one of them.
        endpoints: The addresses that it will be served at, as URLs, for those who ask.
        stop: Ends the server; given, clients on this machine may call it (`POST /shutdown`).
        sources: Where models can be downloaded from; by default from the usual places.
        published: The models of the public catalogue, whose list is kept new as long as the application runs;
            by default there are none, and no connection is opened for them.
        gate: Decides who may ask; without one everybody may.
        work: How much may be worked on.
        most_downloads: How many models may be downloaded at a time.
        most_messages: How many messages a chat may have.
        watching: What is told of the server while it runs, and to whom.
    """
    places = make_sources() if sources is None else sources

    watching = watching or Watching()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(task_group: TaskGroup) -> AsyncIterator[Services]:
        feed = Feed()
        pool = ModelPool(MeasuredOpener(open_model, metrics), task_group, tell=feed.publish)
        registered, relay = RegisteredModels(directory.home), Relay()
        if published is not None:
            task_group.start_soon(published.keep_fresh)
        try:
            yield Services(
                directory=directory,
                catalog=make_catalog(directory, registered, published),
                pool=pool,
                downloads=Downloads(places, task_group, most=most_downloads),
                prompt_threads=CapacityLimiter(usable_cores()),
                registered=registered,
                relay=relay,
                feed=feed,
                endpoints=tuple(endpoints),
                metrics=metrics,
                shows_metrics=watching.metrics,
                stopping=watching.stopping,
                stop=stop,
                most_messages=most_messages,
            )
        finally:
            await pool.aclose()  # first, since it waits for its engines even if cancelled
            await relay.aclose()

    observer = Observer(metrics, traces=watching.traces, prompts=watching.prompts)
    return Application(ALL, reported(HANDLERS), lifespan, gate=gate, work=work, observer=observer)
