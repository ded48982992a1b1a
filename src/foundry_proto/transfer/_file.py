"""How far one file of a transfer is, and one range of it that is on its way."""

from __future__ import annotations

from enum import Enum
from math import inf

from attrs import define, field

from foundry_proto.transfer.actions import Range
from foundry_proto.transfer.plan import WantedFile
from foundry_proto.transfer.spans import Spans

__all__ = ["File", "Flight", "State"]


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
    arrived: int = 0
    """Bytes that have come and are not flushed."""
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


@define
class Flight:
    range: Range
    file: File
    begun: float
    received: int
    """The position up to which bytes have come."""
    flushed: int
    """The position up to which they are on the disk."""
