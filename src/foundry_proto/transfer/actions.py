"""What the driver of a transfer is told to do, one thing at a time.

Knows: which call tells the machine that it was done. Refuses to know: when anything is to be done.
"""

from __future__ import annotations

from attrs import frozen

__all__ = ["Action", "Ended", "Fetch", "Prepare", "Range", "SaveRecord", "Verify", "Wait"]


@frozen(kw_only=True)
class Range:
    """Bytes of one file, to be fetched by one request."""

    number: int
    """No other range of this transfer has it."""
    path: str
    start: int
    stop: int
    """The position behind the last byte."""


@frozen(kw_only=True)
class SaveRecord:
    """Keep these bytes in place of any earlier ones, so that they outlive a crash; then call `saved`."""

    data: bytes


@frozen(kw_only=True)
class Prepare:
    """Make the file anew, with this size and whatever content; then call `prepared`."""

    path: str
    size: int


@frozen(kw_only=True)
class Fetch:
    """Fetch the range, write each byte where it belongs; call `received`, `flushed`, or `failed`."""

    range: Range


@frozen(kw_only=True)
class Verify:
    """Compute the file's SHA-256; then call `verified`."""

    path: str


@frozen(kw_only=True)
class Wait:
    """Nothing is to be done before something happens, or that time has come."""

    until: float | None


@frozen(kw_only=True)
class Ended:
    """Nothing will be done any more, and nothing is on its way."""

    reason: str | None
    """Why it is not whole; `None` when all files are in their place, whole."""


Action = SaveRecord | Prepare | Fetch | Verify | Wait | Ended
"""What `next_action` answers."""
