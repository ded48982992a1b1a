"""Generators that are kept: the next turn computes what is new, and says what it would say anyway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve

from foundry_runtime.engine.api import EngineEvent, Finished, Job, Sampling, Started, Token
from foundry_runtime.engine.genai.binding import GenaiError, Generator
from foundry_runtime.engine.genai.engine import GenaiEngine
from tests.runtime.engine.genai.running import job, run, tokens

GREEDY = Sampling(temperature=0.0)


@pytest.fixture
def engine(tiny_folder: Path) -> Iterator[GenaiEngine]:
    engine = GenaiEngine(tiny_folder, threads=1)
    yield engine
    engine.close()


def cached(events: Sequence[EngineEvent]) -> int:
    (started,) = (event for event in events if isinstance(event, Started))
    return started.cached_tokens


def ask(engine: GenaiEngine, prompt: Sequence[int], max_tokens: int = 20) -> tuple[list[int], int]:
    """What is said to a prompt, and how many of its tokens were cached."""
    asked = Job(prompt=prompt, max_tokens=max_tokens, sampling=GREEDY)
    events = run(engine, asked)[asked]
    return tokens(events), cached(events)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(temperature=1.0, seed=3)], ids=["greedy", "seeded"])
@pytest.mark.parametrize("length", [79, 80, 81, 82, 200])
def test_the_same_prompt_gets_the_same_answer_from_what_was_kept(
    engine: GenaiEngine, length: int, sampling: Sampling
) -> None:
    cold = job(length, 20, sampling)
    warm = evolve(cold)
    first, second = run(engine, cold)[cold], run(engine, warm)[warm]
    assert tokens(first) == tokens(second)
    assert (cached(first), cached(second)) == (0, (length - 2) // 16 * 16)


def test_the_next_turn_computes_only_what_is_new(engine: GenaiEngine) -> None:
    prompt = job(100).prompt
    reply, _ = ask(engine, prompt, 30)
    before = engine.counters.prompt_tokens
    _, taken = ask(engine, [*prompt, *reply, 9, 8, 7], 20)
    assert taken == (100 + 29) // 16 * 16
    assert engine.counters.prompt_tokens - before == 133 - taken
    _, taken = ask(engine, [*prompt, *reply[:10], 5, 5, 5], 5)
    assert taken == (100 + 10) // 16 * 16


def test_another_prompt_gets_nothing_of_it(engine: GenaiEngine) -> None:
    ask(engine, job(100).prompt)
    assert ask(engine, job(101).prompt)[1] == 0
    assert ask(engine, job(100).prompt[:60])[1] == 0  # too little to take it from another


def test_a_job_that_was_given_up_leaves_what_it_has_computed(engine: GenaiEngine) -> None:
    one = job(200, 30)
    engine.admit(one)
    engine.step()
    heard = [event.id for _ in range(20) for event in engine.step() if isinstance(event, Token)]
    engine.cancel(one)
    _, taken = ask(engine, [*one.prompt, *heard, 3, 4], 5)
    assert taken == (200 + len(heard) - 1) // 16 * 16


def test_a_generator_with_too_little_room_is_not_taken(engine: GenaiEngine) -> None:
    prompt = job(100).prompt
    ask(engine, prompt, 10)  # made for 128
    assert ask(engine, prompt, 28)[1] == 96
    assert ask(engine, prompt, 29)[1] == 0


def test_no_more_are_kept_than_may_be(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_generators: set[Generator] = set()
    made, close = Generator.__init__, Generator.close

    def watched_init(generator: Generator, *arguments: object, **more: object) -> None:
        made(generator, *arguments, **more)  # type: ignore[arg-type]
        open_generators.add(generator)

    def watched_close(generator: Generator) -> None:
        open_generators.discard(generator)
        close(generator)

    engine = GenaiEngine(tiny_folder, threads=1, max_kept=2)
    monkeypatch.setattr(Generator, "__init__", watched_init)
    monkeypatch.setattr(Generator, "close", watched_close)
    for length in (100, 101, 102, 103):
        ask(engine, job(length).prompt)
    assert len(open_generators) == 2
    assert ask(engine, job(100).prompt)[1] == 0
    assert ask(engine, job(103).prompt)[1] == 96
    ask(engine, job(300).prompt)  # with its 512 tokens there is room for no other
    assert len(open_generators) == 1
    ask(engine, job(20).prompt)  # too short to be kept
    assert len(open_generators) == 1
    engine.close()
    assert not open_generators


def test_a_model_that_cannot_go_back_computes_its_prompts(
    engine: GenaiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise GenaiError("RewindTo is not supported")

    said, _ = ask(engine, job(100).prompt)
    monkeypatch.setattr(Generator, "rewind_to", cannot)
    assert ask(engine, job(100).prompt) == (said, 0)


def test_jobs_beside_each_other_take_different_generators(engine: GenaiEngine) -> None:
    prompt = np.array(job(100).prompt).tolist()
    said, _ = ask(engine, prompt)
    jobs = [Job(prompt=list(prompt), max_tokens=20, sampling=GREEDY) for _ in range(3)]
    events = run(engine, *jobs)
    assert [tokens(events[one]) for one in jobs] == [said] * 3
    assert sorted(cached(events[one]) for one in jobs) == [0, 0, 96]
    assert all(isinstance(events[one][-1], Finished) for one in jobs)
