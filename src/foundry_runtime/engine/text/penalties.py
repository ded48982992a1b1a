"""What a request adds to and takes from the model's logits: penalties on what was said, and its bias.

Knows: what each of them is, and keeps their sum for each token id, changed only where a token is said: what
they cost does not grow with the answer.
Refuses to know: chance, grammars.

Sources: OpenAI's API reference for presence and frequency penalty and logit bias, which count the answer's
tokens alone; Keskar and others, CTRL (2019), for the repetition penalty, which counts the prompt's too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self, TypeAlias, final

import numpy as np
import numpy.typing as npt

from foundry_runtime.engine.api import Sampling

__all__ = ["Penalties"]

_Floats: TypeAlias = npt.NDArray[np.float32]


@final
class Penalties:
    """The penalties and the bias of one job; `of` makes them where there are any."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self._prompt = prompt
        self._said: Counter[int] = Counter()
        self._added: _Floats | None = None
        """By token id: its bias, less what presence and frequency cost it; made for the first logits."""
        self._scale: _Floats | None = None
        """By token id: its repetition penalty, 1 where it does not occur; only where there is one."""
        self._spare: _Floats | None = None

    @classmethod
    def of(cls, sampling: Sampling, prompt: Sequence[int]) -> Self | None:
        """The penalties that a sampling has; `None` if it leaves the logits as they are."""
        return None if sampling.takes_logits_as_they_are else cls(sampling, prompt)

    def accept(self, token: int) -> None:
        """Count a token of the answer."""
        self._said[token] += 1
        if self._added is not None:
            self._added[token] = self._sum(token)
        if self._scale is not None:
            self._scale[token] = self._sampling.repetition_penalty

    def apply(self, logits: _Floats, out: _Floats) -> _Floats:
        """Write the logits with penalties and bias into `out`, and return it."""
        if self._added is None:
            self._added = self._begin(len(logits))
        if self._scale is None or self._spare is None:
            return np.add(logits, self._added, out=out)
        # A positive logit is divided and a negative one multiplied: for a penalty above 1 that is the lesser
        # of quotient and product, below 1 the greater, and no logit's sign needs to be looked at.
        choose = np.minimum if self._sampling.repetition_penalty > 1 else np.maximum
        np.multiply(logits, self._scale, out=out)
        np.divide(logits, self._scale, out=self._spare)
        choose(out, self._spare, out=out)
        return np.add(out, self._added, out=out)

    def _begin(self, vocabulary: int) -> _Floats:
        added = np.zeros(vocabulary, dtype=np.float32)
        for token in {*self._sampling.logit_bias, *self._said}:
            added[token] = self._sum(token)
        if self._sampling.repetition_penalty != 1:
            self._scale = np.ones(vocabulary, dtype=np.float32)
            self._scale[[*self._prompt, *self._said]] = self._sampling.repetition_penalty
            self._spare = np.empty(vocabulary, dtype=np.float32)
        return added

    def _sum(self, token: int) -> float:
        # Anew from the count: a sum that grew in single precision would drift.
        sampling, count = self._sampling, self._said[token]
        bias = sampling.logit_bias.get(token, 0.0)
        return bias - (count > 0) * sampling.presence_penalty - count * sampling.frequency_penalty
