"""Draws the next token from the logits.

Knows: temperature, then top_k, then top_p over what top_k left (its probabilities made to sum to 1 again),
then one draw; equal seeds give equal draws.
Refuses to know: engines, penalties, and which tokens end an answer.

The whole vocabulary is never sorted: a threshold that provably keeps the nucleus leaves a few thousand
candidates of 49,152 or 151,936, and only these are.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

from foundry_runtime.engine.api import Sampling

__all__ = ["Sampler"]

_Floats: TypeAlias = npt.NDArray[np.float32]
_Ids: TypeAlias = npt.NDArray[np.intp]

_COLDEST: Final = 1e-30
"""Below this a temperature is no number in float32; here already only the likeliest tokens have weight."""

_BLOCK: Final = 512


@final
class Sampler:
    """Draws tokens of one job; keeps the state of its random numbers.

    Args:
        sampling: How to draw. A seed may be any integer; its low 64 bits count.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        seed = sampling.seed
        self._scratch: _Floats = np.empty(0, dtype=np.float32)
        # PCG64 is named, rather than numpy's default taken: what a seed gives must not change with numpy.
        self._random = np.random.Generator(np.random.PCG64(None if seed is None else seed & (2**64 - 1)))

    def sample(self, logits: _Floats) -> int:
        """Draw one token.

        Args:
            logits: One float32 a token id of the vocabulary; left as it is. `-inf` excludes a token.

        Returns:
            The id. Of equally likely tokens, those with lower ids enter top_k and the nucleus first, and
            greedy takes the lowest.

        Raises:
            ValueError: The largest logit is not finite: the model is broken, or everything is excluded.
        """
        peak = logits.max()
        if not np.isfinite(peak):
            raise ValueError(f"the logits have no finite maximum: {peak}")
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        ids: _Ids | None = None
        if 0 < self._sampling.top_k < len(logits):
            ids = _top_k(logits, self._sampling.top_k)
            logits = logits[ids]
        weights = self._weights(logits, peak)
        if self._sampling.top_p < 1:
            nucleus = _nucleus(weights, self._sampling.top_p)
            weights = weights[nucleus]
            ids = nucleus if ids is None else ids[nucleus]
        index = self._draw(weights)
        return index if ids is None else int(ids[index])

    def _weights(self, logits: _Floats, peak: np.float32) -> _Floats:
        """What is proportional to each token's probability; the likeliest has 1.

        Computed in one array that is kept: fresh ones of this size come from the system each time, and their
        first touch costs more than the arithmetic.
        """
        if len(self._scratch) < len(logits):
            self._scratch = np.empty(len(logits), dtype=np.float32)
        weights = self._scratch[: len(logits)]
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


def _below(point: np.float64, total: np.float64) -> np.float64:
    """The point, or what is next below the total: rounding must not lead beyond the last weight."""
    limit: np.float64 = np.nextafter(total, 0.0)
    return min(point, limit)


def _top_k(values: _Floats, count: int) -> _Ids:
    edge = np.partition(values, len(values) - count)[len(values) - count]
    return _largest(values, edge, count)


def _nucleus(weights: _Floats, top_p: float) -> _Ids:
    """The indices of the smallest set of largest weights that has `top_p` of their sum; at least one."""
    total = weights.sum(dtype=np.float64)
    # All weights below this threshold together have less than 1 - top_p of the sum: those that reach it have
    # at least top_p of it, so the nucleus is among them.
    candidates = weights[weights >= (1 - top_p) * total / len(weights)]
    candidates.sort()
    descending = candidates[::-1]
    last = int(np.searchsorted(np.cumsum(descending, dtype=np.float64), top_p * total))
    last = min(last, len(descending) - 1)  # rounding, when top_p is next to 1
    return _largest(weights, descending[last], last + 1)


def _largest(values: _Floats, edge: np.float32, count: int) -> _Ids:
    """The indices of the `count` largest values, the least being `edge`; of ties, the lower indices."""
    above = np.flatnonzero(values > edge)
    ties = np.flatnonzero(values == edge)[: count - len(above)]
    return np.concatenate((above, ties))
