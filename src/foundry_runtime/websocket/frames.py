"""WebSocket frames without a transport: bytes in, whole texts out, and back.

Knows: wsproto, which frames; that a message is a text and has a limit, however many fragments it comes in;
what each breach of RFC 6455 is answered with.
Refuses to know: what the texts mean, and time.

The laws:
- Any cut of the same bytes gives the same events; any bytes give events, and never an exception.
- `Closed` is the last event; what comes behind it is forgotten.
- At most the limit is held of a message, and nothing of an empty fragment.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field, frozen
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from foundry_proto.sentinels import NEED_DATA, NeedData

__all__ = [
    "ABNORMAL",
    "GOING_AWAY",
    "NORMAL",
    "NO_TEXT",
    "POLICY",
    "TOO_BIG",
    "UNSUPPORTED",
    "Closed",
    "Frames",
    "Reply",
    "Text",
    "too_big",
]

# RFC 6455, section 7.4.1.
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
UNSUPPORTED: Final = 1003
ABNORMAL: Final = 1006
"""The connection was lost without a word; never sent."""
INVALID: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009

NO_TEXT: Final = "expected a text message, got a binary one"
"""Why a WebSocket is closed with `UNSUPPORTED`."""


def too_big(limit: int) -> str:
    """Say why one is closed with `TOO_BIG`."""
    return f"expected a message of at most {limit} bytes, got more"


@frozen(kw_only=True)
class Text:
    """A whole message."""

    data: bytes
    """UTF-8."""


@frozen(kw_only=True)
class Reply:
    """The peer is owed this, and it means nothing else."""

    data: bytes


@frozen(kw_only=True)
class Closed:
    """The peer has closed, or broken the rules: nothing more comes."""

    code: int
    reason: str
    data: bytes = b""
    """The peer is owed this first."""
    clean: bool = False
    """Whether the peer has said so itself, so that nothing of it is on its way."""


@define
class Frames:
    """One side of a WebSocket whose handshake is done.

    Args:
        limit: The most bytes of a message.
        socket: wsproto's own, for a client, whose frames are masked; by default a server's.
    """

    _limit: int = field(kw_only=True)
    _socket: Connection = field(kw_only=True, factory=lambda: Connection(ConnectionType.SERVER))
    _message: bytearray = field(init=False, factory=bytearray)
    _eof: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; what comes after `Closed` is forgotten.

        Args:
            data: Bytes, cut anywhere.
        """
        if not self._over:
            self._socket.receive_data(data)

    def receive_eof(self) -> None:
        """Say that the peer sends nothing more."""
        self._eof = True

    def next_event(self) -> Text | Reply | Closed | NeedData:
        """Say what has come."""
        while not self._over and (event := next(self._socket.events(), None)) is not None:
            if (meant := self._meaning(event)) is not None:
                return meant
        if self._over or not self._eof:
            return NEED_DATA
        self._over = True
        return Closed(code=ABNORMAL, reason="")

    def _meaning(self, event: Event) -> Text | Reply | Closed | None:
        match event:
            case TextMessage():
                return self._text(event)
            case BytesMessage():
                return self._fail(UNSUPPORTED, NO_TEXT)
            case Ping() if self._socket.state is ConnectionState.OPEN:
                return Reply(data=bytes(self._socket.send(event.response())))
            case CloseConnection():
                return self._closed(event)
            case _:
                return None  # a pong, or a ping that comes too late to be answered

    def _text(self, event: TextMessage) -> Text | Closed | None:
        self._message += event.data.encode()
        if len(self._message) > self._limit:
            return self._fail(TOO_BIG, too_big(self._limit))
        if not event.message_finished:
            return None
        data = bytes(self._message)
        self._message.clear()
        return Text(data=data)

    def _closed(self, event: CloseConnection) -> Closed:
        code, reason = int(event.code), event.reason or ""
        if self._socket.state is ConnectionState.OPEN:  # The peer has said nothing: it broke the rules.
            # A decoder's own words tell where in its piece a byte stood, which is chance.
            return self._fail(code, "expected UTF-8" if code == INVALID else reason)
        self._over = True
        owed = self._socket.state is ConnectionState.REMOTE_CLOSING
        data = bytes(self._socket.send(event.response())) if owed else b""
        clean = self._socket.state is ConnectionState.CLOSED
        return Closed(code=code, reason=reason, data=data, clean=clean)

    def _fail(self, code: int, reason: str) -> Closed:
        self._over = True
        self._message.clear()
        return Closed(code=code, reason=reason, data=self.close(code, reason))

    def text(self, data: bytes) -> bytes:
        """Frame a message.

        Args:
            data: Its text, UTF-8.

        Returns:
            What to send; nothing, once either side has closed.
        """
        if self._socket.state is not ConnectionState.OPEN:
            return b""
        return bytes(self._socket.send(TextMessage(data=data.decode())))

    def ping(self) -> bytes:
        """Ask the peer for a sign of life; nothing, once either side has closed."""
        return bytes(self._socket.send(Ping())) if self._socket.state is ConnectionState.OPEN else b""

    def close(self, code: int, reason: str = "") -> bytes:
        """Say that this side sends nothing more; nothing, once it was said.

        Args:
            code: One of RFC 6455, section 7.4.
            reason: For people; what is longer than 123 bytes is cut.
        """
        if self._socket.state is not ConnectionState.OPEN:
            return b""
        return bytes(self._socket.send(CloseConnection(code=code, reason=reason)))
