"""What is kept of a download while it is not whole, so that the next attempt goes on with it.

Knows: how a record looks on the disk, and that one which is torn, or of another version, says nothing.
Refuses to know: where it is kept.

A line with the version and the hash of what follows; then JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from attrs import field, frozen

from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.transfer.plan import WantedFile
from foundry_proto.transfer.spans import Span, Spans

__all__ = ["Record", "RecordedFile", "decode_record", "encode_record"]

_MAGIC: Final = b"foundry-transfer 1 "


@frozen(kw_only=True)
class RecordedFile:
    """A file that was begun: its bytes are on the disk where `done` says so, and anything elsewhere."""

    path: str
    size: int
    sha256: str | None = None
    tag: str | None = None
    done: tuple[tuple[int, ...], ...]
    """Spans, in their order."""

    @classmethod
    def of(cls, file: WantedFile, done: Spans) -> RecordedFile:
        """Say how far a file is."""
        return cls(path=file.path, size=file.size, sha256=file.sha256, tag=file.tag, done=tuple(done))

    def is_of(self, file: WantedFile) -> bool:
        """Whether it is the same content."""
        return (self.size, self.sha256, self.tag) == (file.size, file.sha256, file.tag)

    def spans(self) -> tuple[Span, ...] | None:
        """What is done; `None` where that cannot be."""
        numbers = [number for span in self.done for number in span]
        in_order = all(one < other for one, other in pairwise([-1, *numbers]))
        if not in_order or any(len(span) != 2 for span in self.done) or max(numbers, default=0) > self.size:
            return None
        return tuple((start, stop) for start, stop in self.done)


@frozen(kw_only=True)
class Record:
    """All that is kept."""

    begun: tuple[RecordedFile, ...] = ()
    verified: Mapping[str, str] = field(factory=dict)
    """The hash of each whole file that was found to have it, by path."""


def encode_record(record: Record) -> bytes:
    """Write a record; `decode_record` is the inverse."""
    body = encode(record)
    return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def decode_record(data: bytes) -> Record | None:
    """Read a record; `None` when it is torn, of another version, or none at all."""
    head, _, body = data.partition(b"\n")
    if head != _MAGIC + hashlib.sha256(body).hexdigest().encode():
        return None
    try:
        record = decode(Record, body)
    except ContentError:
        return None
    return record if all(file.spans() is not None for file in record.begun) else None
