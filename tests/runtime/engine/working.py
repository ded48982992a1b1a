"""What the tests of both workers share: engines that say something, and ways to listen."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup

from foundry_proto.chat.text_stream import TextStream
from foundry_runtime.engine.api import EngineEvent, Job, Sampling
from foundry_runtime.engine.driver import Broken, Delivery, Delta
from foundry_runtime.engine.generation import Generation
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.engine.worker import EngineFactory, EngineWorker, InlineWorker, Worker

BYTES = [bytes([value]) for value in range(256)]

ENDLESS = 10**8


async def start(kind: str, factory: EngineFactory, tasks: TaskGroup) -> Worker:
    if kind == "thread":
        return await EngineWorker.start(factory, name="tiny")
    return await InlineWorker.start(factory, tasks=tasks, name="tiny")


@asynccontextmanager
async def working(kind: str, factory: EngineFactory = ScriptedEngine) -> AsyncIterator[Worker]:
    """A worker of either kind, closed at the end."""
    async with anyio.create_task_group() as tasks:
        worker = await start(kind, factory, tasks)
        try:
            yield worker
        finally:
            await worker.aclose()
    assert engine_threads() == []


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("engine ")]


def job(prompt: str = "hello", max_tokens: int = 3000) -> Job:
    return Job(prompt=list(prompt.encode()), max_tokens=max_tokens, sampling=Sampling())


def text(*stops: str) -> TextStream:
    return TextStream(BYTES, stops)


async def whole(generation: Generation) -> list[Delivery]:
    deliveries: list[Delivery] = []
    while not deliveries or isinstance(deliveries[-1], Delta):
        received = await generation.receive()
        assert received
        deliveries += received
    with pytest.raises(anyio.EndOfStream):
        await generation.receive()
    return deliveries


def joined(deliveries: Sequence[Delivery]) -> str:
    return "".join(one.text for one in deliveries if isinstance(one, Delta))


async def broken(generation: Generation) -> Exception:
    last = (await whole(generation))[-1]
    assert isinstance(last, Broken)
    return last.error


def endless(_: Sequence[int]) -> Iterator[int]:
    return itertools.repeat(ord("x"))


def endless_engine() -> ScriptedEngine:
    return ScriptedEngine(endless, context_length=10**9)


class Recording:
    """An engine of which one method can be replaced; otherwise the scripted one."""

    def __init__(self) -> None:
        self._engine = ScriptedEngine()
        self.context_length = self._engine.context_length
        self.counters = self._engine.counters
        self.admit = self._engine.admit
        self.cancel = self._engine.cancel

    def step(self) -> Sequence[EngineEvent]:
        return self._engine.step()

    def close(self) -> None:
        self._engine.close()
