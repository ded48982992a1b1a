"""What any engine refuses before a job begins.

Knows: the limits that follow from the contract alone: a prompt of known ids that fits the context together
with the allowed output, and sampling values that mean something.
Refuses to know: memory, grammars, and whatever else only one engine can tell.

Native engines take ids outside of the vocabulary silently and then read foreign memory or compute nonsense:
this check is not a courtesy.
"""

from __future__ import annotations

import math

from foundry_runtime.engine.api import Job, Refused, Sampling

__all__ = ["check_job"]


def check_job(job: Job, *, context_length: int, vocabulary: int | None = None) -> None:
    """Refuse a job that can never run.

    Args:
        job: What was asked for.
        context_length: Most tokens of prompt and output together.
        vocabulary: How many token ids there are; `None` leaves the ids unchecked.

    Raises:
        Refused: With the value and what was expected. A prompt that is too long for the context has OpenAI's
            code `context_length_exceeded`.
    """
    prompt = job.prompt
    if len(prompt) == 0:
        raise Refused("the prompt has no tokens: expected at least one")
    if vocabulary is not None and not (min(prompt) >= 0 and max(prompt) < vocabulary):
        index, token = next((i, t) for i, t in enumerate(prompt) if not 0 <= t < vocabulary)
        raise Refused(f"prompt[{index}]: expected a token id below {vocabulary}, got {token}")
    if job.max_tokens < 1:
        raise Refused(f"max_tokens: expected at least 1, got {job.max_tokens}", param="max_tokens")
    _check_sampling(job.sampling)
    if len(prompt) + job.max_tokens > context_length:
        raise Refused(
            f"the prompt has {len(prompt)} tokens and max_tokens is {job.max_tokens}: "
            f"together they exceed the model's context of {context_length} tokens",
            code="context_length_exceeded",
        )


def _check_sampling(sampling: Sampling) -> None:
    if not 0 <= sampling.temperature < math.inf:
        raise Refused(
            f"temperature: expected a finite number of at least 0, got {sampling.temperature}",
            param="temperature",
        )
    if not 0 <= sampling.top_p <= 1:
        raise Refused(f"top_p: expected a number from 0 to 1, got {sampling.top_p}", param="top_p")
    if sampling.top_k < 0:
        raise Refused(f"top_k: expected at least 0, got {sampling.top_k}", param="top_k")
