"""Draws the next token from the logits.

Knows: what is done to the logits, in this order, and the one draw at its end; equal seeds give equal draws.

1. `repetition_penalty`, on tokens of the prompt and the answer: first, since it scales what the model said,
   and only that.
2. `presence_penalty` and `frequency_penalty`, on tokens of the answer, and `logit_bias`: sums, in any order.
3. The constraint of a grammar, so that nothing before it can bring a forbidden token back.
4. `temperature`; at 0 the likeliest is taken, and nothing below matters.
5. `top_k`, then `top_p` over what is left, whose probabilities are made to sum to 1 again, then `min_p`.

Refuses to know: engines, what a grammar says, which tokens end an answer.

The whole vocabulary is never sorted: of 49,152 or 151,936 tokens only those near the edge of what is kept.
What a draw costs does not grow with the answer: tokens are counted when they are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

from foundry_runtime.engine.api import Sampling
from foundry_runtime.engine.text.penalties import Penalties

__all__ = ["Sampler", "keep_nucleus", "largest"]

_Floats: TypeAlias = npt.NDArray[np.float32]
_Ids: TypeAlias = npt.NDArray[np.intp]

_COLDEST: Final = 1e-30
"""Below this a temperature is no number in float32; here already only the likeliest tokens have weight."""

_BLOCK: Final = 512
_SMALL_BLOCK: Final = 64

_FEW: Final = 2048
"""Weights that are sorted rather than divided once more."""


@final
class Sampler:
    """Draws tokens of one job; keeps the state of its random numbers, and what was said.

    Args:
        sampling: How to draw. A seed may be any integer; its low 64 bits count.
        prompt: The tokens before the answer, on which `repetition_penalty` works too.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = ()) -> None:
        self._sampling = sampling
        self._penalties = Penalties.of(sampling, prompt)
        self._scratch: _Floats = np.empty(0, dtype=np.float32)
        # PCG64 is named, rather than numpy's default taken: what a seed gives must not change with numpy.
        seed = sampling.seed
        self._random = np.random.Generator(np.random.PCG64(None if seed is None else seed & (2**64 - 1)))

    def accept(self, token: int) -> None:
        """Count a token as said: the one that was drawn, or whatever else now follows in the answer."""
        if self._penalties is not None:
            self._penalties.accept(token)

    def sample(self, logits: _Floats, constrain: Callable[[_Floats], None] | None = None) -> int:
        """Draw one token; `accept` tells what became of it.

        Args:
            logits: One float32 a token id of the vocabulary; left as it is. `-inf` excludes a token.
            constrain: Excludes further ones, in place.

        Returns:
            The id. Of equally likely tokens, those with lower ids enter top_k and the nucleus first, and
            greedy takes the lowest.

        Raises:
            ValueError: The largest logit is not finite: the model is broken, or everything is excluded.
        """
        if self._penalties is not None:
            logits = self._penalties.apply(logits, self._room(len(logits)))
        elif constrain is not None:
            room = self._room(len(logits))
            np.copyto(room, logits)
            logits = room
        if constrain is not None:
            constrain(logits)
        peak = logits.max()
        if not np.isfinite(peak):
            raise ValueError(f"the logits have no finite maximum: {peak}")
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        ids: _Ids | None = None
        if 0 < self._sampling.top_k < len(logits):
            ids = largest(logits, self._sampling.top_k)
            logits = logits[ids]
        weights = self._weights(logits, peak)
        if self._sampling.top_p < 1:
            keep_nucleus(weights, self._sampling.top_p)
        if self._sampling.min_p > 0:
            np.multiply(weights, weights >= self._sampling.min_p, out=weights)
        index = self._draw(weights)
        return index if ids is None else int(ids[index])

    def _room(self, size: int) -> _Floats:
        """Memory for so many floats, the same each time.

        Fresh arrays of this size come from the system, and their first touch costs more than the arithmetic.
        """
        if len(self._scratch) < size:
            self._scratch = np.empty(size, dtype=np.float32)
        return self._scratch[:size]

    def _weights(self, logits: _Floats, peak: np.float32) -> _Floats:
        """What is proportional to each token's probability; the likeliest has 1."""
        weights = self._room(len(logits))
        with np.errstate(over="ignore"):  # a quotient of -inf is a weight of 0, as it should be
            np.subtract(logits, peak, out=weights)
            np.divide(weights, max(self._sampling.temperature, _COLDEST), out=weights)
        return np.exp(weights, out=weights)

    def _draw(self, weights: _Floats) -> int:
        """An index, with a probability proportional to its weight; never one of weight 0."""
        # First the block, then the place in it: a running sum of everything takes twenty times as long.
        blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64)
        sums = np.cumsum(blocks)
        point = _below(self._random.random() * sums[-1], sums[-1])
        block = int(np.searchsorted(sums, point, side="right"))
        begin = block * _BLOCK
        inside = np.cumsum(weights[begin : begin + _BLOCK], dtype=np.float64)
        rest = point - sums[block - 1] if block else point
        return begin + int(np.searchsorted(inside, _below(rest, inside[-1]), side="right"))


def largest(values: _Floats, count: int) -> _Ids:
    """The indices of the largest values, in no order; of ties those with lower indices.

    Args:
        values: None of them NaN.
        count: How many, from 1 to all.
    """
    candidates = values
    peaks = np.maximum.reduceat(values, np.arange(0, len(values), _SMALL_BLOCK))
    if count <= len(peaks):
        # So many blocks reach it that at least `count` values do.
        candidates = values.compress(values >= _nth_largest(peaks, count))
    edge = _nth_largest(candidates, count)
    above = np.flatnonzero(values > edge)
    ties = np.flatnonzero(values == edge)[: count - len(above)]
    return np.concatenate((above, ties))


def _nth_largest(values: _Floats, count: int) -> np.float32:
    place = len(values) - count
    found: np.float32 = np.partition(values, place)[place]
    return found


def keep_nucleus(weights: _Floats, top_p: float) -> None:
    """Make 0 of all weights but the smallest set of largest ones that has `top_p` of their sum.

    Args:
        weights: Proportional to probabilities; changed in place. Of ties those with lower indices stay.
        top_p: From 0, which leaves the largest, to less than 1.
    """
    total = float(weights.sum(dtype=np.float64))
    wanted = top_p * total
    # All weights below this threshold together have less than 1 - top_p of the sum, and halving it allows for
    # rounding: those that reach it have at least top_p of it, so the edge of the nucleus is among them.
    near = weights.compress(weights >= 0.5 * (1 - top_p) * total / len(weights))
    above = 0.0
    while len(near) > _FEW and (pivot := _between(near)) is not None:
        reaches = near >= pivot
        upper = near.compress(reaches)
        their_sum = float(upper.sum(dtype=np.float64))
        if above + their_sum >= wanted:
            near = upper
        else:
            above += their_sum
            near = near.compress(~reaches)
    near.sort()
    descending = near[::-1]
    last = int(np.searchsorted(above + np.cumsum(descending, dtype=np.float64), wanted))
    last = min(last, len(descending) - 1)  # rounding, when top_p is next to 1
    edge = descending[last]
    kept = last + 1 - int(np.count_nonzero(descending > edge))
    ties = np.flatnonzero(weights == edge)[:kept]
    np.multiply(weights, weights > edge, out=weights)
    weights[ties] = edge


def _between(weights: _Floats) -> np.float32 | None:
    """A value above the least weight and up to the largest; `None` if they are equal.

    Halfway between their bit patterns: of positive floats these are in the same order, and wherever most of
    the weights lie, few such divisions lead there.
    """
    least, most = (int(edge.view(np.int32)) for edge in (weights.min(), weights.max()))
    return None if least == most else np.int32(least + (most - least + 1) // 2).view(np.float32)


def _below(point: np.float64, total: np.float64) -> np.float64:
    """The point, or what is next below the total: rounding must not lead beyond the last weight."""
    limit: np.float64 = np.nextafter(total, 0.0)
    return min(point, limit)
