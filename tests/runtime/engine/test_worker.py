"""Both workers on both loops: nobody waits for ever, nothing stays behind, no reader slows an engine."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
import trio.testing
from anyio.abc import TaskGroup

from foundry_proto.chat.text_stream import TextStream
from foundry_runtime.engine.api import EngineEvent, EngineLost, Job, ModelLoadError, Refused, Sampling
from foundry_runtime.engine.driver import Broken, Delivery, Delta, Done, Driver
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.engine.turns import Turns
from foundry_runtime.engine.worker import EngineFactory, EngineWorker, Generation, InlineWorker, Worker

pytestmark = pytest.mark.anyio

BYTES = [bytes([value]) for value in range(256)]


@pytest.fixture(params=["thread", "inline"])
def kind(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


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


ENDLESS = 10**8


async def test_a_generation_is_its_text_and_its_end(kind: str) -> None:
    async with working(kind) as worker:
        deliveries = await whole(worker.submit(job("hello world"), text("wor")))
        assert joined(deliveries) == "hello "
        assert deliveries[-1] == Done(reason="stop", prompt_tokens=11, completion_tokens=9, cached_tokens=0)


async def test_the_worker_tells_what_its_engine_can_and_did(kind: str) -> None:
    async with working(kind, lambda: ScriptedEngine(context_length=77)) as worker:
        assert (worker.name, worker.context_length) == ("tiny", 77)
        await whole(worker.submit(job("abc", 10), text()))
        assert (worker.counters.prompt_tokens, worker.counters.generated_tokens) == (3, 4)


async def test_many_jobs_at_once_each_get_their_own_text(kind: str) -> None:
    async with working(kind) as worker:
        answers: dict[int, str] = {}

        async def ask(number: int) -> None:
            answers[number] = joined(await whole(worker.submit(job(f"question {number}"), text())))

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(ask, number)
        assert answers == {number: f"question {number}" for number in range(20)}


async def test_a_refused_job_is_told_its_reason(kind: str) -> None:
    async with working(kind) as worker:
        error = await broken(worker.submit(job(""), text()))
        assert isinstance(error, Refused)
        assert str(error) == "the prompt has no tokens: expected at least one"


async def test_a_cancelled_generation_ends_its_reader_and_its_job(kind: str) -> None:
    engines: list[ScriptedEngine] = []

    def factory() -> ScriptedEngine:
        engines.append(endless_engine())
        return engines[0]

    async with working(kind, factory) as worker:
        generation = worker.submit(job("endless", ENDLESS), text())
        ended: list[str] = []

        async def read() -> None:
            try:
                while True:
                    await generation.receive()
            except anyio.ClosedResourceError:
                ended.append("closed")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.lowlevel.checkpoint()
            generation.cancel()
            generation.cancel()
        assert ended == ["closed"]
        with pytest.raises(anyio.ClosedResourceError):
            await generation.receive()
        # Commands are performed in order: when a job that came later ends, the cancel has taken effect.
        await whole(worker.submit(job("later", 1), text()))
        assert engines[0].step() == ()


async def test_cancelling_after_the_end_does_nothing(kind: str) -> None:
    async with working(kind) as worker:
        generation = worker.submit(job("hi"), text())
        await whole(generation)
        generation.cancel()
        with pytest.raises(anyio.EndOfStream):
            await generation.receive()


async def test_a_reader_that_does_not_read_holds_nobody_up(kind: str) -> None:
    async with working(kind) as worker:
        unread = worker.submit(job("x" * 300), text())
        assert joined(await whole(worker.submit(job("quick " * 60), text()))) == "quick " * 60
        assert joined(await whole(unread)) == "x" * 300


async def test_closing_breaks_what_runs_and_what_comes_later(kind: str) -> None:
    async with working(kind, endless_engine) as worker:
        running = worker.submit(job("endless", ENDLESS), text())
        await running.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.aclose)
            tasks.start_soon(worker.aclose)
        await worker.aclose()
        for generation in (running, worker.submit(job(), text())):
            error = await broken(generation)
            assert isinstance(error, EngineLost)
            assert str(error) == "the engine of tiny was closed"
            generation.cancel()


async def test_a_cancelled_close_is_complete_all_the_same(kind: str) -> None:
    closed: list[str] = []

    class Closing(Recording):
        def close(self) -> None:
            closed.append(threading.current_thread().name)

    async with working(kind, Closing) as worker:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await worker.aclose()
        assert len(closed) == 1


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


async def test_what_closing_raises_is_raised_to_who_closes(kind: str) -> None:
    class Sticky(Recording):
        def close(self) -> None:
            raise OSError("it sticks")

    async with anyio.create_task_group() as tasks:
        worker = await start(kind, Sticky, tasks)
        generation = worker.submit(job("hello"), text())
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                await worker.aclose()
            assert str(caught.value) == "it sticks"
        assert isinstance((await whole(generation))[-1], Broken | Done)


async def test_a_load_that_fails_raises_and_leaves_no_thread(kind: str) -> None:
    def factory() -> ScriptedEngine:
        raise ModelLoadError("there is no model")

    async with anyio.create_task_group() as tasks:
        with pytest.raises(ModelLoadError) as caught:
            await start(kind, factory, tasks)
        # An inline worker's task group lives on.
        tasks.start_soon(anyio.lowlevel.checkpoint)
    assert str(caught.value) == "there is no model"
    assert engine_threads() == []


async def test_a_bug_in_the_worker_breaks_whoever_waits(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(_: Driver) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Driver, "step", step)
    async with working(kind) as worker:
        first, second = worker.submit(job(), text()), worker.submit(job(), text())
        for generation in (first, second):
            error = await broken(generation)
            assert isinstance(error, EngineLost)
            assert str(error) == "the worker of tiny failed: ZeroDivisionError('a bug')"
            assert isinstance(error.__cause__, ZeroDivisionError)
        assert isinstance(await broken(worker.submit(job(), text())), EngineLost)


async def test_a_step_that_fails_is_told_and_the_worker_goes_on(kind: str) -> None:
    error = MemoryError("no room")
    async with working(kind, lambda: ScriptedEngine(fail_at={1: error})) as worker:
        assert await broken(worker.submit(job(), text())) is error
        assert joined(await whole(worker.submit(job("again"), text()))) == "again"


async def test_a_cancelled_start_waits_for_the_thread_and_closes_its_engine() -> None:
    loading, release, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow(Recording):
        def __init__(self) -> None:
            super().__init__()
            loading.set()
            release.wait()

        def close(self) -> None:
            closed.set()

    async def cancel_when_loading(scope: anyio.CancelScope) -> None:
        await anyio.to_thread.run_sync(loading.wait)
        scope.cancel()
        release.set()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_loading, scope)
            await EngineWorker.start(Slow)
    assert scope.cancelled_caught
    assert closed.is_set()
    assert engine_threads() == []


async def test_a_cancelled_start_of_a_load_that_fails_is_cancelled() -> None:
    loading, release = threading.Event(), threading.Event()

    def factory() -> ScriptedEngine:
        loading.set()
        release.wait()
        raise ModelLoadError("there is no model")

    async def cancel_when_loading(scope: anyio.CancelScope) -> None:
        await anyio.to_thread.run_sync(loading.wait)
        scope.cancel()
        release.set()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_loading, scope)
            await EngineWorker.start(factory)
    assert scope.cancelled_caught
    assert engine_threads() == []


async def test_an_engine_lives_in_one_thread_of_its_own() -> None:
    seen: set[str] = set()

    class Located(Recording):
        def __init__(self) -> None:
            super().__init__()
            seen.add(threading.current_thread().name)

        def step(self) -> Sequence[EngineEvent]:
            seen.add(threading.current_thread().name)
            return super().step()

        def close(self) -> None:
            seen.add(threading.current_thread().name)

    async with working("thread", Located) as worker:
        await whole(worker.submit(job(), text()))
    assert seen == {"engine tiny"}


async def test_a_cancelled_task_group_closes_its_inline_worker() -> None:
    async with anyio.create_task_group() as tasks:
        worker = await InlineWorker.start(endless_engine, tasks=tasks, name="tiny")
        generation = worker.submit(job("endless", ENDLESS), text())
        await generation.receive()
        tasks.cancel_scope.cancel()
    error = await broken(generation)
    assert str(error) == "the engine of tiny was closed"
    await worker.aclose()


async def test_workers_that_share_turns_all_get_on() -> None:
    turns = Turns()
    first = await EngineWorker.start(ScriptedEngine, name="first", turns=turns)
    second = await EngineWorker.start(endless_engine, name="second", turns=turns)
    endless_generation = second.submit(job("endless", ENDLESS), text())
    await endless_generation.receive()
    assert joined(await whole(first.submit(job("hello " * 50), text()))) == "hello " * 50
    await second.aclose()
    await first.aclose()


def test_jobs_of_several_loops_share_one_worker() -> None:
    answers: list[str] = []

    async def main() -> None:
        async with working("thread") as worker:

            async def elsewhere() -> None:
                answers.append(joined(await whole(worker.submit(job("from afar"), text()))))

            def loop(backend: str) -> None:
                anyio.run(elsewhere, backend=backend)

            async with anyio.create_task_group() as tasks:
                for backend in ("asyncio", "trio"):
                    tasks.start_soon(anyio.to_thread.run_sync, loop, backend)
                await elsewhere()

    anyio.run(main)
    assert answers == ["from afar"] * 3


def test_a_loop_that_ends_with_jobs_running_does_no_harm() -> None:
    async def main() -> EngineWorker:
        worker = await EngineWorker.start(endless_engine, name="tiny")
        await worker.submit(job("endless", ENDLESS), text()).receive()
        return worker

    for backend in ("asyncio", "trio"):
        worker = anyio.run(main, backend=backend)
        anyio.run(worker.aclose, backend=backend)
    assert engine_threads() == []


@pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})], ids=["virtual"]
)
async def test_a_step_takes_its_time_on_a_virtual_clock(anyio_backend: object) -> None:
    async with anyio.create_task_group() as tasks:
        worker = await InlineWorker.start(endless_engine, tasks=tasks, step_seconds=1.0)
        began = anyio.current_time()
        generation = worker.submit(job("endless", ENDLESS), text())
        came: list[float] = []
        with anyio.move_on_after(4.5):
            while True:
                await generation.receive()
                came.append(anyio.current_time() - began)
        generation.cancel()
        assert came == [0, 1, 2, 3, 4]
        steps = worker.counters.steps
        await anyio.sleep(1000)
        assert worker.counters.steps == steps
        await worker.aclose()


PROGRAM = """
import anyio, sys
from foundry_runtime.engine.api import Job, Sampling
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.engine.worker import EngineWorker

class Text:
    stopped = None
    def push(self, token): return "x"
    def finish(self): return ""

def endless(prompt):
    while True:
        yield 1

async def main():
    worker = await EngineWorker.start(lambda: ScriptedEngine(endless, context_length=10**9))
    job = Job(prompt=[1], max_tokens=10**8, sampling=Sampling())
    await worker.submit(job, Text()).receive()
    {ending}

anyio.run(main, backend={backend!r})
"""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("ending", "status"), [("pass", 0), ("sys.exit(3)", 3)])
def test_a_program_that_forgets_its_worker_ends_in_silence(
    anyio_backend: str, backend: str, ending: str, status: int
) -> None:
    program = PROGRAM.format(ending=ending, backend=backend)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, b"", b"")
