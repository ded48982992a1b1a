"""How workers begin and end, on both loops: nobody waits for ever, and nothing stays behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest

from foundry_runtime.engine.api import EngineEvent, EngineLost, ModelLoadError
from foundry_runtime.engine.driver import Broken, Done
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.engine.worker import EngineFactory, EngineWorker, InlineWorker
from tests.runtime.engine.working import (
    ENDLESS,
    Recording,
    broken,
    endless_engine,
    engine_threads,
    job,
    start,
    text,
    whole,
    working,
)

pytestmark = pytest.mark.anyio


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


async def test_a_job_that_comes_behind_the_close_is_told_so(kind: str) -> None:
    stepping, release = threading.Event(), threading.Event()

    class Held(Recording):
        def step(self) -> Sequence[EngineEvent]:
            stepping.set()
            if kind == "thread":
                release.wait()
            return ()

    async with working(kind, Held) as worker:
        running = worker.submit(job("first"), text())
        async with anyio.create_task_group() as tasks:
            await anyio.to_thread.run_sync(stepping.wait)
            tasks.start_soon(worker.aclose)
            await anyio.lowlevel.checkpoint()
            late = worker.submit(job("late"), text())
            late.cancel()
            later = worker.submit(job("later"), text())
            release.set()
        for generation in (running, later):
            assert str(await broken(generation)) == "the engine of tiny was closed"


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


async def cancel_start(factory: EngineFactory, loading: threading.Event, release: threading.Event) -> None:
    """Start a worker, and cancel that while its engine is loaded; the load goes on when it is cancelled."""

    async def cancel_when_loading(scope: anyio.CancelScope) -> None:
        await anyio.to_thread.run_sync(loading.wait)
        scope.cancel()
        release.set()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_loading, scope)
            await EngineWorker.start(factory)
    assert scope.cancelled_caught


async def test_a_cancelled_start_waits_for_the_thread_and_closes_its_engine() -> None:
    loading, release, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow(Recording):
        def __init__(self) -> None:
            super().__init__()
            loading.set()
            release.wait()

        def close(self) -> None:
            closed.set()

    await cancel_start(Slow, loading, release)
    assert closed.is_set()
    assert engine_threads() == []


async def test_a_cancelled_start_of_a_load_that_fails_is_cancelled() -> None:
    loading, release = threading.Event(), threading.Event()

    def factory() -> ScriptedEngine:
        loading.set()
        release.wait()
        raise ModelLoadError("there is no model")

    await cancel_start(factory, loading, release)
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


def test_a_loop_that_ends_with_jobs_running_does_no_harm() -> None:
    async def main() -> EngineWorker:
        worker = await EngineWorker.start(endless_engine, name="tiny")
        await worker.submit(job("endless", ENDLESS), text()).receive()
        return worker

    for backend in ("asyncio", "trio"):
        worker = anyio.run(main, backend=backend)
        anyio.run(worker.aclose, backend=backend)
    assert engine_threads() == []


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
