"""Guesses: what is known goes on as it did, what does not pay rests, and nothing that is said changes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_runtime.engine.api import Finished, Job, Sampling, Token
from foundry_runtime.engine.batched.engine import BatchedEngine
from foundry_runtime.engine.batched.speculation import Speculation
from foundry_runtime.importers.positions import with_logit_positions
from tests.support.tiny_model import TinyLlama, tiny_model_folder


def test_what_followed_the_same_tokens_before_is_guessed_again() -> None:
    speculation = Speculation(look=2, most=3)
    assert speculation.guess([]) == []
    assert speculation.guess([1]) == []
    assert speculation.guess([1, 2, 3, 4, 5, 6, 1, 2]) == [3, 4, 5]
    assert speculation.guess([1, 2, 3, 4, 5, 6, 1, 2, 9]) == []
    assert speculation.guess([1, 2, 3, 4, 5, 6, 1, 2, 9, 1, 2]) == [9, 1, 2]  # the last time counts


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 4), st.integers(1, 8))
def test_a_guess_is_always_what_followed_the_last_time(tokens: list[int], look: int, most: int) -> None:
    guess = Speculation(look=look, most=most).guess(tokens)
    places = [
        end for end in range(look, len(tokens)) if tokens[end - look : end] == tokens[len(tokens) - look :]
    ]
    assert guess == (tokens[places[-1] : places[-1] + most] if places else [])


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_it_does_not_matter_how_often_it_was_asked(tokens: list[int], asked_at: list[int]) -> None:
    asked = Speculation()
    for length in sorted(asked_at):
        asked.guess(tokens[:length])
    assert asked.guess(tokens) == Speculation().guess(tokens)


def test_what_does_not_pay_rests_and_is_tried_again() -> None:
    speculation, tokens = Speculation(look=1), [1, 2, 1]
    assert speculation.guess(tokens) == [2, 1]
    speculation.checked(3, 0.02, 0.01)
    assert speculation.guess(tokens)
    for _ in range(3):
        speculation.checked(1, 0.03, 0.01)
    assert [bool(speculation.guess(tokens)) for _ in range(65)] == [False] * 64 + [True]


@pytest.fixture(scope="module")
def exact_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in full precision, that likes to say the same again."""
    return tiny_model_folder(tmp_path_factory.mktemp("exact"), TinyLlama(seed=3), weights="float32")


def said(engine: BatchedEngine, *jobs: Job) -> list[list[int]]:
    heard: dict[Job, list[int]] = {job: [] for job in jobs}
    for job in jobs:
        engine.admit(job)
    left = len(jobs)
    while left:
        for event in engine.step():
            if isinstance(event, Token):
                heard[event.job].append(event.id)
            left -= isinstance(event, Finished)
    return list(heard.values())


@pytest.fixture
def engines(exact_folder: Path) -> Iterator[tuple[BatchedEngine, BatchedEngine]]:
    """One that guesses, and one that does not."""
    # Everything takes as long as anything: a check pays when more than one token comes of it.
    made = tuple(
        BatchedEngine(exact_folder, threads=1, kept=0, speculate=speculate, clock=count().__next__)
        for speculate in (True, False)
    )
    yield made[0], made[1]
    for engine in made:
        engine.close()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0),
        Sampling(temperature=0.6, seed=5),
        Sampling(temperature=0.0, presence_penalty=0.5),
        Sampling(temperature=0.7, seed=1, logit_bias=dict.fromkeys((50, 60, 70), 50.0)),
    ],
    ids=["greedy", "seeded", "penalty", "few"],
)
def test_guessing_changes_nothing_that_is_said(
    engines: tuple[BatchedEngine, BatchedEngine], sampling: Sampling
) -> None:
    guessing, plain = engines
    for length, most in ((40, 60), (7, 1), (7, 2), (20, 33)):
        pattern = np.random.default_rng(length).integers(3, 380, 5).tolist()
        prompt = (pattern * length)[:length]
        one, two = (Job(prompt=prompt, max_tokens=most, sampling=sampling) for _ in range(2))
        assert said(guessing, one) == said(plain, two)
    assert guessing.counters.generated_tokens == plain.counters.generated_tokens


def test_what_repeats_itself_takes_fewer_steps(engines: tuple[BatchedEngine, BatchedEngine]) -> None:
    guessing, plain = engines
    prompt = np.random.default_rng(0).integers(3, 380, 20).tolist()
    few = Sampling(temperature=0.0, logit_bias=dict.fromkeys((50, 60, 70), 50.0))
    for engine in engines:
        said(engine, Job(prompt=prompt, max_tokens=150, sampling=few))
    assert guessing.counters.steps < plain.counters.steps * 0.6


def test_beside_others_nothing_is_guessed_and_afterwards_it_goes_on(
    engines: tuple[BatchedEngine, BatchedEngine],
) -> None:
    greedy = Sampling(temperature=0.0)
    jobs = [
        Job(prompt=np.random.default_rng(n).integers(3, 380, 20).tolist(), max_tokens=most, sampling=greedy)
        for n, most in ((0, 120), (1, 30))
    ]
    guessing, plain = engines
    again = [Job(prompt=job.prompt, max_tokens=job.max_tokens, sampling=greedy) for job in jobs]
    assert said(guessing, *jobs) == said(plain, *again)


def test_a_graph_whose_last_position_is_not_found_is_left_alone(exact_folder: Path, tmp_path: Path) -> None:
    model = onnx.load(exact_folder / "model.onnx", load_external_data=False)
    (gather,) = (node for node in model.graph.node if node.output[0] == "last_hidden")
    gather.attribute[0].i = 0
    onnx.save(model, tmp_path / "model.onnx")
    assert with_logit_positions(tmp_path / "model.onnx", logits="logits", positions="p") is None
    assert with_logit_positions(exact_folder / "model.onnx", logits="logits", positions="p") is not None
