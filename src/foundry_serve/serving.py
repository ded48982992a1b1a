"""Serves the product until it is asked to stop, in the foreground and in the background alike.

Knows: the order in which a server comes and goes (listen, get ready, serve, drain), and who has a port that
it cannot have.
Refuses to know: who is told how far it is: a terminal, or the state file.

It listens before it is ready. From then on nobody is refused: who connects waits, at most for a second.
"""

from __future__ import annotations

import errno
import gc
import logging
import sys
from collections.abc import Sequence
from typing import Protocol

import anyio
from anyio.abc import TaskStatus

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.platform import port_holder, return_large_memory_at_once, stop_requests
from foundry_runtime.server import serve as serve_application
from foundry_runtime.transport import Listener, open_tcp_listeners
from foundry_runtime.wakeup import Doorbell
from foundry_serve.config import DEFAULT_PORT, Config

__all__ = ["Stages", "prepare_process", "run_server"]

logger = logging.getLogger(__name__)


class Stages(Protocol):
    """Told how far a server is, in its main thread."""

    def listening(self, endpoints: Sequence[str]) -> None:
        """It can be connected to, at these URLs; the first is for whoever wants one."""

    def serving(self) -> None:
        """It answers."""

    def stopping(self) -> None:
        """It was asked to stop, and finishes running answers."""


def prepare_process() -> None:
    """Set what belongs to a process that serves, and that a library must not touch.

    To be called when everything is imported.
    """
    # With the default of 5 ms a busy loop makes each of an engine's short tokens wait for the interpreter.
    sys.setswitchinterval(0.0005)
    # What was imported stays; looking it through at each full collection made the loop stand still for 60 ms.
    gc.freeze()
    return_large_memory_at_once()


def run_server(config: Config, directory: ModelDirectory, stages: Stages) -> None:
    """Serve until asked to stop; to be called in the main thread.

    Raises:
        OSError: The port cannot be had; the text names it and, where that is known, who has it.
    """
    failures: list[OSError] = []
    try:
        anyio.run(_serve, config, directory, stages, backend=config.runtime)
    except* OSError as group:
        failures += [error for error in group.exceptions if isinstance(error, OSError)]
    if failures:
        raise failures[0]


async def _serve(config: Config, directory: ModelDirectory, stages: Stages) -> None:
    stop, bell = anyio.Event(), Doorbell()
    with stop_requests(bell.ring):
        listeners = await _listen(config)
        endpoints = _endpoints(listeners)
        logger.info("listening on %s", ", ".join(endpoints))
        stages.listening(endpoints)
        # Only now: it takes longer than all before it.
        from foundry_runtime.models.engines import make_engine, make_isolated_engine  # noqa: PLC0415
        from foundry_runtime.models.loading import ModelOpener  # noqa: PLC0415
        from foundry_serve.app import make_application  # noqa: PLC0415
        from foundry_serve.catalog import make_sources, published_models  # noqa: PLC0415

        prepare_process()
        application = make_application(
            directory,
            ModelOpener(
                threads=config.threads,
                engine=config.engine,
                speculate=config.speculate,
                make=make_isolated_engine if config.isolate else make_engine,
            ),
            endpoints=endpoints,
            stop=bell.ring if config.allow_shutdown else None,
            sources=make_sources(config),
            published=published_models(config, directory.home),
        )

        async def serve_to_the_end(*, task_status: TaskStatus[None]) -> None:
            await serve_application(
                application,
                listeners,
                time_outs=config.time_outs,
                stop=stop,
                drain=config.drain,
                task_status=task_status,
            )
            task_group.cancel_scope.cancel()

        async with anyio.create_task_group() as task_group:
            await task_group.start(serve_to_the_end)
            logger.info("serving the models in %s", directory.models)
            stages.serving()
            # The first request asks running answers to end; the second ends them.
            await bell.wait()
            logger.info("stopping")
            stages.stopping()
            stop.set()
            await bell.wait()
            task_group.cancel_scope.cancel()


async def _listen(config: Config) -> Sequence[Listener]:
    port = DEFAULT_PORT if config.port is None else config.port
    try:
        return await open_tcp_listeners(config.host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        holder = port_holder(port)
        taken = OSError(error.errno, f"{error.strerror}{f' ({holder} has it)' if holder else ''}")
        if config.port is not None:
            raise taken from error
        logger.warning("%s; a free port is taken instead", taken.strerror)
    return await open_tcp_listeners(config.host, 0)


def _endpoints(listeners: Sequence[Listener]) -> Sequence[str]:
    """URLs by which this machine reaches the listeners, IPv4 first: it is what clients look for.

    Choice: an IPv6 loopback that stands alone is called `localhost`, since clients find no IPv6 literal.
    """
    names = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (what others are bound to)
    reached = sorted((names.get(one.host, one.host), one.port) for one in listeners)
    urls = [f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for host, port in reached]
    urls.sort(key=lambda url: "[" in url)
    return [url.replace("[::1]", "localhost") for url in urls] if "[" in urls[0] else urls
