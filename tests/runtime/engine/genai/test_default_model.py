"""What only real weights show: 8-bit kernels that round by the shape of what they compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from foundry_runtime.engine.api import Finished, Job, Sampling, Token
from foundry_runtime.engine.check import PROMPTS, check_engine
from foundry_runtime.engine.genai import GenaiEngine
from foundry_runtime.engine.genai.binding import Generator, Model, load_library

pytestmark = pytest.mark.model

PROMPT = np.random.default_rng(0).integers(3, 49_000, 300).astype(np.int32)


def logits(model: Model, *ends: int) -> npt.NDArray[np.float32]:
    """The logits after the prompt, computed in slices that end there."""
    with Generator(model, max_length=len(PROMPT) + 1) as generator:
        for begin, end in zip((0, *ends), (*ends, len(PROMPT)), strict=True):
            generator.append(PROMPT[begin:end])
        return generator.logits()


def test_the_slices_do_not_change_a_bit_of_the_logits(default_model: Path) -> None:
    with Model(load_library(), default_model, "{}") as model:
        whole = logits(model)
        for size in (16, 32, 64, 128, 256):
            ends = range(size, len(PROMPT) - 15, size)  # the engine's: what is left is 16 at least
            assert np.array_equal(logits(model, *ends), whole), size
        assert np.array_equal(logits(model, 48, 64, 192, 208), whole)
        # Why no slice may be a single token; were this equal, the rule could go.
        assert not np.array_equal(logits(model, len(PROMPT) - 1), whole)


def test_the_answer_does_not_depend_on_the_speed(default_model: Path) -> None:
    answers: list[list[int]] = []
    for seconds in (0.0, 0.03, 10.0):
        engine = GenaiEngine(default_model, slice_seconds=seconds)
        engine.admit(Job(prompt=PROMPT.tolist(), max_tokens=24, sampling=Sampling(temperature=0.0)))
        answer: list[int] = []
        finished = False
        while not finished:
            for event in engine.step():
                if isinstance(event, Token):
                    answer.append(event.id)
                finished = finished or isinstance(event, Finished)
        engine.close()
        answers.append(answer)
    assert answers == [answers[0]] * 3
    assert len(answers[0]) == 24


def test_it_keeps_the_contract(default_model: Path) -> None:
    check_engine(lambda: GenaiEngine(default_model), prompts=PROMPTS[:3], max_tokens=6)
