"""The engine over a real, if tiny, model: its contract, what rows and kept blocks change, whom errors end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.api import (
    EngineEvent,
    EngineLost,
    Failed,
    Finished,
    Job,
    Overloaded,
    Refused,
    Sampling,
    Started,
    Token,
)
from foundry_runtime.engine.batched import engine as engine_module
from foundry_runtime.engine.batched.engine import BatchedEngine
from foundry_runtime.engine.batched.memory import RowMemory
from foundry_runtime.engine.batched.model import BatchedModel
from foundry_runtime.engine.batched.rows import Rows
from foundry_runtime.engine.check import check_engine
from foundry_runtime.engine.genai.engine import GenaiEngine

GREEDY = Sampling(temperature=0.0)
SEEDED = Sampling(temperature=1.0, seed=7)


def job(length: int, max_tokens: int = 12, sampling: Sampling = GREEDY, *, seed: int | None = None) -> Job:
    prompt = np.random.default_rng(length if seed is None else seed).integers(3, 380, length).tolist()
    return Job(prompt=prompt, max_tokens=max_tokens, sampling=sampling)


def again(one: Job) -> Job:
    return evolve(one)


def run(engine: BatchedEngine | GenaiEngine, *jobs: Job) -> dict[Job, list[EngineEvent]]:
    """Step until all jobs have ended."""
    for one in jobs:
        engine.admit(one)
    events: dict[Job, list[EngineEvent]] = {one: [] for one in jobs}
    for _ in range(2000):
        for event in engine.step():
            events.setdefault(event.job, []).append(event)
        if all(events[one] and isinstance(events[one][-1], Finished | Failed) for one in jobs):
            return events
    raise AssertionError("the jobs never end")


def tokens(events: Sequence[EngineEvent]) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


def said(engine: BatchedEngine | GenaiEngine, *jobs: Job) -> list[list[int]]:
    return [tokens(events) for events in run(engine, *jobs).values()]


def cached(events: Sequence[EngineEvent]) -> int:
    (started,) = (event for event in events if isinstance(event, Started))
    return started.cached_tokens


@pytest.fixture
def engine(tiny_folder: Path) -> Iterator[BatchedEngine]:
    engine = BatchedEngine(tiny_folder, threads=1, kept=1024)
    yield engine
    engine.close()


def test_it_keeps_the_contract(tiny_folder: Path) -> None:
    check_engine(lambda: BatchedEngine(tiny_folder, threads=1))
    check_engine(lambda: BatchedEngine(tiny_folder, threads=1, max_rows=1, kept=0))


def test_it_says_what_onnxruntime_genai_s_own_generator_says(
    engine: BatchedEngine, tiny_folder: Path
) -> None:
    jobs = [job(length, 30) for length in (1, 2, 15, 16, 17, 33, 100, 250)]
    other = GenaiEngine(tiny_folder, threads=1)
    alone = [said(other, again(one))[0] for one in jobs]
    other.close()
    assert said(engine, *jobs) == alone


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(1, 60),
            st.integers(1, 20),
            st.integers(0, 12),
            st.one_of(st.none(), st.integers(0, 12)),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_whoever_joins_and_leaves_nobody_s_answer_changes(
    engine: BatchedEngine, plan: list[tuple[int, int, int, int | None]]
) -> None:
    """Each plan's row: length of the prompt, length of the answer, step of arrival, and of a cancel."""
    jobs = [job(length, most, SEEDED if length % 2 else GREEDY) for length, most, _, _ in plan]
    expected = [said(engine, again(one))[0] for one in jobs]
    heard: dict[Job, list[int]] = {one: [] for one in jobs}
    left = set(jobs)
    for step in range(400):
        for one, (_, _, arrives, cancelled) in zip(jobs, plan, strict=True):
            if step == arrives:
                engine.admit(one)
            if cancelled is not None and step == arrives + cancelled and one in left:
                engine.cancel(one)
                left.discard(one)
        for event in engine.step():
            if isinstance(event, Token):
                heard[event.job].append(event.id)
            elif isinstance(event, Finished):
                left.discard(event.job)
        if not left:
            break
    assert not left
    for one, text, (_, _, _, cancelled) in zip(jobs, expected, plan, strict=True):
        assert heard[one] == (text if cancelled is None else text[: len(heard[one])])


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize("length", [16, 17, 18, 33, 34, 200])
def test_an_answer_is_the_same_whether_its_prompt_was_kept_or_not(
    engine: BatchedEngine, length: int, sampling: Sampling
) -> None:
    cold = job(length, 20, sampling)
    warm = again(cold)
    first, second = run(engine, cold)[cold], run(engine, warm)[warm]
    assert tokens(first) == tokens(second)
    assert cached(first) == 0
    assert cached(second) == (length - 2) // 16 * 16


def test_jobs_that_begin_alike_compute_the_beginning_once(engine: BatchedEngine) -> None:
    shared = job(160).prompt
    jobs = [Job(prompt=[*shared, 5 + n, 6, 7], max_tokens=5, sampling=GREEDY) for n in range(6)]
    events = run(engine, *jobs)
    assert [cached(events[one]) for one in jobs] == [0, 160, 160, 160, 160, 160]
    assert engine.counters.prompt_tokens == 163 + 5 * 3


def test_the_next_turn_of_a_conversation_computes_only_what_is_new(engine: BatchedEngine) -> None:
    first = job(40, 30)
    reply = said(engine, first)[0]
    second = Job(prompt=[*first.prompt, *reply, 9, 8, 7, 6], max_tokens=5, sampling=GREEDY)
    # The last token that was said is not computed, and of the rest whole blocks are kept.
    assert cached(run(engine, second)[second]) == (40 + 29) // 16 * 16
    other = Job(prompt=[*first.prompt, *reply[:10], 9, *reply[11:]], max_tokens=5, sampling=GREEDY)
    assert cached(run(engine, other)[other]) == (40 + 10) // 16 * 16


def test_a_stopped_conversation_is_kept_as_well(engine: BatchedEngine) -> None:
    """A stop sequence ends a job by a cancel."""
    first = job(40, 30)
    engine.admit(first)
    heard = [event.id for _ in range(25) for event in engine.step() if isinstance(event, Token)]
    engine.cancel(first)
    second = Job(prompt=[*first.prompt, *heard, 9, 8], max_tokens=2, sampling=GREEDY)
    assert cached(run(engine, second)[second]) == (40 + len(heard) - 1) // 16 * 16


def test_no_more_is_kept_than_the_budget(tiny_folder: Path) -> None:
    engine = BatchedEngine(tiny_folder, threads=1, kept=64)
    for length in (100, 50, 200):
        said(engine, job(length))
        assert 0 < engine.kept_tokens <= 64
    engine.forget_prefixes()
    assert engine.kept_tokens == 0
    one = job(200)
    assert cached(run(engine, one)[one]) == 0
    engine.close()


def test_prefixes_are_forgotten_while_jobs_run(engine: BatchedEngine) -> None:
    one = job(100, 20)
    expected = said(engine, again(one))[0]
    engine.admit(one)
    heard: list[EngineEvent] = []
    while not any(isinstance(event, Finished) for event in heard):
        heard += engine.step()
        engine.forget_prefixes()
    assert tokens(heard) == expected
    assert engine.kept_tokens == 0


def test_a_job_that_can_never_fit_is_refused_and_one_too_many_is_told_to_come_again(
    tiny_folder: Path,
) -> None:
    engine = BatchedEngine(tiny_folder, threads=1, max_rows=2, max_waiting=3, budget=100)
    with pytest.raises(Refused) as refused:
        engine.admit(job(80, 21))
    assert str(refused.value) == (
        "the prompt has 80 tokens and max_tokens is 21: together they exceed the 100 tokens that this server"
        " has memory for"
    )
    assert refused.value.code == "context_length_exceeded"
    jobs = [job(20 + number, 8) for number in range(5)]
    for one in jobs:
        engine.admit(one)
    with pytest.raises(Overloaded, match=r"^3 requests are waiting for this model already$") as overloaded:
        engine.admit(job(5))
    assert overloaded.value.retry_after > 0
    # Choices of one answer come in together, or none of them does.
    engine.admit(evolve(jobs[4], max_tokens=9))
    engine.cancel(jobs[2])
    engine.cancel(jobs[3])
    assert len(said(engine, job(5))[0]) == 12
    engine.close()


def test_running_jobs_never_exceed_the_budget_and_all_get_their_turn(tiny_folder: Path) -> None:
    engine = BatchedEngine(tiny_folder, threads=1, budget=128, kept=0)
    jobs = [job(length, 28, seed=length) for length in (100, 10, 20, 36, 50, 70)]
    for one in jobs:
        engine.admit(one)
    running: dict[Job, int] = {}
    finished = 0
    while finished < len(jobs):
        for event in engine.step():
            if isinstance(event, Started):
                running[event.job] = len(event.job.prompt) + event.job.max_tokens
                assert sum(running.values()) <= 128
            elif isinstance(event, Finished):
                del running[event.job]
                finished += 1
    engine.close()


@pytest.fixture
def timeless(tiny_folder: Path) -> Iterator[BatchedEngine]:
    """An engine whose steps take no time, so that all that may share one does."""
    engine = BatchedEngine(tiny_folder, threads=1, kept=0, clock=lambda: 0.0)
    yield engine
    engine.close()


def test_short_prompts_share_a_step_and_their_first_tokens_leave_before_anything_is_decoded(
    timeless: BatchedEngine,
) -> None:
    jobs = [job(20, 3, seed=seed) for seed in range(4)]
    for one in jobs:
        timeless.admit(one)
    assert [(type(event), event.job) for event in timeless.step()] == [
        (kind, one) for one in jobs for kind in (Started, Token)
    ]
    assert [type(event) for event in timeless.step()] == [Token] * 4
    timeless.admit(late := job(20, 3))
    # Somebody waits for the next token now: it comes in the same step.
    assert {(type(event), event.job) for event in timeless.step()} == {
        (Started, late),
        *((Token, one) for one in [*jobs, late]),
        *((Finished, one) for one in jobs),
    }


def test_jobs_that_end_together_move_none_of_each_other(
    timeless: BatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[int] = []
    move = RowMemory.move

    def noted(memory: RowMemory, source: int, target: int, count: int) -> None:
        moved.append(source)
        move(memory, source, target, count)

    monkeypatch.setattr(RowMemory, "move", noted)
    run(timeless, *(job(20, 5, seed=seed) for seed in range(6)))
    assert moved == []
    # Of one that ends before, the last takes the place.
    run(timeless, job(20, 3), *(job(20, 5, seed=seed) for seed in range(3)))
    assert moved == [3]


def test_a_pass_that_fails_ends_its_own_jobs_and_the_next_ones_are_served(
    engine: BatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = said(engine, job(20))[0]
    one, other = job(20), job(30)
    for each in (one, other):
        engine.admit(each)
    heard: list[EngineEvent] = []
    while sum(isinstance(event, Token) for event in heard) < 6:
        heard += engine.step()
    decode = BatchedModel.decode

    def broken(*_: object) -> None:
        monkeypatch.setattr(BatchedModel, "decode", decode)
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(BatchedModel, "decode", broken)
    failed = engine.step()
    assert [(type(event), event.job) for event in failed] == [(Failed, one), (Failed, other)]
    assert all(isinstance(event, Failed) and str(event.error) == "no such kernel" for event in failed)
    assert engine.step() == ()
    assert said(engine, job(20))[0] == expected


def test_a_prompt_that_fails_ends_its_own_job_alone(
    engine: BatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = job(20, 30)
    expected = said(engine, again(running))[0]
    compute = BatchedModel.compute

    def broken(model: BatchedModel, row: int, ids: Sequence[int], computed: int) -> object:
        if computed == 0 and len(ids) == 5:
            raise RuntimeError("no such kernel")
        return compute(model, row, ids, computed)

    monkeypatch.setattr(BatchedModel, "compute", broken)
    bad = job(5)
    events = run(engine, running, bad)
    assert tokens(events[running]) == expected
    assert isinstance(events[bad][-1], Failed)
    assert [type(event) for event in events[bad]] == [Started, Failed]


@pytest.mark.parametrize("name", ["begin", "_first_free"])
def test_no_memory_for_a_row_ends_its_own_job_alone(
    engine: BatchedEngine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    running, bad, later = job(20, 30), job(5), job(6)
    expected = [said(engine, again(one))[0] for one in (running, later)]
    engine.forget_prefixes()
    engine.admit(running)
    heard = list(engine.step())
    genuine = getattr(Rows, name)

    def broken(*_: object) -> None:
        monkeypatch.setattr(Rows, name, genuine)
        raise MemoryError("no room for a row")

    monkeypatch.setattr(Rows, name, broken)
    events = run(engine, bad, later)
    assert [type(event) for event in events[bad]] == [Failed]
    assert tokens(events[later]) == expected[1]
    heard += events[running]
    while not isinstance(heard[-1], Finished):
        heard += engine.step()
    assert tokens(heard) == expected[0]


def test_logits_without_a_maximum_end_their_job(
    engine: BatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = BatchedModel.compute

    def broken(model: BatchedModel, row: int, ids: Sequence[int], computed: int) -> object:
        logits = compute(model, row, ids, computed)
        logits[:] = np.nan
        return logits

    monkeypatch.setattr(BatchedModel, "compute", broken)
    for sampling in (GREEDY, SEEDED):
        bad = job(5, sampling=sampling)
        (*_, last) = run(engine, bad)[bad]
        assert isinstance(last, Failed)
        assert str(last.error) == "the logits have no finite maximum: nan"


def test_rows_are_as_many_as_there_is_address_space_for(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    make = RowMemory

    def scarce(layout: object, rows: int, length: int) -> object:
        asked.append(rows)
        if rows > 5:
            raise MemoryError("no address space")
        return make(layout, rows, length)  # type: ignore[arg-type]

    monkeypatch.setattr(engine_module, "RowMemory", scarce)
    engine = BatchedEngine(tiny_folder, threads=1)
    assert asked == [17, 8, 4]
    jobs = [job(20 + number) for number in range(8)]
    assert said(engine, *[again(one) for one in jobs]) == [said(engine, one)[0] for one in jobs]
    engine.close()


def test_after_the_end_nothing_is_taken_any_more(tiny_folder: Path) -> None:
    engine = BatchedEngine(tiny_folder, threads=1)
    one = job(5)
    engine.admit(one)
    with pytest.raises(LocalProtocolError, match=r"^this job is in the engine already$"):
        engine.admit(one)
    engine.close()
    with pytest.raises(EngineLost, match=r"^the engine is closed$"):
        engine.admit(job(6))
    with pytest.raises(EngineLost, match=r"^the engine is closed$"):
        engine.step()
