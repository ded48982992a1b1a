"""Both workers on both loops: each job gets its own text, and no reader slows an engine."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from foundry_runtime.engine.api import EngineLost, Refused
from foundry_runtime.engine.driver import Broken, Delta, Done, Driver
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.engine.turns import Turns
from foundry_runtime.engine.worker import EngineWorker, InlineWorker
from tests.runtime.engine.working import ENDLESS, broken, endless_engine, job, joined, text, whole, working

pytestmark = pytest.mark.anyio


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


async def test_jobs_given_together_are_received_together_each_to_its_own_end(kind: str) -> None:
    async with working(kind) as worker:
        texts = ["a", "bb" * 20, "ccc"]
        generations = worker.submit_all([(job(one), text()) for one in [*texts, ""]])
        said = dict.fromkeys(range(4), "")
        ends: dict[int, object] = {}
        while len(ends) < 4:
            for number, delivery in await generations.receive():
                assert number not in ends
                if isinstance(delivery, Delta):
                    said[number] += delivery.text
                else:
                    ends[number] = delivery
        assert said == {0: "a", 1: "bb" * 20, 2: "ccc", 3: ""}
        assert [type(ends[number]) for number in range(4)] == [Done, Done, Done, Broken]
        generations.cancel()
        with pytest.raises(anyio.EndOfStream):
            await generations.receive()


async def test_cancelling_jobs_given_together_ends_each_that_still_runs(kind: str) -> None:
    engines: list[ScriptedEngine] = []

    def factory() -> ScriptedEngine:
        engines.append(endless_engine())
        return engines[0]

    async with working(kind, factory) as worker:
        generations = worker.submit_all([(job("x", size), text()) for size in (1, ENDLESS, ENDLESS)])
        ended = False
        while not ended:
            ended = any(isinstance(delivery, Done) for _, delivery in await generations.receive())
        generations.cancel()
        generations.cancel()
        with pytest.raises(anyio.ClosedResourceError):
            await generations.receive()
        await whole(worker.submit(job("later", 1), text()))
        assert engines[0].step() == ()
