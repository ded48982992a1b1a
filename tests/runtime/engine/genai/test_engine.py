"""The engine over a real, if tiny, model: the contract, the slices, and whom an error touches."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import evolve

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.api import (
    Counters,
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
from foundry_runtime.engine.check import check_engine
from foundry_runtime.engine.genai import engine as engine_module
from foundry_runtime.engine.genai.binding import GenaiError, Generator, Model
from foundry_runtime.engine.genai.engine import GenaiEngine
from tests.runtime.engine.conftest import Spoil
from tests.runtime.engine.genai.running import GREEDY, Appended, job, run, tokens


@pytest.fixture
def engine(tiny_folder: Path) -> Iterator[GenaiEngine]:
    engine = GenaiEngine(tiny_folder, threads=1)
    yield engine
    engine.close()


def test_it_keeps_the_contract(tiny_folder: Path) -> None:
    check_engine(lambda: GenaiEngine(tiny_folder, threads=1))
    check_engine(lambda: GenaiEngine(tiny_folder, max_jobs=1, slice_seconds=0.0))


def test_sampling_from_the_likeliest_alone_is_greedy(engine: GenaiEngine) -> None:
    """Both ways to a token, the native choice and the sampler's, lead to the same text."""
    native, sampled = job(50, 100), job(50, 100, Sampling(temperature=1.0, top_k=1))
    events = run(engine, native, sampled)
    assert tokens(events[native]) == tokens(events[sampled])
    assert len(tokens(events[native])) == 100


def test_other_seeds_give_other_texts(engine: GenaiEngine) -> None:
    first, second = (job(5, 30, Sampling(temperature=1.5, seed=seed)) for seed in (1, 2))
    events = run(engine, first, second)
    assert tokens(events[first]) != tokens(events[second])


@pytest.mark.parametrize("as_list", [False, True], ids=["one", "list"])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(top_k=1)], ids=["greedy", "sampled"])
def test_an_end_token_ends_the_answer_and_is_not_handed_out(
    tiny_folder: Path, spoiled: Spoil, sampling: Sampling, as_list: bool
) -> None:
    engine = GenaiEngine(tiny_folder)
    asked = job(20, 40, sampling)
    said = tokens(run(engine, asked)[asked])
    engine.close()
    end = next(token for token in said if token != said[0])
    engine = GenaiEngine(spoiled(eos_token_id=[end, 1] if as_list else end))
    asked = job(20, 40, sampling)
    events = run(engine, asked)[asked]
    assert tokens(events) == said[: said.index(end)]
    assert events[-1] == Finished(job=asked, reason="stop")
    assert engine.counters.generated_tokens == said.index(end) + 1
    engine.close()


def test_the_counters_tell_the_work(engine: GenaiEngine) -> None:
    run(engine, job(100, 12), job(7, 3))
    assert engine.counters.prompt_tokens == 107
    assert engine.counters.generated_tokens == 15
    assert engine.step() == ()
    steps = engine.counters.steps
    assert engine.step() == ()
    assert engine.counters == Counters(steps=steps, prompt_tokens=107, generated_tokens=15)


@pytest.mark.parametrize(
    ("tokens_per_second", "slices"),
    [
        (1, [16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 20]),
        (640, [16, 64, 64, 64, 52]),
        (1e6, [16, 128, 116]),
    ],
)
def test_a_slice_takes_as_long_as_it_should(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, tokens_per_second: float, slices: list[int]
) -> None:
    appended = Appended(monkeypatch)

    def clock() -> float:
        return sum(appended.slices) / tokens_per_second

    engine = GenaiEngine(tiny_folder, clock=clock)
    appended.slices.clear()
    run(engine, job(260))
    assert appended.slices == slices
    engine.close()


def test_one_disturbed_slice_does_not_decide_the_next(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended = Appended(monkeypatch)
    # 1024 tokens a second, but for the third slice, which takes 5 seconds.
    readings = iter([0, 1 / 64, 1, 1 + 3 / 32, 2, 7, 8, 8 + 1 / 16, 9, 9 + 1 / 32])

    def clock() -> float:
        return next(readings)

    engine = GenaiEngine(tiny_folder, clock=clock)
    appended.slices.clear()
    run(engine, job(300))
    assert appended.slices == [16, 96, 96, 64, 28]
    engine.close()


def test_any_slices_give_the_same_answer(tiny_folder: Path) -> None:
    answers = []
    for seconds in (0.0, 1e-4, 1.0, 1e6):
        engine = GenaiEngine(tiny_folder, slice_seconds=seconds)
        asked = job(333, 60)
        answers.append(tokens(run(engine, asked)[asked]))
        engine.close()
    assert answers == [answers[0]] * 4


def test_further_jobs_wait_until_one_ends(tiny_folder: Path) -> None:
    engine = GenaiEngine(tiny_folder, max_jobs=2)
    jobs = [job(10, 5), job(11, 9), job(12, 3), job(13, 3), job(14, 1)]
    for one in jobs:
        engine.admit(one)
    begun: list[Job] = []
    ended: list[Job] = []
    for _ in range(60):
        for event in engine.step():
            if isinstance(event, Started):
                begun.append(event.job)
            elif isinstance(event, Finished):
                ended.append(event.job)
            assert len(begun) - len(ended) <= 2
    assert begun == jobs
    assert sorted(map(id, ended)) == sorted(map(id, jobs))
    engine.close()


def test_one_answer_too_many_is_told_to_come_again_and_choices_come_in_together(tiny_folder: Path) -> None:
    engine = GenaiEngine(tiny_folder, threads=1, max_jobs=1, max_waiting=1)
    first, second = job(40), job(41)
    siblings = [first, evolve(first), second, evolve(second)]
    for one in siblings:
        engine.admit(one)
    with pytest.raises(Overloaded, match=r"^1 request is waiting for this model already$") as overloaded:
        engine.admit(job(42))
    assert overloaded.value.retry_after > 0
    for one in siblings[:2]:
        engine.cancel(one)
    engine.admit(job(42))
    engine.close()


def test_prompts_are_computed_in_turns_and_answers_go_on_meanwhile(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended = Appended(monkeypatch)
    engine = GenaiEngine(tiny_folder, slice_seconds=0.0)
    appended.slices.clear()
    talking, long, short = job(4, 40), job(160, 5), job(40, 5)
    engine.admit(talking)
    engine.step()
    engine.admit(long)
    engine.step()
    engine.admit(short)
    first_words: list[Job] = []
    for _ in range(20):
        events = engine.step()
        assert tokens([event for event in events if event.job is talking]) != []
        first_words += [event.job for event in events if isinstance(event, Token)]
    assert appended.slices[:5] == [4, 16, 16, 16, 24]
    assert first_words.index(short) < first_words.index(long)
    engine.close()


def test_a_prompt_may_be_any_sequence_of_integers(engine: GenaiEngine) -> None:
    prompts: list[Sequence[int]] = [[5, 6, 7], (5, 6, 7), array("i", [5, 6, 7]), range(5, 8)]
    jobs = [Job(prompt=prompt, max_tokens=5, sampling=GREEDY) for prompt in prompts]
    events = run(engine, *jobs)
    assert {tuple(tokens(events[one])) for one in jobs} == {tuple(tokens(events[jobs[0]]))}


@pytest.mark.parametrize("token", [-1, 380, 2**31])
def test_an_unknown_token_is_refused_because_the_native_code_would_take_it(
    engine: GenaiEngine, token: int
) -> None:
    with pytest.raises(Refused) as caught:
        engine.admit(Job(prompt=[5, token], max_tokens=1, sampling=GREEDY))
    assert str(caught.value) == f"prompt[1]: expected a token id below 380, got {token}"


def test_a_prompt_over_the_context_is_refused_with_both_numbers(engine: GenaiEngine) -> None:
    with pytest.raises(Refused) as caught:
        engine.admit(job(500, 13))
    assert caught.value.code == "context_length_exceeded"
    assert str(caught.value) == (
        "the prompt has 500 tokens and max_tokens is 13: "
        "together they exceed the model's context of 512 tokens"
    )
    asked = job(500, 12)
    assert len(tokens(run(engine, asked)[asked])) == 12


def test_a_job_is_admitted_once(engine: GenaiEngine) -> None:
    once = job(3)
    engine.admit(once)
    with pytest.raises(LocalProtocolError) as caught:
        engine.admit(once)
    assert str(caught.value) == "this job is in the engine already"


def test_an_error_in_one_job_leaves_the_others_alone(
    engine: GenaiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, asked = job(30), job(30)
    alone = tokens(run(engine, expected)[expected])
    appended = Appended(monkeypatch)
    appended.fail_at[21] = GenaiError("a kernel said no")
    bad = job(21)
    events = run(engine, bad, asked)
    assert events[bad] == [Started(job=bad), Failed(job=bad, error=appended.fail_at[21])]
    assert tokens(events[asked]) == alone
    assert engine.step() == ()


def test_no_memory_for_the_kv_cache_fails_the_job_readably(
    engine: GenaiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(Generator):  # type: ignore[misc]
        def __init__(self, model: Model, *, max_length: int) -> None:
            if max_length > 100:
                raise GenaiError("Could not allocate the key-value cache buffer")
            super().__init__(model, max_length=max_length)

    monkeypatch.setattr(engine_module, "Generator", Small)
    large, small = job(90, 20), job(9, 2)
    events = run(engine, large, small)
    assert isinstance(failed := events[large][-1], Failed)
    assert str(failed.error) == ("no KV cache for 128 tokens: Could not allocate the key-value cache buffer")
    assert len(tokens(events[small])) == 2


def test_memory_goes_with_the_job_however_it_ends(
    engine: GenaiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended = Appended(monkeypatch)
    run(engine, job(20), job(21, 3, Sampling(seed=1)))
    in_prefill, in_decode, never_begun = job(200), job(10), job(9)
    for one in (in_prefill, in_decode, never_begun):
        engine.admit(one)
    for _ in range(2):
        engine.step()
    for one in (in_prefill, in_decode, never_begun):
        engine.cancel(one)
    assert len(appended.generators) == 4
    unfinished = job(30)
    engine.admit(unfinished)
    engine.step()
    engine.close()
    for generator in appended.generators:
        with pytest.raises(LocalProtocolError):
            generator.pointer  # noqa: B018 - asking is the test


def test_a_closed_engine_is_lost(engine: GenaiEngine) -> None:
    engine.close()
    for use in (engine.step, lambda: engine.admit(job(3))):
        with pytest.raises(EngineLost) as caught:
            use()
        assert str(caught.value) == "the engine is closed"
    engine.cancel(job(3))
