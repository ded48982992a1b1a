"""How far one file of a transfer is, and one range of it that is on its way.

Knows: the states of a file, and when one that failed may be asked for again.
Refuses to know: which file is next, and what is recorded (`machine.py`).
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Final

from attrs import define, field

from foundry_proto.transfer.actions import Range
from foundry_proto.transfer.plan import WantedFile
from foundry_proto.transfer.spans import Spans

__all__ = ["File", "Flight", "State"]

_FIRST_DELAY: Final = 0.5
"""Seconds to wait after a failure; twice as many after each further one."""
_MOST_DELAY: Final = 60.0


class State(Enum):
    WAITING = "waiting"
    """Nothing of it is on the disk, or nothing that counts."""
    ENTERED = "entered"
    """It stands in the next record."""
    RECORDED = "recorded"
    """That record was saved: the file may be made."""
    PREPARING = "preparing"
    FETCHING = "fetching"
    FETCHED = "fetched"
    """All of it is on the disk; its hash must be looked at."""
    VERIFYING = "verifying"
    WHOLE = "whole"


@define(eq=False)
class File:
    wanted: WantedFile
    state: State = State.WAITING
    done: Spans = field(factory=Spans)
    """Bytes that are on the disk, flushed."""
    todo: Spans = field(factory=Spans)
    """Bytes that are neither done nor on their way."""
    flights: int = 0
    failures: int = 0
    """In a row, without a byte between them."""
    failed_at: float = -inf
    not_before: float = -inf
    """When it may be asked for again."""
    rejections: int = 0
    """How often all of it had another hash."""

    def begin_anew(self) -> None:
        self.state = State.WAITING
        self.done, self.todo = Spans(), Spans([(0, self.wanted.size)])

    def fail(self, begun: float, now: float, *, again_after: float, jitter: float) -> None:
        """Note that a range of it has failed, and leave it in peace for a while.

        Args:
            begun: When the range was begun; one that was on its way when another failed is the same failure.
            now: Seconds on the same clock.
            again_after: Seconds for which the source wants to be left in peace.
            jitter: From 0 to 1: from half the wait to all of it.
        """
        if begun >= self.failed_at:
            self.failures += 1
            self.failed_at = now
        delay = min(_FIRST_DELAY * 2 ** (self.failures - 1), _MOST_DELAY) * (0.5 + jitter / 2)
        self.not_before = max(self.not_before, now + max(delay, again_after))


@define
class Flight:
    range: Range
    file: File
    begun: float
    received: int
    """The position up to which bytes have come."""
    flushed: int
    """The position up to which they are on the disk."""
