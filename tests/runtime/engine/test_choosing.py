"""The token that follows, and what is told of it: sampler, grammar and logprobs together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from attrs import evolve

from foundry_runtime.engine.api import Guide, Job, Sampling, TokenLogprobs
from foundry_runtime.engine.text.choosing import Chooser, logprobs_of, takes_the_likeliest
from foundry_runtime.engine.text.sampler import largest

Floats = npt.NDArray[np.float32]

GREEDY = Sampling(temperature=0.0)
PLAIN = Job(prompt=[1], max_tokens=9, sampling=GREEDY)


class Only:
    """A grammar that allows certain tokens, each once, in any order."""

    def __init__(self, *tokens: int) -> None:
        self.tokens = set(tokens)
        self.seen: list[Floats] = []

    def begin(self) -> Guide:
        return Only(*self.tokens)

    def constrain(self, logits: Floats) -> None:
        self.seen.append(logits)
        kept = {token: logits[token] for token in self.tokens}
        logits.fill(-math.inf)
        for token, logit in kept.items():
            logits[token] = logit

    def accept(self, token: int) -> None:
        self.tokens.remove(token)

    @property
    def complete(self) -> bool:
        return not self.tokens


def normal(size: int, scale: float = 3.0) -> Floats:
    return (np.random.default_rng(7).standard_normal(size) * scale).astype(np.float32)


@pytest.mark.parametrize(
    ("changed", "plain"),
    [
        ({}, True),
        ({"sampling": Sampling(temperature=0.0, top_p=0.5, top_k=7, min_p=0.1, seed=4)}, True),
        ({"sampling": Sampling(temperature=0.0, logit_bias={4: 0.0})}, True),
        ({"sampling": Sampling(temperature=0.1)}, False),
        ({"sampling": Sampling(temperature=0.0, presence_penalty=-0.1)}, False),
        ({"sampling": Sampling(temperature=0.0, frequency_penalty=0.1)}, False),
        ({"sampling": Sampling(temperature=0.0, repetition_penalty=1.1)}, False),
        ({"sampling": Sampling(temperature=0.0, logit_bias={4: 0.1})}, False),
        ({"logprobs": 0}, False),
        ({"grammar": Only(1)}, False),
    ],
)
def test_a_job_that_takes_the_likeliest_needs_no_logits(changed: Mapping[str, Any], plain: bool) -> None:
    assert takes_the_likeliest(evolve(PLAIN, **changed)) is plain


def test_a_grammar_has_the_last_word_over_bias_and_the_models_own_choice() -> None:
    logits = normal(50)
    chooser = Chooser(
        evolve(
            PLAIN,
            sampling=Sampling(temperature=0.0, logit_bias={7: 100.0, 8: -100.0}),
            grammar=Only(8, int(logits.argmin())),
        )
    )
    assert not chooser.complete
    assert chooser.choose(logits).id == int(logits.argmin())
    assert not chooser.complete
    assert chooser.choose(logits).id == 8
    assert chooser.complete


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=1), Sampling(seed=1, frequency_penalty=1.0)])
def test_the_models_own_logits_are_left_as_they_are(sampling: Sampling) -> None:
    logits = normal(300)
    before = logits.copy()
    chooser = Chooser(evolve(PLAIN, sampling=sampling, grammar=Only(3, 4, 5), logprobs=2))
    for _ in range(3):
        chooser.choose(logits)
    assert np.array_equal(logits, before)


def test_jobs_of_one_grammar_do_not_touch_each_other() -> None:
    grammar = Only(3, 4)
    first, second = (Chooser(evolve(PLAIN, grammar=grammar)) for _ in range(2))
    assert {first.choose(normal(50)).id, first.choose(normal(50)).id} == {3, 4}
    assert first.complete
    assert not second.complete


def test_a_job_without_a_grammar_is_never_complete() -> None:
    chooser = Chooser(evolve(PLAIN, logprobs=0))
    chooser.choose(normal(50))
    assert not chooser.complete


def test_a_grammar_that_allows_nothing_is_an_error() -> None:
    class Nothing(Only):
        def begin(self) -> Guide:
            return self

        def constrain(self, logits: Floats) -> None:
            logits.fill(-math.inf)

    with pytest.raises(ValueError) as caught:
        Chooser(evolve(PLAIN, grammar=Nothing(1))).choose(normal(50))
    assert str(caught.value) == "the logits have no finite maximum: -inf"


def test_logprobs_are_the_models_own_whatever_was_done_to_choose() -> None:
    logits = normal(500)
    order = np.argsort(-logits, kind="stable")
    banned = int(order[0])
    chooser = Chooser(
        evolve(
            PLAIN,
            sampling=Sampling(temperature=0.0, logit_bias={banned: -100.0, int(order[1]): 3.0}),
            logprobs=3,
        )
    )
    chosen = chooser.choose(logits)
    assert chosen.id == order[1]
    assert chosen.logprobs is not None
    assert [token for token, _ in chosen.logprobs.top] == order[:3].tolist()
    assert chosen.logprobs.logprob == chosen.logprobs.top[1][1]
    assert Chooser(evolve(PLAIN, sampling=Sampling(seed=3))).choose(logits).logprobs is None


@pytest.mark.parametrize("scale", [0.01, 3.0, 40.0])
@pytest.mark.parametrize("shift", [0.0, 30_000.0, -30_000.0])
def test_logprobs_agree_with_double_precision(scale: float, shift: float) -> None:
    logits = normal(49_152, scale) + np.float32(shift)
    exact = logits.astype(np.float64)
    exact -= exact.max()
    exact -= np.log(np.exp(exact).sum())
    told = logprobs_of(logits, 17, 5)
    assert told.logprob == pytest.approx(exact[17], abs=2e-5)
    best = np.argsort(-logits, kind="stable")[:5]
    assert [token for token, _ in told.top] == best.tolist()
    assert [logprob for _, logprob in told.top] == pytest.approx(exact[best].tolist(), abs=2e-5)


def test_the_probabilities_of_all_tokens_sum_to_1() -> None:
    told = logprobs_of(normal(2000), 0, 2000)
    assert len(told.top) == 2000
    assert sum(math.exp(logprob) for _, logprob in told.top) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("logits", "count", "top"),
    [
        ([0.0, 0.0, 0.0, 0.0], 2, (0, 1)),  # of equals the lower id, which greedy takes
        ([0.0, -math.inf, 1.0], 9, (2, 0)),  # never an impossible one, never more than there are
        ([5.0], 3, (0,)),
        ([1.0, 2.0], 0, ()),
    ],
)
def test_the_likeliest_are_told_and_the_impossible_never(
    logits: Sequence[float], count: int, top: tuple[int, ...]
) -> None:
    told = logprobs_of(np.array(logits, dtype=np.float32), 0, count)
    assert tuple(token for token, _ in told.top) == top
    assert isinstance(told, TokenLogprobs)
    assert all(math.isfinite(logprob) for _, logprob in told.top)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_the_largest_values_are_those_of_a_sort(size: int) -> None:
    values = np.random.default_rng(size).integers(-5, 5, size).astype(np.float32)
    for count in {1, 2, size // 64, size // 2, size - 1, size} - {0}:
        expected = np.argsort(-values, kind="stable")[:count]
        assert sorted(largest(values, count).tolist()) == sorted(expected.tolist())
