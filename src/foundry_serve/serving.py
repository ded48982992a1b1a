"""Serves the product until it is asked to stop, in the foreground and in the background alike.

Knows: the order in which a server comes and goes: listen, get ready, serve, drain.
Refuses to know: what it listens on and who may talk there (`listening.py`), and who is told how far it is: a
terminal, or the state file.

It listens before it is ready. From then on nobody is refused: who connects waits, at most for a second.

It ends in time, whatever happens: native code that loads a model cannot be interrupted, nor is it waited for.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self

import anyio
from anyio.abc import TaskStatus

from foundry_proto.exchange import Gate
from foundry_runtime.application import Application
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.platform import return_large_memory_at_once, stop_requests
from foundry_runtime.server import serve as serve_application
from foundry_runtime.transport import Listener
from foundry_runtime.wakeup import Doorbell
from foundry_serve.config import Config
from foundry_serve.listening import endpoints_of, open_listeners, policy_for, read_keys
from foundry_serve.tracing import NO_TRACES, Traces, open_telemetry

__all__ = ["PATIENCE", "Ending", "Stages", "prepare_process", "run_server"]

logger = logging.getLogger(__name__)

PATIENCE: Final = 5.0
"""Seconds that the end may take, behind those that running answers have."""


class Stages(Protocol):
    """Told how far a server is, in its main thread."""

    def listening(self, endpoints: Sequence[str]) -> None:
        """It can be connected to, at these URLs; the first is for whoever wants one."""

    def serving(self) -> None:
        """It answers."""

    def stopping(self) -> None:
        """It was asked to stop, and finishes running answers."""


class Ending:
    """Ends the process where nothing else does: a context around all that may take too long."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()

    def within(self, seconds: float) -> None:
        """End the process after so much time, unless the context has ended; the last call counts."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, _end_process)
        self._timer.daemon = True
        self._timer.start()


def _end_process() -> None:
    logger.warning("what native code is doing is not waited for: a model is being loaded, as a rule")
    # Not by an exception: threads in native code may neither be waited for nor meet an interpreter that ends.
    os._exit(0)


def prepare_process() -> None:
    """Set what belongs to a process that serves, and that a library must not touch.

    To be called when everything is imported.
    """
    # With the default of 5 ms a busy loop makes each of an engine's short tokens wait for the interpreter.
    sys.setswitchinterval(0.0005)
    # What was imported stays; looking it through at each full collection made the loop stand still for 60 ms.
    gc.freeze()
    return_large_memory_at_once()


def run_server(
    config: Config, directory: ModelDirectory, stages: Stages, *, own_key: str | None = None
) -> None:
    """Serve until asked to stop; to be called in the main thread.

    Args:
        config: How.
        directory: The models.
        stages: Told how far it is.
        own_key: One more key, for the commands of the same user; it counts where keys are needed at all.

    Raises:
        BadConfig: The settings contradict each other, or name what cannot be used.
        OSError: The port cannot be had; the text names it and, where that is known, who has it.
    """
    traces, end_traces = open_telemetry(prompts=config.log_prompts) if config.tracing else (NO_TRACES, None)
    failures: list[OSError] = []
    try:
        with Ending() as ending:
            anyio.run(_serve, config, directory, stages, own_key, traces, ending, backend=config.runtime)
    except* OSError as group:
        failures += [error for error in group.exceptions if isinstance(error, OSError)]
    finally:
        if end_traces is not None:
            end_traces()
    if failures:
        raise failures[0]


async def _serve(
    config: Config,
    directory: ModelDirectory,
    stages: Stages,
    own_key: str | None,
    traces: Traces,
    ending: Ending,
) -> None:
    stop, bell = anyio.Event(), Doorbell()
    with stop_requests(bell.ring):
        keys = read_keys(config)
        listeners = await open_listeners(config, keys)
        try:
            gate = policy_for(config, listeners, (*keys, own_key) if keys and own_key else keys)
            endpoints = endpoints_of(listeners)
            logger.info("listening on %s", ", ".join(endpoints))
            stages.listening(endpoints)
            application = _make_application(config, directory, endpoints, gate, traces, stop, bell)
            async with anyio.create_task_group() as tasks:
                await tasks.start(_serve_to_the_end, application, listeners, config, stop, tasks.cancel_scope)
                logger.info("serving the models in %s", directory.models)
                stages.serving()
                # The first request asks running answers to end; the second ends them.
                await bell.wait()
                logger.info("stopping")
                stages.stopping()
                stop.set()
                ending.within(config.drain + PATIENCE)
                await bell.wait()
                ending.within(PATIENCE)
                tasks.cancel_scope.cancel()
        finally:
            for listener in listeners:
                await listener.aclose()  # does not wait; once more where they were served


def _make_application(
    config: Config,
    directory: ModelDirectory,
    endpoints: Sequence[str],
    gate: Gate,
    traces: Traces,
    stop: anyio.Event,
    bell: Doorbell,
) -> Application[Any]:
    """Make what answers, as it is configured, and the process ready for it."""
    # Only now: it takes longer than all before it.
    from foundry_runtime.models.engines import make_engine, make_isolated_engine  # noqa: PLC0415
    from foundry_runtime.models.loading import ModelOpener  # noqa: PLC0415
    from foundry_serve.app import make_application  # noqa: PLC0415
    from foundry_serve.catalog import make_sources, published_models  # noqa: PLC0415
    from foundry_serve.observing import Watching  # noqa: PLC0415

    prepare_process()
    return make_application(
        directory,
        ModelOpener(
            threads=config.threads,
            engine=config.engine,
            speculate=config.speculate,
            max_waiting=config.max_waiting,
            make=make_isolated_engine if config.isolate else make_engine,
        ),
        endpoints=endpoints,
        stop=bell.ring if config.allow_shutdown else None,
        sources=make_sources(config),
        published=published_models(config, directory.home, apart=True),
        gate=gate,
        work=config.work,
        most_downloads=config.max_downloads,
        most_messages=config.max_messages,
        watching=Watching(
            metrics=config.metrics,
            traces=traces,
            prompts=config.log_prompts,
            stopping=stop.is_set,
        ),
    )


async def _serve_to_the_end(
    application: Application[Any],
    listeners: Sequence[Listener],
    config: Config,
    stop: anyio.Event,
    all_of_it: anyio.CancelScope,
    *,
    task_status: TaskStatus[None],
) -> None:
    """Serve until the drain is over, and end what waits for a second request to stop."""
    await serve_application(
        application,
        listeners,
        limits=config.limits,
        time_outs=config.time_outs,
        crowd=config.crowd,
        stop=stop,
        drain=config.drain,
        task_status=task_status,
    )
    all_of_it.cancel()
