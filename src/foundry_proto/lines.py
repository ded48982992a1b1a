"""Bytes in, lines out: what the decoders of line-based streams stand on.

Knows: that a line ends with LF, CR or CRLF, wherever the input was cut; how long a line may become; and where
the next line ending is. A byte is searched when it arrives and when the line before it is taken, never again:
time is linear in the input, however small its pieces and however long its lines.
Refuses to know: encodings, and what a line means.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.sentinels import NEED_DATA, NeedData

__all__ = ["LineBuffer"]

# Integers: looking for `b"\n"` with `in` costs seven times as much.
_LF: Final = 0x0A
_CR: Final = 0x0D


@define(eq=False)
class LineBuffer:
    """Split a byte stream into lines, incrementally.

    Take every line with `next_line` before giving more data: what is kept between two calls of
    `receive_data` is then one unfinished line, of at most `max_line_size` bytes.

    Args:
        max_line_size: The most bytes of one line, its ending not counted.

    Source: the line endings are those of WHATWG HTML, section 9.2.5, "Parsing an event stream".
    """

    _max_line_size: int = field(kw_only=True)
    _buffer: bytearray = field(init=False, factory=bytearray)
    # Where the next line begins, and the first LF and CR from there on; -1: the buffer holds none.
    _start: int = field(init=False, default=0)
    _lf: int = field(init=False, default=-1)
    _cr: int = field(init=False, default=-1)
    # The input so far ended with CR: an LF that comes first in the next piece belongs to it.
    _after_cr: bool = field(init=False, default=False)
    _eof: bool = field(init=False, default=False)

    def receive_data(self, data: bytes) -> None:
        """Give the next piece of the stream; an empty piece changes nothing.

        Args:
            data: Bytes, cut anywhere.

        Raises:
            LocalProtocolError: The end of the stream was already given.
        """
        if self._eof:
            raise LocalProtocolError("receive_data: expected no data after receive_eof")
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == _LF:
                data = data[1:]
        buffer = self._buffer
        if self._start:
            self._drop_taken()
        if _LF in data and self._lf < 0:
            self._lf = len(buffer) + data.index(_LF)
        if _CR in data and self._cr < 0:
            self._cr = len(buffer) + data.index(_CR)
        buffer += data

    def receive_eof(self) -> None:
        """Say that the stream has ended; saying it again changes nothing."""
        self._eof = True

    def next_line(self) -> bytes | NeedData | None:
        """Take the next line.

        Returns:
            The line without its ending; `NEED_DATA` when none is complete; `None` when the stream has ended
            and every complete line was taken (`take_rest` has what stands behind the last ending).

        Raises:
            RemoteProtocolError: The line is longer than `max_line_size`; so says every later call.
        """
        lf, cr = self._lf, self._cr
        end = lf if cr < 0 or 0 <= lf < cr else cr
        if (end if end >= 0 else len(self._buffer)) - self._start > self._max_line_size:
            raise RemoteProtocolError(f"line: expected at most {self._max_line_size} bytes, got more")
        if end < 0:
            return None if self._eof else NEED_DATA
        line = bytes(self._buffer[self._start : end])
        if end == cr:
            self._pass_cr()
        else:
            self._start = end + 1
            self._lf = self._buffer.find(b"\n", end + 1)
        return line

    def next_lone_line(self, prefix: bytes) -> bytearray | NeedData | None:
        """Take the next line together with the blank line behind it: the short way for a common shape.

        It decides nothing that `next_line` would decide otherwise: in doubt it takes nothing.

        Args:
            prefix: What the line must begin with.

        Returns:
            The line without `prefix` (a fresh bytearray: one copy less); `NEED_DATA` when more input will
            tell; `None`, with nothing taken, when the input has another shape, holds a CR, breaks the limit,
            or has ended: ask `next_line`.
        """
        buffer, start, end = self._buffer, self._start, self._lf
        behind = end + 1
        if 0 < behind < len(buffer):
            if (
                buffer[behind] != _LF
                or self._cr >= 0
                or end - start > self._max_line_size
                or not buffer.startswith(prefix, start)
            ):
                return None
            self._start = behind = behind + 1
            self._lf = buffer.find(b"\n", behind)
            return buffer[start + len(prefix) : end]
        if self._cr >= 0 or self._eof or len(buffer) - start > self._max_line_size:
            return None
        return NEED_DATA

    def take_rest(self) -> bytes:
        """Take what stands behind the last line ending, once the stream has ended.

        Returns:
            The unterminated rest; empty when the stream ended with a line ending, and on a second call.

        Raises:
            LocalProtocolError: The stream has not ended, or complete lines are still to be taken.
            RemoteProtocolError: The rest is longer than `max_line_size`.
        """
        if self.next_line() is not None:
            raise LocalProtocolError("take_rest: expected the end of the stream and every line taken")
        rest = bytes(self._buffer[self._start :])
        self._start = len(self._buffer)
        return rest

    def _pass_cr(self) -> None:
        """Move behind the next CR, and behind the LF that may belong to it."""
        buffer = self._buffer
        self._start = self._cr + 1
        self._cr = buffer.find(b"\r", self._start)
        if self._start == len(buffer):
            self._after_cr = True
        elif self._lf == self._start:
            self._start += 1
            self._lf = buffer.find(b"\n", self._start)

    def _drop_taken(self) -> None:
        """Forget the bytes of the lines already taken."""
        start = self._start
        del self._buffer[:start]
        self._start = 0
        if self._lf >= 0:
            self._lf -= start
        if self._cr >= 0:
            self._cr -= start
