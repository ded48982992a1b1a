"""Engines for processes of their own, made there by name; each misbehaves in its own way, if at all."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from foundry_runtime.engine.api import (
    Engine,
    EngineEvent,
    EngineLost,
    Job,
    ModelLoadError,
    Overloaded,
    Refused,
)
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.models.engines import engine_at


def echoing(**options: int) -> Engine:
    return ScriptedEngine(**options)  # type: ignore[arg-type]


def slow(seconds: float) -> Engine:
    """Says one token a step, and takes its time."""

    def script(prompt: Sequence[int]) -> Iterator[int]:
        while True:
            time.sleep(seconds)
            yield prompt[0]

    return ScriptedEngine(script)


def silent() -> Engine:
    """Never comes back from its first step."""
    return slow(3600)


def abrupt(status: int) -> Engine:
    """Ends its process in its second step."""

    def script(prompt: Sequence[int]) -> Iterator[int]:
        yield prompt[0]
        os._exit(status)

    return ScriptedEngine(script)


def broken() -> Engine:
    raise ModelLoadError("/models/x: there is nothing in it")


def nameless() -> Engine:
    raise KeyError("what nobody expects")


def dying() -> Engine:
    os._exit(7)


def chatty() -> Engine:
    """Prints where the owner listens, and logs."""
    print("this is no frame", flush=True)  # noqa: T201
    os.write(1, b"nor is this\n")
    sys.stdin.read()
    logging.getLogger("tests.chatty").warning("hello from %s", "the child")
    return ScriptedEngine()


class Refusing:
    """Refuses what begins with 1, has no room for what begins with 2, and is broken by what begins with 3."""

    def __init__(self) -> None:
        self._engine = ScriptedEngine()
        self.context_length = self._engine.context_length
        self.counters = self._engine.counters
        self.step = self._engine.step
        self.cancel = self._engine.cancel
        self.close = self._engine.close

    def admit(self, job: Job) -> None:
        match job.prompt[0]:
            case 1:
                raise Refused("no ones", param="messages", code="no_ones")
            case 2:
                raise Overloaded("later", retry_after=7.5)
            case 3:
                raise MemoryError("no room for 3")
        self._engine.admit(job)


def refusing() -> Engine:
    return Refusing()


def grumbling() -> Engine:
    """Fails its jobs in the second step, and is lost in the fourth."""
    return ScriptedEngine(fail_at={2: ValueError("not a number"), 4: EngineLost("no more")})


class Unforgetting(Refusing):
    def __init__(self) -> None:
        super().__init__()
        self.cancel = self._keep

    def _keep(self, job: Job) -> None:
        raise RuntimeError("I never forget")


def unforgetting() -> Engine:
    return Unforgetting()


class Slowed:
    """A real engine that takes its time between steps, so that there is a middle to be in."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds
        self.context_length = engine.context_length
        self.counters = engine.counters
        self.admit, self.cancel, self.close = engine.admit, engine.cancel, engine.close

    def step(self) -> Sequence[EngineEvent]:
        time.sleep(self._seconds)
        return self._engine.step()


def slowed(seconds: float, **arguments: Any) -> Engine:
    return Slowed(engine_at(**arguments), seconds)


def late(seconds: float, **arguments: Any) -> Engine:
    """A real engine that takes its time to come."""
    time.sleep(seconds)
    return engine_at(**arguments)
