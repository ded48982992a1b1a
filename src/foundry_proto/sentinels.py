"""Values that stand for "nothing": members of an `Enum`, so that type checkers narrow them.

Knows: that absent, null and value are three things in JSON, and that a parser that lacks data is no error.
Refuses to know: what is absent, or lacking.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias, TypeVar

__all__ = ["ABSENT", "NEED_DATA", "Absent", "Maybe", "NeedData"]

T = TypeVar("T")


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"

    def __bool__(self) -> Literal[False]:
        return False


class NeedData(Enum):
    """The type of `NEED_DATA`."""

    NEED_DATA = "need data"

    def __repr__(self) -> str:
        return "NEED_DATA"


ABSENT: Final = Absent.ABSENT
"""A field that the JSON object did not have; `None` is a null that was written."""

NEED_DATA: Final = NeedData.NEED_DATA
"""What `next_event()` answers when the buffered input holds no further event."""

Maybe: TypeAlias = T | Absent | None
"""A field that may be left out, or null."""
