"""Work in a thread: its result, its end when nobody wants it any more, and its lock."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from foundry_runtime.download.work import Stopped, Work, alone, run_work
from foundry_runtime.platform import try_lock
from tests.support.serving import until


@pytest.mark.anyio
async def test_a_work_gives_what_its_function_gives_and_tells_how_far_it_is() -> None:
    told: list[tuple[str, float]] = []

    def function(work: Work) -> int:
        work.report("reading", 0.5)
        work.report("writing", 1.0)
        return 7

    assert await run_work(function, lambda what, fraction: told.append((what, fraction))) == 7
    assert await run_work(function) == 7
    assert told == [("reading", 0.5), ("writing", 1.0)]


@pytest.mark.anyio
async def test_what_the_function_or_the_progress_raises_is_raised() -> None:
    def fail(_work: Work) -> None:
        raise OSError("disk full")

    def broken(_what: str, _fraction: float) -> None:
        raise ValueError("no terminal")

    with pytest.raises(OSError, match="disk full"):
        await run_work(fail)
    with pytest.raises(ValueError, match="no terminal"):
        await run_work(lambda work: work.report("x", 0.0), broken)


@pytest.mark.anyio
async def test_when_the_task_is_cancelled_the_work_has_ended_before_the_task_goes_on() -> None:
    begun, steps, undone = threading.Event(), [0], threading.Event()

    def function(work: Work) -> None:
        begun.set()
        try:
            while True:
                work.check()
                steps[0] += 1
        finally:
            undone.set()

    async def until_begun(scope: anyio.CancelScope) -> None:
        await anyio.to_thread.run_sync(begun.wait)
        scope.cancel()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(until_begun, scope)
            await run_work(function)
        assert scope.cancelled_caught
        assert undone.is_set()
        before = steps[0]
        await anyio.sleep(0.01)
        assert steps[0] == before


@pytest.mark.anyio
async def test_a_task_that_is_cancelled_already_does_no_work() -> None:
    done: list[bool] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run_work(lambda _work: done.append(True))
    await anyio.sleep(0.01)
    assert done == []


@pytest.mark.anyio
async def test_a_work_that_waits_for_its_turn_is_stopped_too(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "lock"
    told = threading.Event()

    def function(work: Work) -> None:
        with work.alone(path):
            raise AssertionError("two at once")

    async def until_waiting(scope: anyio.CancelScope) -> None:
        await anyio.to_thread.run_sync(told.wait)
        scope.cancel()

    path.parent.mkdir()
    with path.open("ab") as other:
        assert try_lock(other)
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(until_waiting, scope)
                await run_work(
                    function, lambda what, _: told.set() if what == "waiting for another process" else None
                )
    assert scope.cancelled_caught


@pytest.mark.anyio
async def test_who_waits_gets_its_turn_when_the_other_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    inside = 0
    order: list[int] = []

    def function(work: Work) -> None:
        nonlocal inside
        with work.alone(path):
            inside += 1
            order.append(inside)
            inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(run_work, function)
    assert order == [1, 1, 1]


def test_a_lock_goes_with_the_process_that_had_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from foundry_runtime.platform import try_lock;"
        "file = open(sys.argv[1], 'ab'); print(try_lock(file), flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with path.open("ab") as file:
            assert not try_lock(file)
            other.kill()
            other.wait()
            assert try_lock(file)


@pytest.mark.anyio
async def test_a_child_that_runs_when_the_work_stops_is_killed() -> None:
    running = threading.Event()
    children: list[subprocess.Popen[bytes]] = []

    def function(work: Work) -> None:
        with work.child(
            [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"], os.environ
        ) as child:
            children.append(child)
            for _line in child.stdout or ():
                running.set()

    async def until_running(scope: anyio.CancelScope) -> None:
        await anyio.to_thread.run_sync(running.wait)
        scope.cancel()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(until_running, scope)
            await run_work(function)
    assert scope.cancelled_caught
    assert children[0].returncode not in {0, None}


@pytest.mark.anyio
async def test_no_child_is_started_for_a_work_that_has_been_stopped() -> None:
    work = Work()
    work.stop()
    with pytest.raises(Stopped), work.child(["does not exist"], {}):
        raise AssertionError("started")


@pytest.mark.anyio
async def test_a_child_does_not_outlive_what_its_block_raises() -> None:
    work = Work()
    with (
        pytest.raises(KeyError),
        work.child([sys.executable, "-c", "import time; time.sleep(600)"], os.environ) as child,
    ):
        raise KeyError
    assert child.returncode not in {0, None}


def test_what_is_told_of_a_part_counts_as_that_part_of_the_whole() -> None:
    told: list[float] = []
    work = Work(lambda _, fraction: told.append(fraction))
    with work.part(0.0, 0.5):
        work.report("a", 0.5)
        with work.part(0.5, 1.0):
            work.report("b", 0.5)
    with pytest.raises(OSError, match="torn"), work.part(0.5, 1.0):  # noqa: PT012 - the part must end, too
        work.report("c", 0.0)
        raise OSError("torn")
    work.report("d", 1.0)
    assert told == [0.25, 0.375, 0.5, 1.0]


@pytest.mark.anyio
async def test_a_task_that_waits_for_its_turn_says_so_and_gets_it(tmp_path: Path) -> None:
    path, told = tmp_path / "locks" / "lock", []
    async with anyio.create_task_group() as group:
        got = anyio.Event()

        async def second() -> None:
            async with alone(path, lambda what, _: told.append(what)):
                got.set()

        async with alone(path, lambda what, _: told.append(what)):
            group.start_soon(second)
            await until(lambda: told)
            assert not got.is_set()
    assert got.is_set()
    assert set(told) == {"waiting for another process"}
