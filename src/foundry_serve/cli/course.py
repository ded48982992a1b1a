"""How a long work goes on, in words: how much, how fast, and how long it will take.

Knows: the last seconds alone, since a line's speed of an hour ago tells nothing; and that what was there
before it began was not fast. Refuses to know: any clock, and where the words are shown.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from attrs import define, field

from foundry_runtime.download.work import Share

__all__ = ["Course", "shown_bytes", "shown_time"]

_WINDOW: Final = 10.0
"""Seconds that count for the speed."""
_SOONEST: Final = 1.0
"""Seconds behind which there is a speed to tell."""
_STEP: Final = 0.1
"""Seconds between two marks of the window."""


@define
class Course:
    """A work under way; tell it of each step."""

    what: str = ""
    """What is worked on: a file, for one."""
    fraction: float = 0.0
    """How much of the whole is done, from 0 to 1."""
    _share: Share | None = field(init=False, default=None)
    _marks: deque[tuple[float, float]] = field(init=False, factory=deque)

    def told(self, now: float, what: str, fraction: float) -> None:
        """Take a step.

        Args:
            now: Seconds on any clock that runs evenly.
            what: What is worked on.
            fraction: How much of the whole is done, from 0 to 1; a `Share` says of how many bytes, too.
        """
        share = fraction if isinstance(fraction, Share) else None
        if (share is None) != (self._share is None) or (
            share is not None and self._share is not None and share.total != self._share.total
        ):
            self._marks.clear()  # another part of the work has begun
        self.what, self.fraction, self._share = what, float(fraction), share
        position = fraction if share is None else share.done
        if not self._marks or now - self._marks[-1][0] >= _STEP:
            self._marks.append((now, position))
            while now - self._marks[0][0] > _WINDOW:
                self._marks.popleft()

    def amount(self) -> str:
        """`1.2 of 3.0 GB`; empty where bytes are not counted."""
        if self._share is None:
            return ""
        unit = _unit_of(self._share.total)
        return f"{_number(self._share.done, unit)} of {_number(self._share.total, unit)} {_UNITS[unit]}"

    def speed(self) -> str:
        """`7.8 MB/s`; empty where bytes are not counted, or where it is too early to say."""
        rate = self._rate()
        return "" if rate is None or self._share is None else f"{shown_bytes(rate)}/s"

    def left(self) -> str:
        """`5:12`, in minutes and seconds, or with hours; empty where that cannot be known."""
        rate = self._rate()
        if not rate:
            return ""
        rest = 1 - self.fraction if self._share is None else self._share.total - self._share.done
        return shown_time(rest / rate)

    def __str__(self) -> str:
        """All of it, as a line."""
        left = f"{self.left()} left" if self.left() else ""
        facts = (f"{self.fraction:.0%}", self.amount(), self.speed(), left)
        return f"{self.what}: {', '.join(filter(None, facts))}"

    def _rate(self) -> float | None:
        """Units a second."""
        if not self._marks:
            return None
        (begin, before), (end, after) = self._marks[0], self._marks[-1]
        return None if end - begin < _SOONEST else max(0.0, (after - before) / (end - begin))


_UNITS: Final = ("B", "KB", "MB", "GB", "TB")
"""Each 1024 times the one before, as the sizes of models are listed."""


def shown_bytes(count: float) -> str:
    """A number of bytes, as people read it: `7.8 MB`."""
    unit = _unit_of(count)
    return f"{_number(count, unit)} {_UNITS[unit]}"


def shown_time(seconds: float) -> str:
    """A span of time: `0:09`, `5:12`, `1:02:03`."""
    minutes, rest = divmod(round(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _unit_of(count: float) -> int:
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return unit


def _number(count: float, unit: int) -> str:
    return f"{count:.0f}" if unit == 0 else f"{count / 1024**unit:.1f}"
