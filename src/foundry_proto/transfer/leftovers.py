"""What an earlier attempt at a download has left in the folder, as far as it is certain.

Knows: when a file's size is proof enough, when only its record is, and when nothing but its hash will do.
Refuses to know: how a record looks (`record.py`), and what is done with what is left (`machine.py`).

The laws:
- A file that a record names has the bytes that the record says, and no others.
- A file of the right size that no record names is as it was put there: whole, since a file stands in a saved
  record before it is made.
- Where the record cannot be read, any file may be half done: it counts only if its hash can be looked at.
- A file that has changed at its source, or on the disk, counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from foundry_proto.transfer.plan import WantedFile
from foundry_proto.transfer.record import decode_record
from foundry_proto.transfer.spans import Spans

__all__ = ["Leftover", "Leftovers"]


@frozen(kw_only=True)
class Leftover:
    """What is left of one file."""

    done: Spans
    """The bytes that are on the disk."""
    recorded: bool
    """Whether a record names it, as the next ones must until it is whole."""
    verified: str | None
    """The hash that all of it was found to have, if that is the wanted one."""


class Leftovers:
    """What is left of all files.

    Args:
        found: The size of each file that is in the folder, by path.
        record: What an earlier attempt has saved, whatever became of it since; `None` if there is nothing.
    """

    def __init__(self, found: Mapping[str, int], record: bytes | None) -> None:
        known = None if record is None else decode_record(record)
        self._found = found
        self._has_lost_record = record is not None and known is None
        self._begun = {} if known is None else {entry.path: entry for entry in known.begun}
        self._verified = {} if known is None else known.verified

    def of(self, wanted: WantedFile) -> Leftover | None:
        """Say what is left of a file; `None` where nothing counts."""
        entry = self._begun.get(wanted.path)
        if self._found.get(wanted.path) != wanted.size or (entry is not None and not entry.is_of(wanted)):
            return None
        if self._has_lost_record and wanted.sha256 is None:
            return None
        done = Spans(((0, wanted.size),) if entry is None else entry.spans() or ())
        looked_at = self._verified.get(wanted.path) == wanted.sha256 and not done.gaps(wanted.size).size
        return Leftover(done=done, recorded=entry is not None, verified=wanted.sha256 if looked_at else None)
