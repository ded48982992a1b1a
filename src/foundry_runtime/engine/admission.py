"""What any engine refuses before a job begins.

Knows: the limits that follow from the contract alone: a prompt of known ids that fits the context together
with the allowed output, and sampling values that mean something; how many requests may wait, and how one too
many is told.
Refuses to know: memory, what a grammar says, and whatever else only one engine can tell.

Native engines take ids outside of the vocabulary silently and then read foreign memory or compute nonsense:
this check is not a courtesy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from foundry_runtime.engine.api import Job, Overloaded, Refused, Sampling

__all__ = ["MOST_WAITING", "check_ids", "check_job", "check_queue"]

MOST_WAITING: Final = 128
"""How many requests may wait for one model, where nothing else is said: half of those that a server works on,
so that one model's queue leaves room for the others."""


def check_job(
    job: Job, *, context_length: int, vocabulary: int | None = None, has_logits: bool = True
) -> None:
    """Refuse a job that can never run.

    Args:
        job: What was asked for.
        context_length: Most tokens of prompt and output together.
        vocabulary: How many token ids there are; `None` leaves the ids unchecked.
        has_logits: Whether the engine chooses tokens from logits. Without them it can follow no grammar, tell
            no logprobs, and apply no penalties and no bias.

    Raises:
        Refused: With the value and what was expected. A prompt that is too long for the context has OpenAI's
            code `context_length_exceeded`.
    """
    prompt = job.prompt
    if len(prompt) == 0:
        raise Refused("the prompt has no tokens: expected at least one")
    if vocabulary is not None:
        check_ids(prompt, "prompt", vocabulary=vocabulary)
    if job.max_tokens < 1:
        raise Refused(f"max_tokens: expected at least 1, got {job.max_tokens}", param="max_tokens")
    if job.logprobs is not None and job.logprobs < 0:
        raise Refused(f"logprobs: expected at least 0, got {job.logprobs}", param="logprobs")
    _check_sampling(job.sampling)
    _check_bias(job.sampling.logit_bias, vocabulary)
    if not has_logits:
        _check_for_no_logits(job)
    if len(prompt) + job.max_tokens > context_length:
        raise Refused(
            f"the prompt has {len(prompt)} tokens and max_tokens is {job.max_tokens}: "
            f"together they exceed the model's context of {context_length} tokens",
            code="context_length_exceeded",
        )


def check_ids(ids: Sequence[int], name: str, *, vocabulary: int) -> None:
    """Refuse ids that a model does not have.

    Args:
        ids: At least one.
        name: Which of the request's fields they are.
        vocabulary: How many token ids there are.

    Raises:
        Refused: With the first id that is none, and where it stands.
    """
    if not (min(ids) >= 0 and max(ids) < vocabulary):
        index, token = next((i, t) for i, t in enumerate(ids) if not 0 <= t < vocabulary)
        place = f"{name}[{index}]"
        raise Refused(f"{place}: expected a token id below {vocabulary}, got {token}", param=place)


def check_queue(waiting: int, *, most: int, seconds: float) -> None:
    """Turn a job away that would wait behind too many.

    Args:
        waiting: How many are before it that do not run, nor can begin as soon as the engine steps.
        most: How many may.
        seconds: How long those take, as far as that is known.

    Raises:
        Overloaded: There are as many as may be.
    """
    if waiting >= most:
        are = "request is" if most == 1 else "requests are"
        raise Overloaded(f"{most} {are} waiting for this model already", retry_after=seconds)


_NUMBERS: Final[Mapping[str, tuple[float, float]]] = {
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repetition_penalty": (0.1, 10),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
"""Least and most, both allowed."""

_LARGEST_BIAS: Final = 100


def _check_sampling(sampling: Sampling) -> None:
    if not 0 <= sampling.temperature < math.inf:
        raise Refused(
            f"temperature: expected a finite number of at least 0, got {sampling.temperature}",
            param="temperature",
        )
    if sampling.top_k < 0:
        raise Refused(f"top_k: expected at least 0, got {sampling.top_k}", param="top_k")
    for name, (least, most) in _NUMBERS.items():
        value = getattr(sampling, name)
        if not least <= value <= most:
            raise Refused(f"{name}: expected a number from {least} to {most}, got {value}", param=name)


def _check_bias(biases: Mapping[int, float], vocabulary: int | None) -> None:
    for token, bias in biases.items():
        name = f"logit_bias.{token}"
        if token < 0 or (vocabulary is not None and token >= vocabulary):
            limit = "" if vocabulary is None else f" below {vocabulary}"
            raise Refused(f"{name}: expected a token id{limit}, got {token}", param=name)
        if not -_LARGEST_BIAS <= bias <= _LARGEST_BIAS:
            raise Refused(
                f"{name}: expected a number from -{_LARGEST_BIAS} to {_LARGEST_BIAS}, got {bias}", param=name
            )


def _check_for_no_logits(job: Job) -> None:
    plain = Sampling()
    asked = {
        "response_format": job.grammar is not None,
        "logprobs": job.logprobs is not None,
        "logit_bias": any(job.sampling.logit_bias.values()),
        **{
            name: getattr(job.sampling, name) != getattr(plain, name)
            for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")
        },
    }
    for name, needed in asked.items():
        if needed:
            raise Refused(f"{name}: needs logits, which this model's engine does not have", param=name)
