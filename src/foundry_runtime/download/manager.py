"""All downloads of a server: who wants a model that is under way joins in.

Knows: that a download belongs to all who wait for it, and ends when nobody does; which source a model comes
from; how news of a download reach who waits. Refuses to know: how anything is fetched, and HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from foundry_proto.progress import Progress, ProgressPace
from foundry_runtime.download.delivery import Delivery, deliver
from foundry_runtime.download.sources.api import DownloadFailed, Source, WantedModel

__all__ = ["MOST_DOWNLOADS", "Conflict", "Downloads", "NoSource", "TooMany", "Transfer", "source_for"]

logger = logging.getLogger(__name__)

_LOOK: Final = 0.1
"""Seconds between two looks at how far a download is: its thread tells nobody, which costs it nothing."""


class NoSource(ValueError):
    """No source has such a model; the text says what there is."""


MOST_DOWNLOADS: Final = 4
"""How many models may be under way at a time, where nothing else is said."""


class TooMany(Exception):
    """As many models are under way as there may be."""


class Conflict(Exception):
    """A model of this id is under way from somewhere else."""


@define(eq=False)
class _Running:
    """A download under way, for all who want it."""

    delivery: Delivery
    ended: anyio.Event = field(factory=anyio.Event)
    waiting: int = 0
    """How many want it."""
    scope: anyio.CancelScope = field(factory=anyio.CancelScope)
    news: tuple[str, float] = ("", 0.0)
    """The file, and how much of all is done; written in any thread."""
    failure: str | None = "the download was stopped"
    """Why the model is not here."""

    async def run(self) -> None:
        model = self.delivery.model
        try:
            with self.scope:
                logger.info("downloading %s from %s", model.id, model.uri)
                await deliver(self.delivery, self._tell)
                self.failure = None
        except (OSError, ValueError) as error:
            # Not the exception itself is kept: several wait, and each raises one of their own.
            self.failure = str(error) or type(error).__name__
            logger.warning("downloading %s failed: %s", model.id, self.failure)
        # A bug, which ends this download alone: the log tells of it, and those who wait less.
        except Exception:
            self.failure = "the server failed on this download"
            logger.exception("downloading %s failed", model.id)

    def _tell(self, what: str, fraction: float) -> None:
        self.news = (what, fraction)


class Transfer:
    """A download as one sees it who waits: an asynchronous iterator of its news.

    The first comes at once, then at most ten a second and at least one, until the model is here.
    """

    def __init__(self, running: _Running) -> None:
        self._running = running
        self._pace = ProgressPace()
        self._begun = False

    def __aiter__(self) -> Transfer:
        return self

    async def __anext__(self) -> Progress:
        """Wait for what is worth telling.

        Raises:
            DownloadFailed: The model will not come; the text says why.
        """
        running = self._running
        while True:
            if self._begun:
                with anyio.move_on_after(_LOOK):
                    await running.ended.wait()
                if running.ended.is_set():
                    break
            self._begun = True
            if (progress := self._pace.next(anyio.current_time(), *running.news)) is not None:
                return progress
        if running.failure is not None:
            raise DownloadFailed(running.failure)
        raise StopAsyncIteration


def source_for(model: WantedModel, sources: Sequence[Source]) -> Source:
    """Find the source of a model: the first that offers it.

    Raises:
        NoSource: None does.
    """
    for source in sources:
        if source.offers(model):
            return source
    kind = f" ({model.provider_type})" if model.provider_type else ""
    there_are = " or ".join(source.expects for source in sources)
    raise NoSource(f"nothing here can fetch {model.uri}{kind}: expected {there_are}")


class Downloads:
    """Downloads models, each once at a time.

    Args:
        sources: Where models come from; of several that offer one, the first has it.
        task_group: Where downloads run, since none belongs to the request that began it.
        most: How many models may be under way at a time.
    """

    def __init__(
        self, sources: Sequence[Source], task_group: TaskGroup, *, most: int = MOST_DOWNLOADS
    ) -> None:
        self._most = most
        self._sources = tuple(sources)
        self._task_group = task_group
        self._running: dict[object, _Running] = {}

    @property
    def running(self) -> int:
        """How many downloads are under way."""
        return len(self._running)

    def source_of(self, model: WantedModel) -> Source:
        """Find the source of a model.

        Raises:
            NoSource: None has it.
        """
        return source_for(model, self._sources)

    @asynccontextmanager
    async def joined(self, delivery: Delivery) -> AsyncIterator[Transfer]:
        """Wait for a model together with all others who do; the last to leave ends what is not over.

        Args:
            delivery: What, and where to. The prompt template and `replace` of who came first count.

        Raises:
            Conflict: A model of this id is under way from somewhere else.
            TooMany: It is not under way, and as many others are as there may be.
        """
        running = await self._join(delivery)
        try:
            yield Transfer(running)
        finally:
            running.waiting -= 1
            if not running.waiting:
                running.scope.cancel()

    async def _join(self, delivery: Delivery) -> _Running:
        model = delivery.model
        key = (delivery.directory.models, model.id.casefold())
        # One that nobody wants any more is on its way out; what it leaves is gone on with.
        while (running := self._running.get(key)) is not None and running.scope.cancel_called:
            await running.ended.wait()
        if running is None:
            if len(self._running) >= self._most:
                raise TooMany(f"downloads: expected at most {self._most} at a time: try again later")
            running = self._running[key] = _Running(delivery)
            self._task_group.start_soon(self._run, key, running)
        other = running.delivery.model
        if (model.uri, model.path) != (other.uri, other.path):
            raise Conflict(f"{model.id} is being downloaded from {other.uri}")
        running.waiting += 1
        return running

    async def _run(self, key: object, running: _Running) -> None:
        try:
            await running.run()
        finally:
            del self._running[key]
            running.ended.set()
