"""Which prompt is computed next, and how much of it at a time: the one policy of a batched engine, pure.

Knows: how long each prompt still takes, when it came, and how long running streams may wait for their next
token. Refuses to know: tokens, rows, clocks (time is an argument).

Order: the prompt whose *arrival plus remaining work* is least, both in seconds, comes next. Short prompts
pass long ones, so that a question need not wait for a book that came just before it; and age counts as much
as work, so that nothing starves: a prompt of w seconds is passed only by what arrives less than w seconds
after it. Within a burst this is the shortest remaining time first, which makes the mean time to first token
least; and since a prompt that is being computed only comes nearer, it is never put off for an equal one.

Amount: a step's prefill takes as long as a cancelled job may wait (`alone`) when no stream runs; otherwise
what `beside` leaves after one decode of all running streams: that sum is the gap between their tokens while
prompts are computed. It is one slice; what is left of the time goes to further prompts that end within it, so
that short ones, or those whose beginning is kept, do not each wait for a decode of all the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar, final

from foundry_runtime.engine.prefill import PrefillSpeed, slice_length

__all__ = ["Schedule", "Waiting"]

_NEWEST: Final = 0.3
"""The weight of the newest decode: one disturbed step does not decide the next slice."""
_CAUTIOUS_SPEED: Final = 200.0
"""Tokens a second that are supposed before any was measured."""


class Waiting(Protocol):
    """A prompt as the policy sees it."""

    @property
    def arrived(self) -> float:
        """When it came, in seconds of the engine's clock."""
        ...

    @property
    def remaining(self) -> int:
        """How many of its tokens are not computed yet."""
        ...


WaitingT = TypeVar("WaitingT", bound=Waiting)


@final
class Schedule:
    """Decides; learns from what it is told of the time that work took.

    Args:
        alone: Seconds that a slice may take when no stream runs.
        beside: Seconds that a slice and a decode of all running streams may take together.
    """

    def __init__(self, *, alone: float = 0.1, beside: float = 0.12) -> None:
        self._alone = alone
        self._beside = beside
        self._speed = PrefillSpeed()
        self._decode = 0.0

    def first(self, prompts: Iterable[WaitingT]) -> WaitingT | None:
        """The prompt that comes next; of equals the one that stands first. `None` without prompts."""
        return min(prompts, key=lambda prompt: prompt.arrived + self.seconds(prompt.remaining), default=None)

    def slice(self, remaining: int, *, running: int) -> int:
        """How many of a prompt's remaining tokens to compute in this step.

        Args:
            remaining: Tokens that are not computed; those that are end at a multiple of 16.
            running: How many streams wait for their next token meanwhile.
        """
        return slice_length(remaining, self._allowed(running) * self._speed.tokens_per_second)

    def has_time(self, remaining: int, *, running: int, spent: float) -> bool:
        """Whether all that remains of a further prompt can be computed in a step that has computed one.

        Args:
            remaining: Tokens that are not computed.
            running: How many streams wait for their next token meanwhile.
            spent: Seconds that the step has taken.
        """
        return self.seconds(remaining) <= self._allowed(running) - spent

    def _allowed(self, running: int) -> float:
        """Seconds for the prompts of a step."""
        return max(self._beside - self._decode, 0.0) if running else self._alone

    def seconds(self, tokens: int) -> float:
        """How long so many tokens of prompts will take with nothing beside them."""
        return tokens / (self._speed.tokens_per_second or _CAUTIOUS_SPEED)

    @property
    def decode_seconds(self) -> float:
        """How long a decode of all running streams takes; 0 before any was measured."""
        return self._decode

    def prefilled(self, tokens: int, seconds: float) -> None:
        """Learn how long a slice took."""
        self._speed.measured(tokens, seconds)

    def decoded(self, seconds: float) -> None:
        """Learn how long a decode of all running streams took."""
        self._decode += (_NEWEST if self._decode else 1.0) * (seconds - self._decode)
