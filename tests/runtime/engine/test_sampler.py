"""The sampler against exact distributions, computed here in the slow and obvious way."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_runtime.engine.api import Sampling
from foundry_runtime.engine.text.sampler import Sampler

Floats = npt.NDArray[np.float32]


def exact(logits: Floats, sampling: Sampling) -> npt.NDArray[np.float64]:
    """The probability of each id, by a full sort in double precision; ties go to the lower id."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if sampling.top_k:
        order = order[: sampling.top_k]
    weights = [math.exp((float(logits[i]) - float(logits[order[0]])) / sampling.temperature) for i in order]
    total, reached, kept = sum(weights), 0.0, 0
    for weight in weights:
        kept += 1
        reached += weight
        if reached >= sampling.top_p * total and sampling.top_p < 1:
            break
    out = np.zeros(len(logits))
    out[order[:kept]] = np.array(weights[:kept]) / sum(weights[:kept])
    return out


def normal(size: int, scale: float, seed: int = 7) -> Floats:
    return (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)


def draw(logits: Floats, sampling: Sampling, count: int) -> list[int]:
    sampler = Sampler(sampling)
    return [sampler.sample(logits) for _ in range(count)]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(seed=1),
        Sampling(seed=2, temperature=0.3),
        Sampling(seed=3, temperature=2.5),
        Sampling(seed=4, top_p=0.7),
        Sampling(seed=5, top_k=5),
        Sampling(seed=6, temperature=1.7, top_k=12, top_p=0.8),
    ],
    ids=str,
)
def test_draws_follow_the_exact_distribution(sampling: Sampling) -> None:
    logits = normal(40, 1.5)
    expected = exact(logits, sampling)
    count = 20_000
    seen = np.bincount(draw(logits, sampling, count), minlength=len(logits))
    assert seen[expected == 0].sum() == 0
    # Pearson's test, rare ids pooled; a variable of d degrees of freedom exceeds d + 4·sqrt(2d) + 8 less than
    # once in ten thousand times, and the seeds are fixed.
    common = expected * count >= 10
    pooled_seen = np.append(seen[common], seen[~common].sum())
    pooled = np.append(expected[common], expected[~common].sum()) * count
    pooled_seen, pooled = pooled_seen[pooled > 0], pooled[pooled > 0]
    statistic = float(((pooled_seen - pooled) ** 2 / pooled).sum())
    freedom = len(pooled) - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom) + 8


def test_the_statistical_test_notices_a_wrong_temperature() -> None:
    logits = normal(40, 1.5)
    expected = exact(logits, Sampling(temperature=1.1)) * 20_000
    seen = np.bincount(draw(logits, Sampling(seed=1), 20_000), minlength=len(logits))
    assert float(((seen - expected) ** 2 / expected).sum()) > 39 + 4 * math.sqrt(2 * 39) + 8


@pytest.mark.parametrize("top_p", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("scale", [0.01, 1.0, 4.0])
def test_no_draw_lies_outside_the_nucleus_of_a_large_vocabulary(top_p: float, scale: float) -> None:
    logits = normal(49_152, scale)
    sampling = Sampling(seed=11, top_p=top_p)
    expected = exact(logits, sampling)
    # The border's own id may fall on either side of it: single against double precision.
    border = np.flatnonzero(expected)[np.argsort(-logits[expected > 0], kind="stable")][-1:]
    allowed = set(np.flatnonzero(logits >= logits[border[0]] - np.float32(1e-4)).tolist())
    assert set(draw(logits, sampling, 100)) <= allowed


@settings(deadline=None, max_examples=150)
@given(
    values=st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 2.0]), min_size=1, max_size=30),
    top_k=st.integers(0, 35),
    # No sums of the values above reach exactly these shares, so rounding decides nothing.
    top_p=st.sampled_from([0.0, 0.0713, 0.3371, 0.7719, 0.9733, 1.0]),
    temperature=st.sampled_from([0.31, 1.0, 1.9]),
    seed=st.integers(-(2**70), 2**70),
)
def test_a_draw_has_a_probability_also_among_ties(
    values: list[float], top_k: int, top_p: float, temperature: float, seed: int
) -> None:
    logits = np.array(values, dtype=np.float32)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    expected = exact(logits, sampling)
    assert all(expected[token] > 0 for token in draw(logits, sampling, 10))


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
