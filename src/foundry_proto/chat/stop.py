"""Where a text stops: the stop sequences of a request, matched in text that comes in pieces.

Knows: which end of the text might still become a stop sequence, and holds back exactly that; which match
counts when several are there. Time is linear in the text, whatever the sequences.
Refuses to know: tokens, bytes, how many sequences a request may have.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from attrs import define, field

from foundry_proto.errors import LocalProtocolError

__all__ = ["StopMatcher"]


@define(eq=False)
class _Candidate:
    """One stop sequence, and how much of it the text so far ends with (Knuth, Morris and Pratt)."""

    sequence: str
    matched: int = 0
    # At i: how long a proper prefix of the sequence its first i + 1 characters end with. It grows only as far
    # as a match has come, so a sequence of a megabyte costs nothing until a text follows it.
    _borders: list[int] = field(init=False, factory=lambda: [0])

    def step(self, char: str) -> None:
        self.matched = self._extend(self.matched, char)
        known = len(self._borders)
        if self.matched > known:
            self._borders.append(self._extend(self._borders[-1], self.sequence[known]))

    def _extend(self, matched: int, char: str) -> int:
        """Return what is matched after `char`, when `matched` characters were before it."""
        while matched and self.sequence[matched] != char:
            matched = self._borders[matched - 1]
        return matched + (self.sequence[matched] == char)


@define(eq=False)
class StopMatcher:
    """Let text through up to the first stop sequence; any cut of the same text gives the same text.

    The first match is the one that *ends* first; of several that end at the same character, the longest. No
    character of it leaves, and nothing behind it.

    Args:
        stops: The stop sequences, none of them empty.

    Raises:
        LocalProtocolError: A sequence is empty, or `stops` is one string.
    """

    _stops: Sequence[str]
    stopped: str | None = field(init=False, default=None)
    """The stop sequence that matched; `None` while none has."""
    _candidates: list[_Candidate] = field(init=False)
    _finished: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        if isinstance(self._stops, str):
            raise LocalProtocolError(f"stops: expected a sequence of strings, got the string {self._stops!r}")
        for index, stop in enumerate(self._stops):
            if not stop:
                raise LocalProtocolError(f"stops[{index}]: expected a string that is not empty, got ''")
        self._candidates = [_Candidate(stop) for stop in self._stops]

    def push(self, text: str) -> str:
        """Give the next piece of the text.

        Args:
            text: Any text; it is ignored once a sequence has matched.

        Returns:
            What may leave now: all but the longest end of the text that a stop sequence begins with.

        Raises:
            LocalProtocolError: The text was already finished.
        """
        if self._finished:
            raise LocalProtocolError("expected no call after finish")
        # Choice: ignored, not refused: another cut of the same text would have put it behind the match.
        if self.stopped is not None:
            return ""
        source, held = self._held()
        if not held and not any(candidate.sequence[0] in text for candidate in self._candidates):
            return text
        read = 0
        for char in text:
            read += 1
            for candidate in self._candidates:
                candidate.step(char)
                if candidate.matched == len(candidate.sequence) > len(self.stopped or ""):
                    self.stopped = candidate.sequence
            if self.stopped is not None:
                break
        leaving = held + read - (self._held()[1] if self.stopped is None else len(self.stopped))
        return source[: min(leaving, held)] + text[: max(leaving - held, 0)]

    @property
    def held(self) -> int:
        """How many characters are held back: a stop sequence may yet be made of them, or was."""
        return self._held()[1]

    def finish(self) -> str:
        """Say that the text is complete.

        Returns:
            What was held back; empty when a sequence has matched.

        Raises:
            LocalProtocolError: The text was already finished.
        """
        if self._finished:
            raise LocalProtocolError("expected no call after finish")
        self._finished = True
        source, held = self._held()
        return source[:held] if self.stopped is None else ""

    def _held(self) -> tuple[str, int]:
        """Return what is held back, as the beginning of a sequence: nothing needs to be stored or copied."""
        longest = max(self._candidates, key=_get_matched, default=_NOTHING)
        return longest.sequence, longest.matched


_get_matched = attrgetter("matched")
_NOTHING: Final = _Candidate("")
