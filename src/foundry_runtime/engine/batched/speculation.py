"""Guessing what comes next from what has been said: the guesses, and whether they pay; pure.

Knows: that text which repeats itself goes on as it did before, and what a check of several guesses costs
against computing one token.
Refuses to know: how a guess is checked, clocks (time is an argument), and what tokens mean.

A guess is only ever a proposal: each token is chosen from the model's own logits, and the first that differs
from its guess ends the step. So nothing changes but the time that it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

__all__ = ["Speculation"]

_NEWEST: Final = 0.2
"""The weight of the newest check."""
_LEAST_GAIN: Final = 1.1
"""Tokens a check must bring for each token that its time could have computed."""
_PAUSE: Final = 64
"""Tokens for which guessing rests when it does not pay; then it is tried again."""


@final
class Speculation:
    """Guesses for one sequence.

    Args:
        look: How many tokens must be the same for what followed them to be guessed again.
        most: How many tokens are guessed at a time.
    """

    def __init__(self, *, look: int = 3, most: int = 7) -> None:
        self._look = look
        self._most = most
        self._tokens: list[int] = []
        self._follows: dict[tuple[int, ...], int] = {}
        """The last tokens of each place, to where they end."""
        self._gain = 0.0
        self._resting = 0

    def guess(self, tokens: Sequence[int]) -> list[int]:
        """What may come next.

        Args:
            tokens: The whole sequence, which has only grown since the last call.

        Returns:
            The guesses; none when nothing is known, or guessing does not pay.
        """
        for token in tokens[len(self._tokens) :]:
            self._take(token)
        if self._resting:
            self._resting -= 1
            return []
        end = len(self._tokens)
        place = self._follows.get(tuple(self._tokens[-self._look :])) if end >= self._look else None
        return [] if place is None else self._tokens[place : place + self._most]

    def _take(self, token: int) -> None:
        # A place is known once a token stands behind it.
        if len(self._tokens) >= self._look:
            self._follows[tuple(self._tokens[-self._look :])] = len(self._tokens)
        self._tokens.append(token)

    def checked(self, tokens: int, seconds: float, of_one: float) -> None:
        """Learn what a check brought.

        Args:
            tokens: How many tokens came of it, at least one.
            seconds: How long it took.
            of_one: How long it takes to compute one token.
        """
        gain = tokens * of_one / max(seconds, 1e-9)
        self._gain = gain if not self._gain else self._gain + _NEWEST * (gain - self._gain)
        if self._gain < _LEAST_GAIN:
            self._gain, self._resting = 0.0, _PAUSE
