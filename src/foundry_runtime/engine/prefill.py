"""How much of a prompt is computed at a time, for every engine that computes prompts in slices.

Knows: which slices leave the answer as it is, and how fast prompts were computed so far.
Refuses to know: engines, clocks, and how long a slice should take.

Slices end at multiples of 16 tokens from the prompt's start; what remains behind the last multiple joins the
slice before it. Slices of 2 to 512 tokens give the same logits to the last bit. A slice of a single token
does not (attention sums up in another order there, and 8-bit weights amplify the difference), so there is
none but for a prompt of one.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["SLICE_UNIT", "PrefillSpeed", "slice_length"]

SLICE_UNIT: Final = 16
"""Tokens; slices end at multiples of it from the prompt's start."""
_LARGEST_SLICE: Final = 128
"""Twice as many compute hardly faster, but a model that is not pruned to the last position's logits then
needs as many rows of the vocabulary's length."""
_NEWEST: Final = 0.3
"""The weight of the newest measurement: one disturbed slice does not decide the next one's length."""


@final
class PrefillSpeed:
    """Tokens a second, as they were measured; 0 before any was."""

    def __init__(self) -> None:
        self.tokens_per_second = 0.0

    def measured(self, tokens: int, seconds: float) -> None:
        """Learn from one slice."""
        speed = tokens / max(seconds, 1e-6)
        weight = _NEWEST if self.tokens_per_second else 1.0
        self.tokens_per_second += weight * (speed - self.tokens_per_second)


def slice_length(remaining: int, wanted: float) -> int:
    """How many of a prompt's remaining tokens to compute at once.

    Args:
        remaining: Tokens that are not computed; those that are end at a multiple of 16.
        wanted: As many as would take the time that a slice should take.

    Returns:
        A multiple of 16 from 16 to 128, or all that remain if they are less than 16 more than that: no slice
        has a single token unless the prompt has.
    """
    size = min(max(int(wanted) // SLICE_UNIT * SLICE_UNIT, SLICE_UNIT), _LARGEST_SLICE)
    return remaining if remaining < size + SLICE_UNIT else size
