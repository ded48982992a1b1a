"""From a position's logits to the token that follows, for every engine alike.

Knows: how a job's sampler, grammar and logprobs look at the logits, and when none of them needs to.
Refuses to know: where logits come from, and which tokens end an answer.

    chooser = None if takes_the_likeliest(job) else Chooser(job)
    ...
    chosen = chooser.choose(logits)  # for each token, until an end token, or `chooser.complete`
"""

from __future__ import annotations

import math
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt
from attrs import frozen

from foundry_runtime.engine.api import Job, TokenLogprobs
from foundry_runtime.engine.text.sampler import Sampler, largest

__all__ = ["Chooser", "Chosen", "logprobs_of", "takes_the_likeliest"]

_Floats: TypeAlias = npt.NDArray[np.float32]


@frozen
class Chosen:
    """A token, and how likely it was, where the job asked."""

    id: int
    logprobs: TokenLogprobs | None


def takes_the_likeliest(job: Job) -> bool:
    """Whether a job's next token is always the largest logit's, and nothing is told beside it.

    An engine whose own search finds that one need not hand out logits for it.
    """
    return (
        job.sampling.temperature == 0
        and job.grammar is None
        and job.logprobs is None
        and job.sampling.takes_logits_as_they_are
    )


@final
class Chooser:
    """Chooses the tokens of one job; owned by the engine's thread, made when the job begins.

    It holds up to four floats a token id of the vocabulary.
    """

    def __init__(self, job: Job) -> None:
        self._sampler = Sampler(job.sampling, job.prompt)
        self._guide = None if job.grammar is None else job.grammar.begin()
        self._logprobs = job.logprobs

    @property
    def complete(self) -> bool:
        """Whether the job's grammar lets nothing follow: the answer has ended, with no end token."""
        return self._guide is not None and self._guide.complete

    def choose(self, logits: _Floats) -> Chosen:
        """Choose the next token and take it in; not to be called once it is `complete`.

        Args:
            logits: The model's own, one float32 a token id; left as they are, and not kept.

        Raises:
            ValueError: No token can be chosen.
        """
        guide = self._guide
        token = self._sampler.sample(logits, None if guide is None else guide.constrain)
        self._sampler.accept(token)
        if guide is not None:
            guide.accept(token)
        return Chosen(token, None if self._logprobs is None else logprobs_of(logits, token, self._logprobs))


def logprobs_of(logits: _Floats, token: int, count: int) -> TokenLogprobs:
    """The logarithms of probabilities, by the model alone.

    Args:
        logits: With a finite maximum.
        token: The one that was chosen.
        count: How many of the likeliest are told; those that are impossible never are.
    """
    peak = logits.max()
    # The sum is of numbers up to 1, and in double precision: no vocabulary makes it overflow or drift.
    total = np.exp(logits - peak).sum(dtype=np.float64)
    base = float(peak) + math.log(total)
    top: list[tuple[int, float]] = []
    if count:
        ids = np.sort(largest(logits, min(count, len(logits))))
        ids = ids[np.argsort(-logits[ids], kind="stable")]  # of equals the lower id first, as it is chosen
        top = [(int(one), float(logits[one]) - base) for one in ids if np.isfinite(logits[one])]
    return TokenLogprobs(logprob=float(logits[token]) - base, top=tuple(top))
