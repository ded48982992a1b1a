"""The sampler against exact distributions, computed here in the slow and obvious way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_runtime.engine.api import Sampling
from foundry_runtime.engine.text.sampler import Sampler, keep_nucleus

Floats = npt.NDArray[np.float32]


def exact(
    logits: Floats, sampling: Sampling, prompt: Sequence[int] = (), said: Sequence[int] = ()
) -> npt.NDArray[np.float64]:
    """The probability of each id, by a full sort in double precision; ties go to the lower id."""
    scores = [_score(float(logit), token, sampling, prompt, said) for token, logit in enumerate(logits)]
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if sampling.top_k:
        order = order[: sampling.top_k]
    weights = [math.exp((scores[i] - scores[order[0]]) / sampling.temperature) for i in order]
    total, reached, kept = sum(weights), 0.0, 0
    for weight in weights:
        if weight < sampling.min_p:
            break
        kept += 1
        reached += weight
        if reached >= sampling.top_p * total and sampling.top_p < 1:
            break
    out = np.zeros(len(logits))
    out[order[:kept]] = np.array(weights[:kept]) / sum(weights[:kept])
    return out


def _score(logit: float, token: int, sampling: Sampling, prompt: Sequence[int], said: Sequence[int]) -> float:
    if token in prompt or token in said:
        logit = logit / sampling.repetition_penalty if logit > 0 else logit * sampling.repetition_penalty
    count = list(said).count(token)
    logit -= sampling.frequency_penalty * count + (sampling.presence_penalty if count else 0.0)
    return logit + sampling.logit_bias.get(token, 0.0)


def normal(size: int, scale: float, seed: int = 7) -> Floats:
    return (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)


def draw(
    logits: Floats, sampling: Sampling, count: int, prompt: Sequence[int] = (), said: Sequence[int] = ()
) -> list[int]:
    """Draws that all follow the same answer: none of them is accepted."""
    sampler = Sampler(sampling, prompt)
    for token in said:
        sampler.accept(token)
    return [sampler.sample(logits) for _ in range(count)]


def improbable(seen: npt.NDArray[np.intp], expected: npt.NDArray[np.float64]) -> bool:
    """Pearson's test, rare ids pooled: whether so great a difference comes less than once in 10,000 times.

    What cannot be is never seen.
    """
    if seen[expected == 0].any():
        return True
    expected = expected * seen.sum()
    common = expected >= 10
    pooled_seen = np.append(seen[common], seen[~common].sum())
    pooled = np.append(expected[common], expected[~common].sum())
    pooled_seen, pooled = pooled_seen[pooled > 0], pooled[pooled > 0]
    freedom = len(pooled) - 1
    # A variable of d degrees of freedom exceeds this bound that seldom.
    return float(((pooled_seen - pooled) ** 2 / pooled).sum()) > freedom + 4 * math.sqrt(2 * freedom) + 8


LOGITS = normal(20, 1.0)
PROMPT, SAID = (1, 2, 3, 3, 11), (5, 6, 5, 5, 14, 2)


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.3},
        {"temperature": 2.5},
        {"top_p": 0.7},
        {"top_k": 5},
        {"min_p": 0.2},
        {"temperature": 1.7, "top_k": 12, "top_p": 0.8},
        {"temperature": 1.7, "top_k": 20, "top_p": 0.95, "min_p": 0.15},
        {"presence_penalty": 1.5},
        {"frequency_penalty": 0.7},
        {"presence_penalty": -1.0, "frequency_penalty": -0.3},
        {"repetition_penalty": 2.0},
        {"repetition_penalty": 0.5},
        {"logit_bias": {0: 2.0, 5: -3.0, 14: 1.0, 12: -100.0}},
        {
            "temperature": 0.8,
            "top_p": 0.9,
            "repetition_penalty": 1.3,
            "presence_penalty": 0.5,
            "frequency_penalty": 0.4,
            "logit_bias": {5: 1.5, 19: 2.0},
        },
    ],
    ids=str,
)
def test_draws_follow_the_exact_distribution(sampling: Mapping[str, Any]) -> None:
    asked = Sampling(seed=1, **sampling)
    expected = exact(LOGITS, asked, PROMPT, SAID)
    seen = np.bincount(draw(LOGITS, asked, 4_000, PROMPT, SAID), minlength=len(LOGITS))
    assert not improbable(seen, expected)


def test_the_statistical_test_notices_another_distribution() -> None:
    seen = np.bincount(draw(LOGITS, Sampling(seed=1), 4_000), minlength=len(LOGITS))
    assert not improbable(seen, exact(LOGITS, Sampling(), PROMPT, SAID))
    for other in (
        Sampling(temperature=1.2),
        Sampling(min_p=0.05),
        Sampling(presence_penalty=0.4),
        Sampling(frequency_penalty=0.3),
        Sampling(repetition_penalty=1.8),
        Sampling(logit_bias={7: 0.4}),
    ):
        assert improbable(seen, exact(LOGITS, other, PROMPT, SAID)), other


@settings(deadline=None, max_examples=120)
@given(
    values=st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 2.0]), min_size=1, max_size=30),
    top_k=st.integers(0, 35),
    # No sums of the values above reach exactly these shares, so rounding decides nothing.
    top_p=st.sampled_from([0.0, 0.0713, 0.3371, 0.7719, 0.9733, 1.0]),
    temperature=st.sampled_from([0.31, 1.0, 1.9]),
    min_p=st.sampled_from([0.0, 0.0441, 0.5432, 1.0]),
    seed=st.integers(-(2**70), 2**70),
)
def test_a_draw_has_a_probability_also_among_ties(
    values: list[float], top_k: int, top_p: float, temperature: float, min_p: float, seed: int
) -> None:
    logits = np.array(values, dtype=np.float32)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    expected = exact(logits, sampling)
    assert all(expected[token] > 0 for token in draw(logits, sampling, 5))


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 4.0])
@pytest.mark.parametrize("size", [49_152, 151_936])
def test_the_nucleus_of_a_large_vocabulary_is_the_smallest_set_that_is_enough(
    size: int, scale: float
) -> None:
    logits = normal(size, scale)
    weights = np.exp(logits - logits.max())
    descending = np.sort(weights.astype(np.float64))[::-1]
    for top_p in (0.0, 0.1, 0.9, 0.999):
        kept = weights.copy()
        keep_nucleus(kept, top_p)
        nucleus = np.flatnonzero(kept)
        enough = int(np.searchsorted(np.cumsum(descending), top_p * descending.sum())) + 1
        # Sums are rounded: where many weights are about equal, the edge may be a place or two further.
        assert len(nucleus) == pytest.approx(enough, rel=1e-6, abs=2)
        assert np.array_equal(kept[nucleus], weights[nucleus])
        assert kept[nucleus].min() >= np.delete(weights, nucleus).max()
        assert set(draw(logits, Sampling(seed=11, top_p=top_p), 20)) <= set(nucleus.tolist())


def test_what_was_said_counts_from_the_moment_it_is_accepted() -> None:
    logits = np.zeros(9, dtype=np.float32)
    logits[[3, 5]] = (1.0, 0.5)
    sampler = Sampler(Sampling(temperature=0.0, frequency_penalty=0.4))
    said = []
    for _ in range(6):
        said.append(sampler.sample(logits))
        sampler.accept(said[-1])
    # 3 has 1.0, 0.6, 0.2 and so on; 5 has 0.5 and 0.1; then the others have 0.0, and the lowest id wins.
    assert said == [3, 3, 5, 3, 5, 0]
    assert np.array_equal(np.flatnonzero(logits), [3, 5])


def test_a_penalty_for_repetition_counts_the_prompt_and_the_others_do_not() -> None:
    logits = np.array([0.5, 1.0, -1.0, -1.5], dtype=np.float32)

    def likeliest(said: Sequence[int], prompt: Sequence[int], **sampling: Any) -> int:
        return draw(logits, Sampling(temperature=0.0, **sampling), 1, prompt, said)[0]

    assert likeliest((), (1,), repetition_penalty=3.0) == 0
    assert likeliest((1,), (), repetition_penalty=3.0) == 0
    assert likeliest((), (1,), presence_penalty=2.0, frequency_penalty=2.0) == 1
    assert likeliest((1,), (), presence_penalty=2.0) == 0
    # A negative logit is multiplied: it sinks, too.
    logits = np.array([-1.2, -1.0], dtype=np.float32)
    assert likeliest((), (1,), repetition_penalty=1.3) == 0


def test_a_count_of_thousands_is_as_exact_as_one() -> None:
    logits = np.zeros(4, dtype=np.float32)
    sampler = Sampler(Sampling(temperature=0.0, frequency_penalty=0.1, logit_bias={2: 100.0, 1: 0.05}))
    for _ in range(1000):
        assert sampler.sample(logits) == 2
        sampler.accept(2)
    assert sampler.sample(logits) == 1


def test_of_equal_logits_the_lower_ids_are_kept() -> None:
    logits = np.zeros(100, dtype=np.float32)
    assert set(draw(logits, Sampling(seed=0, top_k=3), 200)) == {0, 1, 2}
    assert set(draw(logits, Sampling(seed=0, top_p=0.045), 400)) == {0, 1, 2, 3, 4}
    assert set(draw(logits, Sampling(seed=0, top_p=0.0), 20)) == {0}
    assert draw(logits, Sampling(temperature=0), 1) == [0]


def test_temperature_zero_takes_the_likeliest_and_the_coldest_agree() -> None:
    logits = normal(49_152, 3.0)
    best = int(logits.argmax())
    for temperature in (0.0, 5e-324, 1e-38, 1e-6):
        assert set(draw(logits, Sampling(temperature=temperature, seed=1), 5)) == {best}


def test_equal_seeds_give_equal_draws_and_others_do_not() -> None:
    logits = normal(1000, 0.5)
    first = draw(logits, Sampling(seed=42, top_p=0.95), 50)
    assert draw(logits, Sampling(seed=42, top_p=0.95), 50) == first
    assert draw(logits, Sampling(seed=43, top_p=0.95), 50) != first
    assert draw(logits, Sampling(seed=-1), 50) == draw(logits, Sampling(seed=2**64 - 1), 50)
    assert draw(logits, Sampling(seed=None), 50) != draw(logits, Sampling(seed=None), 50)


def test_what_a_seed_draws_is_the_same_in_every_version() -> None:
    logits = (np.arange(50) % 7).astype(np.float32)
    assert draw(logits, Sampling(seed=2024), 12) == [34, 13, 19, 41, 48, 6, 6, 12, 20, 12, 32, 33]


def test_excluded_tokens_are_never_drawn() -> None:
    logits = np.full(64, -np.inf, dtype=np.float32)
    logits[[3, 60]] = (0.0, 0.5)
    assert set(draw(logits, Sampling(seed=5), 200)) == {3, 60}
    assert set(draw(logits, Sampling(seed=5, top_p=0.99, top_k=10), 200)) == {3, 60}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_without_a_finite_maximum_are_an_error(value: float, temperature: float) -> None:
    logits = np.full(10, value, dtype=np.float32)
    with pytest.raises(ValueError) as caught:
        Sampler(Sampling(temperature=temperature)).sample(logits)
    assert str(caught.value) == f"the logits have no finite maximum: {value}"


def test_the_logits_are_left_as_they_are() -> None:
    logits = normal(300, 1.0)
    before = logits.copy()
    draw(logits, Sampling(seed=1, top_k=20, top_p=0.5), 5)
    assert np.array_equal(logits, before)
