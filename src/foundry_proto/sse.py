"""Server-sent events: bytes to events and back, by the rules of WHATWG HTML, section 9.2.

Knows: the event stream's grammar, each of its fields, what survives from one event to the next, and the shape
that nearly every event of a chat has (one `data:` line and a blank one), which takes a short way that decides
nothing differently.
Refuses to know: JSON, `[DONE]`, reconnecting, HTTP.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field, frozen

from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.lines import LineBuffer
from foundry_proto.sentinels import NEED_DATA, NeedData

__all__ = ["SSEDecoder", "ServerSentEvent", "encode_data", "encode_event"]

_LF: Final = 0x0A
_CR: Final = 0x0D
_BOM: Final = b"\xef\xbb\xbf"
# Choice: the standard sets no bound to `retry`. A value of more digits (thirty thousand years) is ignored,
# like any other that is no time: no peer shall make us convert a number of a million digits.
_MOST_RETRY_DIGITS: Final = 15


# Not keyword-only, unlike other events: by keywords an instance costs half as much again, and this class is
# instantiated once a token.
@frozen
class ServerSentEvent:
    """One event of the stream, as a browser would dispatch it."""

    data: str
    """The values of the block's `data` lines, joined by LF."""
    event: str = "message"
    """The event's type; `"message"` where the block names none."""
    id: str = ""
    """The stream's last event id: an event without one of its own has its predecessor's."""
    retry: int | None = None
    """The reconnection time that this very block set, in milliseconds."""


@define(eq=False)
class SSEDecoder:
    """Decode an event stream incrementally; any cut of the same bytes gives the same events.

    Take every event with `next_event` before giving more data: what is kept between two calls of
    `receive_data` is then at most twice `max_event_size` (one event, and one line), and the last event id.

    Invalid UTF-8 becomes U+FFFD, as the standard's "UTF-8 decode" has it; it is no error.

    Args:
        max_event_size: The most bytes that the field lines of one event may have together, and any line
            alone; line endings are not counted, comments and unknown fields only as lines.

    Source: WHATWG HTML, sections 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream".
    """

    _max_event_size: int = field(kw_only=True)
    last_event_id: str = field(init=False, default="")
    """What a client would send as `Last-Event-ID` when it reconnects now."""
    reconnection_time: int | None = field(init=False, default=None)
    """The last valid `retry`, in milliseconds, from a block with or without data; `None` when none came."""
    _lines: LineBuffer = field(init=False)
    # The block so far. `_data` is the standard's data buffer, with an LF behind each value.
    _data: bytearray = field(init=False, factory=bytearray)
    _event: str = field(init=False, default="")
    _id: str = field(init=False, default="")
    _retry: int | None = field(init=False, default=None)
    _size: int = field(init=False, default=0)
    # The last line was blank. False at first: the first line may have a BOM, and goes the long way.
    _between_blocks: bool = field(init=False, default=False)
    _at_first_line: bool = field(init=False, default=True)

    def __attrs_post_init__(self) -> None:
        self._lines = LineBuffer(max_line_size=self._max_event_size)

    def receive_data(self, data: bytes) -> None:
        """Give the next piece of the stream; an empty piece changes nothing.

        Args:
            data: Bytes, cut anywhere.

        Raises:
            LocalProtocolError: The end of the stream was already given.
        """
        self._lines.receive_data(data)

    def receive_eof(self) -> None:
        """Say that the stream has ended: an unfinished event will be discarded, as the standard demands."""
        self._lines.receive_eof()

    def next_event(self) -> ServerSentEvent | NeedData | None:
        """Take the next event.

        Returns:
            The event; `NEED_DATA` when the input so far holds no further one; `None` when the stream is over.

        Raises:
            RemoteProtocolError: A line, or the lines of one event, exceed `max_event_size`; so says every
                later call. Any other exception is a bug.
        """
        if self._between_blocks:
            payload = self._lines.next_lone_line(b"data: ")
            if payload is NEED_DATA:
                return NEED_DATA
            if payload is not None:
                return ServerSentEvent(payload.decode("utf-8", "replace"), "message", self._id, None)
        while True:
            # Checked here, not where it grows, so that asking again gives the same answer.
            if self._size > self._max_event_size:
                raise RemoteProtocolError(f"event: expected at most {self._max_event_size} bytes, got more")
            line = self._lines.next_line()
            if line is None or line is NEED_DATA:
                return line
            if self._at_first_line:
                # The standard's note: UTF-8 decode "strips one leading UTF-8 Byte Order Mark (BOM), if any".
                self._at_first_line = False
                line = line.removeprefix(_BOM)
            if line:
                self._between_blocks = False
                self._interpret(line)
            elif (event := self._end_block()) is not None:
                return event

    def _interpret(self, line: bytes) -> None:
        """Process a line that is not blank; a comment is a field without a name: ignored as unknown."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._data += value
                self._data += b"\n"
            case b"event":
                self._event = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
            # `isdigit` of bytes: ASCII digits only, at least one.
            case b"retry" if value.isdigit() and len(value) <= _MOST_RETRY_DIGITS:
                self.reconnection_time = self._retry = int(value)
            case b"id" | b"retry":
                pass  # a value that means nothing; it counts towards the event's size
            case _:
                return
        self._size += len(line)

    def _end_block(self) -> ServerSentEvent | None:
        """Dispatch the block at its blank line; a block without a `data` line sets the id and is no event."""
        self.last_event_id = self._id
        event = None
        if self._data:
            event = ServerSentEvent(
                data=self._data[:-1].decode("utf-8", "replace"),
                event=self._event or "message",
                id=self._id,
                retry=self._retry,
            )
            self._data.clear()
        self._event = ""
        self._retry = None
        self._size = 0
        self._between_blocks = True
        return event


def encode_data(payload: bytes) -> bytes:
    r"""Encode the common event: one line of data and nothing else.

    Args:
        payload: UTF-8 text in one line, such as JSON.

    Returns:
        `data: PAYLOAD\n\n`.

    Raises:
        LocalProtocolError: The payload has a line ending; `encode_event` takes such text.
    """
    if _LF in payload or _CR in payload:
        raise LocalProtocolError("payload: expected one line, got a line ending in it")
    return b"data: %b\n\n" % payload


def encode_event(
    data: str,
    *,
    event: str | None = None,
    id: str | None = None,  # noqa: A002  (the standard's name for the field)
    retry: int | None = None,
) -> bytes:
    """Encode an event of any shape; `SSEDecoder` is the inverse.

    Args:
        data: Any text; each of its lines becomes a `data` line. The format cannot carry a CR: CR and CRLF
            arrive as LF.
        event: The event's type, in one line; `None` leaves it out, and it arrives as `"message"`.
        id: The new last event id, in one line, without NUL; `""` resets it, `None` leaves it as it is.
        retry: The reconnection time in milliseconds.

    Returns:
        The block, with the blank line that ends it.

    Raises:
        LocalProtocolError: A value that the format cannot carry.
    """
    block = ""
    if event is not None:
        block += f"event: {_one_line('event', event)}\n"
    if id is not None:
        if "\0" in id:
            raise LocalProtocolError(f"id: expected text without NUL, got {id!r}")
        block += f"id: {_one_line('id', id)}\n"
    if retry is not None:
        if not 0 <= retry < 10**_MOST_RETRY_DIGITS:
            raise LocalProtocolError(f"retry: expected milliseconds from 0 to 10**15 - 1, got {retry}")
        block += f"retry: {retry}\n"
    for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        block += f"data: {line}\n"
    try:
        return f"{block}\n".encode()
    except UnicodeEncodeError:
        raise LocalProtocolError("event: expected text that UTF-8 can carry, got a lone surrogate") from None


def _one_line(name: str, value: str) -> str:
    if "\n" in value or "\r" in value:
        raise LocalProtocolError(f"{name}: expected one line, got {value!r}")
    return value
