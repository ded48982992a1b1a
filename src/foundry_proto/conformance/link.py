"""One connection as a case sees it: requests out as bytes, replies in, read as strictly as HTTP/1.1 allows.

Knows: how a reply is framed (RFC 9112), and when each piece of it came.
Refuses to know: what a reply should say, and who moves the bytes (`steps.py`).

A reply that is no HTTP, or none at all, is an `Unmet`: nothing else can be judged then.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from attrs import define, evolve, field, frozen

from foundry_proto.conformance.problems import Unmet
from foundry_proto.conformance.steps import Close, Happened, Open, Receive, Script, Send
from foundry_proto.events import Headers, header

__all__ = ["Framing", "Link", "Piece", "Reply", "connect"]

Framing = Literal["none", "length", "chunked", "close"]

_MOST: Final = 16 * 1024 * 1024
"""Bytes of a reply: more is no answer to anything that a case asks."""
_STATUS_LINE: Final = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9]{2})(?: ([^\r\n]*))?")
_HEADER_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")


@frozen(kw_only=True)
class Piece:
    """A piece of a body, as it was framed or as it came."""

    data: bytes
    at: float
    """When it was whole."""


@frozen(kw_only=True)
class Reply:
    """A reply, read to its end."""

    status: int
    version: str
    """`1.1`, or `1.0`."""
    headers: Headers
    framing: Framing
    pieces: tuple[Piece, ...] = ()
    interim: tuple[int, ...] = ()
    """The statuses that came before, such as 100."""

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(piece.data for piece in self.pieces)

    def header(self, name: str) -> str | None:
        """Give a header's value; `None` without one."""
        value = header(self.headers, name.encode())
        return None if value is None else value.decode("latin-1")


@define
class Link:
    """A connection, and what is known of the reply under way on it."""

    number: int
    patience: float
    """Seconds that the server may be silent."""
    _buffer: bytearray = field(init=False, factory=bytearray)
    _end: str = field(init=False, default="")
    """Why nothing more comes; empty while more may come."""
    _at: float = field(init=False, default=0.0)
    _left: int = field(init=False, default=0)
    """Bytes of the body, or of the chunk, that are still to come."""
    _reply: Reply | None = field(init=False, default=None)
    _pieces: list[Piece] = field(init=False, factory=list)

    def send(self, data: bytes) -> Script[bool]:
        """Send bytes; whether the server still takes them."""
        happened: Happened = yield Send(self.number, data)
        return happened.outcome == "done"

    def close(self) -> Script[None]:
        """Close the connection."""
        yield Close(self.number)

    def _more(self, patience: float | None = None) -> Script[bool]:
        """Wait for more bytes; whether there are any."""
        if self._end:
            return False
        happened: Happened = yield Receive(self.number, self.patience if patience is None else patience)
        self._at = happened.at
        self._buffer += happened.data
        if happened.outcome in ("end", "lost"):
            self._end = {"end": "the end of the connection", "lost": "a reset of the connection"}[
                happened.outcome
            ]
        return happened.outcome == "data"

    def _need(self, what: str) -> Script[None]:
        if len(self._buffer) > _MOST:
            raise Unmet("framing", f"expected {what}, got {_MOST} bytes without it")
        if not (yield from self._more()):
            raise Unmet("connection", f"expected {what}, got {self._end or self._silence()}")

    def _silence(self) -> str:
        return f"nothing for {self.patience:g} s"

    def _line(self, what: str) -> Script[bytes]:
        while (end := self._buffer.find(b"\r\n")) < 0:
            yield from self._need(what)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def take(self, count: int, what: str) -> Script[bytes]:
        """Read so many bytes, of a protocol that the connection has been switched to."""
        while len(self._buffer) < count:
            yield from self._need(what)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def head(self, method: str = "GET") -> Script[Reply]:
        """Read the next reply's head; its body comes with `piece`.

        Args:
            method: Of the request that it answers: a reply to HEAD has no body.
        """
        interim: list[int] = []
        while True:
            version, status, headers = yield from self._head()
            if status >= 200 or status == 101:
                break
            interim.append(status)
        self._pieces.clear()
        framing = _framing(method, status, headers)
        if framing == "length":
            self._left = int(header(headers, b"content-length") or 0)
        self._reply = Reply(
            status=status,
            version=version,
            headers=headers,
            framing=framing,
            interim=tuple(interim),
        )
        return self._reply

    def _head(self) -> Script[tuple[str, int, Headers]]:
        line = yield from self._line("a status line")
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Unmet("framing", f"expected a status line, got {line[:80]!r}")
        headers: list[tuple[bytes, bytes]] = []
        while line := (yield from self._line("the rest of a reply's head")):
            field_line = _HEADER_LINE.fullmatch(line)
            if field_line is None:
                raise Unmet("framing", f"expected a header line, got {line[:80]!r}")
            headers.append((field_line[1].lower(), field_line[2]))
        return match[1].decode(), int(match[2]), tuple(headers)

    def piece(self) -> Script[Piece | None]:
        """Read the next piece of the body; `None` when it is whole."""
        assert self._reply is not None
        match self._reply.framing:
            case "chunked":
                data = yield from self._chunk()
            case "length" | "close":
                data = yield from self._some(whole=self._reply.framing == "length")
            case _:
                data = b""
        if not data:
            return None
        piece = Piece(data=data, at=self._at)
        self._pieces.append(piece)
        return piece

    def _some(self, *, whole: bool) -> Script[bytes]:
        """The body's bytes as they come."""
        if whole and not self._left:
            return b""
        if not self._buffer and not (yield from self._more()):
            if whole or not self._end:
                raise Unmet("framing", f"expected the rest of a body, got {self._end or self._silence()}")
            return b""
        data = bytes(self._buffer[: self._left] if whole else self._buffer)
        del self._buffer[: len(data)]
        self._left -= len(data) if whole else 0
        return data

    def _chunk(self) -> Script[bytes]:
        line = yield from self._line("a chunk's size")
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise Unmet("framing", f"expected a chunk's size, got {line[:80]!r}")
        length = int(size[1], 16)
        if not length:
            while (yield from self._line("the end of a chunked body")):
                pass
            return b""
        while len(self._buffer) < length + 2:
            yield from self._need("the rest of a chunk")
        data = bytes(self._buffer[:length])
        if self._buffer[length : length + 2] != b"\r\n":
            raise Unmet("framing", "expected CRLF behind a chunk, got something else")
        del self._buffer[: length + 2]
        return data

    def rest(self) -> Script[Reply]:
        """Read the reply under way to its end."""
        while (yield from self.piece()) is not None:
            pass
        assert self._reply is not None
        return evolve(self._reply, pieces=tuple(self._pieces))

    def reply(self, method: str = "GET") -> Script[Reply]:
        """Read the next reply to its end."""
        yield from self.head(method)
        return (yield from self.rest())

    def reply_or_end(self, method: str = "GET") -> Script[Reply | None]:
        """Read the next reply to its end; `None` where the server closes the connection without one."""
        while not self._buffer and (yield from self._more()):
            pass
        if not self._buffer:
            if self._end:
                return None
            raise Unmet("time", f"expected an answer or the end of the connection, got {self._silence()}")
        return (yield from self.reply(method))

    def wait_for_continue(self) -> Script[bool]:
        """Whether the next that comes is `100 Continue`."""
        version, status, _ = yield from self._head()
        return version == "1.1" and status == 100

    def closes(self, patience: float) -> Script[bool]:
        """Whether the server closes the connection within a time, sending nothing more."""
        while not self._buffer and (yield from self._more(patience)):
            pass
        return bool(self._end) and not self._buffer


def _framing(method: str, status: int, headers: Headers) -> Framing:
    """How a body is framed (RFC 9112, section 6.3)."""
    coding, length = header(headers, b"transfer-encoding"), header(headers, b"content-length")
    lengths = {value for name, value in headers if name == b"content-length"}
    if coding is not None and length is not None:
        raise Unmet("framing", "expected Transfer-Encoding or Content-Length, got both")
    if len(lengths) > 1 or (length is not None and not length.isdigit()):
        raise Unmet("framing", f"content-length: expected one number, got {sorted(lengths)}")
    if status in (101, 204, 304) and coding is not None:
        raise Unmet("framing", f"expected no Transfer-Encoding with status {status}, got {coding!r}")
    if method == "HEAD" or status in (101, 204, 304):
        return "none"
    if coding is not None:
        if coding.lower() != b"chunked":
            raise Unmet("framing", f"transfer-encoding: expected chunked, got {coding!r}")
        return "chunked"
    return "close" if length is None else "length"


def connect(patience: float) -> Script[Link]:
    """Open a connection."""
    happened: Happened = yield Open()
    if happened.outcome != "done":
        raise Unmet("connection", "expected a connection to the server, got none")
    return Link(happened.connection, patience)
