"""HTTP/1.1 around a server's exchanges: one after the other on one connection.

Knows: framing (h11's of heads and chunked bodies that come in; of answers its own, which take a fraction of
the time), what a strict server refuses that h11 lets pass, keep-alive, pipelining, how much input may wait,
and when an answer must be the connection's last.
Refuses to know: what a request means (`exchange/`), time (a driver arms time-outs by `phase`), who talks.

The laws:
- Any cut of the same bytes gives the same events; any bytes give events or `RemoteProtocolError`.
- Else only `LocalProtocolError` is raised, for misuse; what was taken before it leaves with the next call.
- Input waits in one buffer: a head of at most `Limits.head` bytes, or what a client sent behind a request
  that is being answered; a driver stops reading when `wants_data` is false.
- A `Failure` keeps the connection when the request's body was read, or its rest is at most `Limits.drain`
  bytes; otherwise the answer says `Connection: close`, and what still arrives is read and forgotten.

Source: RFC 9112; its sections are named beside what implements them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, assert_never, cast

import h11
from attrs import define, field, frozen

from foundry_proto._headers import check_headers
from foundry_proto.connection._h11 import feed, in_words
from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Disconnected, Failure, Head, Headers, Request, Response, Upgrade, header
from foundry_proto.exchange import Answer, Data, End, Gate, Piece, ServerExchange, Start
from foundry_proto.jsontext import MAX_DEPTH
from foundry_proto.messages.errors import status_phrase
from foundry_proto.operations import Operations
from foundry_proto.sentinels import NEED_DATA, NeedData

__all__ = ["Limits", "Phase", "ServerConnection", "Write"]


class Phase(Enum):
    """What a server's connection waits for: all that a driver needs to choose a time-out."""

    IDLE = "idle"
    """The first byte of a request."""
    HEAD = "head"
    """The rest of a request's head."""
    BODY = "body"
    """The rest of a request's body, wanted or not."""
    RESPONDING = "responding"
    """The server's own answer."""
    CLOSING = "closing"
    """Nothing: the last answer is whole, or there will be none."""
    SWITCHED = "switched"
    """Nothing: the connection goes on as a WebSocket, of which this machine knows nothing."""


@frozen(kw_only=True)
class Limits:
    """How much a peer may make a server's connection hold, in bytes where nothing else is said."""

    head: int = 64 * 1024
    """A request's line and headers together (431 beyond it), a chunk's size line, or a body's trailers."""
    drain: int = 64 * 1024
    """The unread rest of a body that is read and forgotten for the sake of keeping the connection."""
    waiting: int = 64 * 1024
    """What may wait behind a request that is being answered, before a driver should stop reading."""
    body: int | None = None
    """A request's body (413 beyond it); `None` is what the operation's row says."""
    headers: int = 100
    """How many headers a request may have (431 beyond it)."""
    depth: int = MAX_DEPTH
    """How many levels of nesting a body's JSON may have."""


@frozen(kw_only=True)
class Write:
    """Bytes to send, and how long after the previous write: a driver never joins across a pause."""

    data: bytes
    after: float = 0.0
    """Seconds."""


# What h11 lets pass and a strict server must not (RFC 9112, sections 2.2 and 5.2): a bare LF or CR, a header
# folded over lines, NUL. A parser in front of this one might have read something else there.
_FORBIDDEN: Final = re.compile(rb"\x00|\r(?!\n)|(?<!\r)\n|\r\n[ \t]")
_FORBIDDEN_NAMES: Final[Mapping[bytes, str]] = {
    b"\x00": "NUL",
    b"\r": "bare CR and no folded header",
    b"\n": "bare LF",
}
_HEAD_END: Final = b"\r\n\r\n"
# A name or an IPv4 address, or an address in brackets, and a port; also nothing (RFC 3986, section 3.2.2).
_HOST: Final = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.:~%]+\])(?::[0-9]*)?", re.ASCII)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, status_phrase(status).encode()) for status in range(200, 600)
}
_NO_BODY: Final = (204, 304)
"""Statuses whose replies end with the head (RFC 9112, section 6.3)."""


@define
class ServerConnection:
    """A server's side of one connection.

    Feed it with `receive_data`, ask `next_event` until `NEED_DATA`, answer with `send`. After a `Head` the
    driver may answer at once, or go on; `accept_body` says what to send first if it goes on.

    Args:
        operations: What is offered here.
        limits: How much a peer may make it hold.
        headers: Gives headers for every response, such as `Server` and `Date`; called once each.
        client: The peer's address, for `Head`; `None` where it has none, or none that is known.
        gate: Decides who may ask; without one everybody may.
    """

    _operations: Operations
    _limits: Limits = field(kw_only=True, factory=Limits)
    _headers: Callable[[], Headers] = field(kw_only=True, default=tuple)
    _client: str | None = field(kw_only=True, default=None)
    _gate: Gate | None = field(kw_only=True, default=None)
    _phase: Phase = field(init=False)
    _http: h11.Connection = field(init=False)
    _exchange: ServerExchange = field(init=False)
    _input: bytearray = field(init=False, factory=bytearray)
    _searched: int = field(init=False)
    """How much of the input was searched for a head's end."""
    _rest: int | None = field(init=False)
    """Bytes of the request's body that were not taken yet; `None` while only h11 can know."""
    _asked: Request[Any] | Upgrade | Failure | None = field(init=False)
    """What the request meant, once it is whole."""
    _fed: bytes = field(init=False)
    """What h11 was given last of a chunked body, and four bytes before it."""
    _continues: bool = field(init=False)
    """Whether the client waits for `100 Continue` before it sends the body."""
    _last: bool = field(init=False, default=False)
    """Whether the connection ends with this answer."""
    _chunks: bool = field(init=False)
    """Whether the client knows chunks (RFC 9112, section 6.1: not with HTTP/1.0)."""
    _chunked: bool = field(init=False)
    """Whether the answer's body is framed in chunks."""
    _own: tuple[Headers, bytes] = field(init=False, default=((), b""))
    """The server's own headers of the last answer, and how they are written: most answers have the same."""
    _eof: bool = field(init=False, default=False)
    _told_of_eof: bool = field(init=False, default=False)
    _unsent: list[tuple[list[bytes], float]] = field(init=False, factory=list)
    """What `send` has framed so far, and how long after the previous each is to leave."""

    def __attrs_post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """Wait for the next request."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head)
        self._exchange = ServerExchange(
            self._operations,
            client=self._client,
            gate=self._gate,
            body_limit=self._limits.body,
            depth=self._limits.depth,
        )
        self._phase = Phase.HEAD if self._input else Phase.IDLE
        self._searched = 0
        self._rest = 0
        self._asked = None
        self._fed = b""
        self._continues = False
        self._chunks = self._chunked = False

    @property
    def phase(self) -> Phase:
        """What the connection waits for."""
        return self._phase

    @property
    def wants_data(self) -> bool:
        """Whether a driver should read: false while more than `Limits.waiting` waits behind an answer."""
        return self._phase is not Phase.RESPONDING or len(self._input) < self._limits.waiting

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; `next_event` says what they mean.

        Raises:
            LocalProtocolError: The end was already told.
        """
        if self._eof:
            raise LocalProtocolError("receive_data: expected no data after receive_eof")
        if self._phase is Phase.SWITCHED:
            raise LocalProtocolError("receive_data: expected no data after switch")
        if self._phase is Phase.CLOSING:
            return
        self._input += data
        if self._phase is Phase.IDLE and data:
            self._phase = Phase.HEAD

    def receive_eof(self) -> None:
        """The peer sends nothing more."""
        self._eof = True

    def accept_body(self) -> bytes:
        """Decide, after a `Head`, to read the body.

        Returns:
            What to send first: `100 Continue` if the client waits for it (RFC 9110, section 10.1.1).
        """
        if self._phase is not Phase.BODY or not self._continues:
            return b""
        self._continues = False
        return _CONTINUE

    def next_event(
        self,
    ) -> Head | Request[Any] | Upgrade | Failure | Response[None] | Disconnected | NeedData:
        """Say what has happened.

        Returns:
            `Head` and then `Request`, or `Upgrade`, which `switch` accepts; or an answer (`Failure`,
            `Response`) that the driver should `send`; `Disconnected`, once, when the peer sends nothing more;
            otherwise `NEED_DATA`.

        Raises:
            RemoteProtocolError: The framing is broken. Send its `failure`; the connection then closes.
        """
        event = self._next_event()
        if event is not NEED_DATA or not self._eof or self._told_of_eof:
            return event
        self._told_of_eof = True
        if self._phase in (Phase.HEAD, Phase.BODY) and not self._exchange.answered:
            part = self._phase.value
            raise self._malformed(f"expected the rest of the request's {part}, got the end of the input")
        if self._phase is not Phase.RESPONDING:
            self._phase = Phase.CLOSING
        return Disconnected()

    def _next_event(self) -> Head | Request[Any] | Upgrade | Failure | Response[None] | NeedData:
        match self._phase:
            case Phase.HEAD:
                return self._next_head()
            case Phase.BODY:
                return self._next_body()
            case _:
                return NEED_DATA

    def _malformed(self, message: str, status: int = 400) -> RemoteProtocolError:
        """Stop reading: only an answer may follow, and it is the last."""
        self._last = True
        self._phase = Phase.RESPONDING
        return RemoteProtocolError(message, Failure(status=status, message=message))

    def _parse(self) -> Any:
        """Give h11's next event; its types are not known to checkers."""
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise self._malformed(in_words(error), error.error_status_hint) from error

    def _next_head(self) -> Head | Failure | Response[None] | NeedData:
        head = self._take_head()
        if head is None:
            return NEED_DATA
        self._http.receive_data(head)
        request = self._parse()
        if not request.http_version.startswith(b"1."):
            version = request.http_version.decode()
            raise self._malformed(f"expected HTTP/1.1 or HTTP/1.0, got HTTP/{version}", 505)
        headers: Headers = tuple(request.headers)
        host = header(headers, b"host") or b""
        if _HOST.fullmatch(host) is None:  # RFC 9112, section 3.2 demands the refusal.
            raise self._malformed(f"host: expected a name or an address, got {host[:80].decode('latin-1')!r}")
        length = header(headers, b"content-length")
        coding = header(headers, b"transfer-encoding")
        self._continues = self._http.they_are_waiting_for_100_continue
        self._chunks = request.http_version >= b"1.1"
        # A length and a coding at once may be an attempt to smuggle a request: RFC 9112, section 6.1 demands
        # the close. Otherwise the client does (section 9.3), or its version.
        both = coding is not None and length is not None
        self._last = both or not self._chunks or _wants_close(headers)
        self._rest = None if coding is not None else int(length or 0)
        self._phase = Phase.BODY
        if request.http_version == b"1.0":
            # To be ignored there (RFC 9110, section 7.8).
            headers = tuple(one for one in headers if one[0] != b"upgrade")
        event = self._exchange.receive_head(request.method.decode(), request.target.decode(), headers)
        if not isinstance(event, Head):
            self._stop_reading()
        return event

    def _take_head(self) -> bytes | None:
        """Take a whole request head from the input, once it is there and contains nothing forbidden."""
        # A server ignores an empty line before the request line (RFC 9112, section 2.2).
        while self._input.startswith(b"\r\n"):
            del self._input[:2]
        if not self._input:
            self._phase = Phase.IDLE
            return None
        # Nothing beyond the limit is looked at: what is wrong with a head must not depend on how it was cut.
        limit = self._limits.head
        start = max(0, self._searched - len(_HEAD_END) + 1)
        end = self._input.find(_HEAD_END, start, limit)
        stop = end + len(_HEAD_END) if end >= 0 else min(len(self._input), limit)
        # A CR that is the last byte so far may yet be followed by its LF.
        stop -= self._input.endswith(b"\r", 0, stop)
        if (found := _FORBIDDEN.search(self._input, start, stop)) is not None:
            raise self._malformed(f"expected no {_FORBIDDEN_NAMES[found[0][:1]]} in a request's head")
        if end < 0:
            if len(self._input) > limit:
                raise self._malformed(f"expected a request's head of at most {limit} bytes, got more", 431)
            self._searched = stop
            return None
        head = bytes(self._input[:stop])
        del self._input[:stop]
        # The request line, the headers, the empty line: each ends with one.
        if head.count(b"\r\n") > self._limits.headers + 2:
            raise self._malformed(f"expected at most {self._limits.headers} headers, got more", 431)
        return head

    def _stop_reading(self) -> None:
        """An answer comes before the body was read: decide whether the connection can outlive it."""
        self._phase = Phase.RESPONDING
        unread = self._rest if self._rest is not None else self._limits.drain + 1
        if unread > self._limits.drain or self._continues:
            self._last = True

    def _next_body(self) -> Head | Request[Any] | Upgrade | Failure | Response[None] | NeedData:
        if self._exchange.answered:
            if not self._drained():
                return NEED_DATA
            self._begin()
            return self._next_event()
        while self._rest != 0 and (data := self._take_body()):
            failure = self._exchange.receive_body(data)
            if failure is not None:
                self._stop_reading()
                return failure
        if self._rest != 0:
            return NEED_DATA
        self._phase = Phase.RESPONDING
        self._asked = self._exchange.receive_end()
        return self._asked

    def _drained(self) -> bool:
        """Forget what is here of a body that nobody wants; whether that was the last of it."""
        while self._rest != 0 and self._take_body():
            pass
        return self._rest == 0

    def _take_body(self) -> bytes | bytearray:
        """Take what is here of the body, and no byte of the next request; nothing when all is taken."""
        self._continues = self._continues and not self._input
        if self._rest is not None:
            data = self._input[: self._rest]
            del self._input[: self._rest]
            self._rest -= len(data)
            return data
        while (part := self._parse()) is h11.NEED_DATA:
            if not self._input:
                return b""
            fed = feed(self._http, self._input, self._limits.head)
            self._fed = self._fed[-len(_HEAD_END) :] + fed
        if isinstance(part, h11.Data):
            return cast("bytearray", part.data)
        self._take_back()
        return b""

    def _take_back(self) -> None:
        """Take what h11 was given beyond a chunked body's end: it is the next request's."""
        behind = self._http.trailing_data[0]
        # h11 ends trailers at bare LFs, too; where they end, a parser in front of this one must agree.
        if not self._fed.removesuffix(behind).endswith(_HEAD_END):
            raise self._malformed("expected CRLF CRLF at the end of a chunked body")
        self._input[:0] = behind
        self._rest = 0

    def give_up(self, failure: Failure) -> list[Write]:
        """End the wait for the rest of a request: what a driver does when patience ends.

        Args:
            failure: What to answer, unless the request was answered before its body was read.

        Raises:
            LocalProtocolError: No request has begun, or it is whole.
        """
        if self._phase not in (Phase.HEAD, Phase.BODY):
            raise LocalProtocolError(f"cannot give up while the connection is {self._phase.value}")
        if self._exchange.answered:
            self._close()
            return []
        self._last = True
        self._phase = Phase.RESPONDING
        return self.send(failure)

    def switch(self, upgrade: Upgrade) -> tuple[bytes, bytes]:
        """Accept an `Upgrade`: what comes from here on belongs to who speaks the other protocol.

        Returns:
            What to send first, and what the client has sent already behind its request.

        Raises:
            LocalProtocolError: This is not asked for, or was answered otherwise.
        """
        if upgrade is not self._asked or self._phase is not Phase.RESPONDING:
            raise LocalProtocolError(f"cannot switch while the connection is {self._phase.value}")
        self._phase = Phase.SWITCHED
        behind = bytes(self._input)
        self._input.clear()
        lines = self._own_lines() + _lines(upgrade.headers)
        return b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % lines, behind

    def send_item(self, event: Answer) -> bytes | None:
        """Answer with what nearly every event of a stream is, a further item, in the short way.

        Returns:
            What to send at once; `None` for any other event, which `send` is to take.

        Raises:
            LocalProtocolError: As `send`.
        """
        if self._unsent:
            return None
        item = self._exchange.send_item(event)
        return _chunk(item) if item and self._chunked else item

    def send(self, *events: Answer) -> list[Write]:
        """Answer: several events of a stream leave as one write.

        Raises:
            LocalProtocolError: Not at this point of an answer, or an answer that cannot be sent. What was
                taken before leaves with the next call, which may be another answer.
        """
        for event in events:
            if self._phase not in (Phase.BODY, Phase.RESPONDING):
                raise LocalProtocolError(f"cannot send an answer while the connection is {self._phase.value}")
            pieces = self._exchange.send(event)
            if self._phase is Phase.BODY:
                self._stop_reading()
            for piece in pieces:
                self._put(self._frame(piece), piece.after if isinstance(piece, Data) else 0.0)
        unsent, self._unsent = self._unsent, []
        return [Write(data=data, after=after) for parts, after in unsent if (data := b"".join(parts))]

    def _put(self, data: bytes, after: float = 0.0) -> None:
        if after or not self._unsent:
            self._unsent.append(([], after))
        self._unsent[-1][0].append(data)

    def _frame(self, piece: Piece) -> bytes:
        match piece:
            case Start():
                return self._start(piece)
            case Data() if self._chunked and piece.data:
                return _chunk(piece.data)
            case Data():
                return piece.data
            case End():
                data = b"0\r\n\r\n" if self._chunked else b""
                self._answered()
                return data
            case _:
                assert_never(piece)

    def _start(self, piece: Start) -> bytes:
        """Write an answer's head, which says how its body is framed (RFC 9112, section 6.3)."""
        framing = b""
        if piece.status not in _NO_BODY and header(piece.headers, b"content-length") is None:
            if self._chunks:
                framing = b"Transfer-Encoding: chunked\r\n"
                self._chunked = not self._exchange.bodiless
            else:
                self._last = True
        self._last = self._last or _wants_close(piece.headers)
        ending = b"connection: close\r\n\r\n" if self._last else b"\r\n"
        own = self._own_lines()
        return b"".join((_STATUS_LINES[piece.status], own, _lines(piece.headers), framing, ending))

    def _own_lines(self) -> bytes:
        """The server's own headers, written and checked once for as long as they are the same."""
        headers = self._headers()
        if headers is not self._own[0]:
            check_headers(headers)
            self._own = headers, _lines(headers)
        return self._own[1]

    def _answered(self) -> None:
        """The answer is whole: wait for the next request, or for the rest of this one's body, or close."""
        if self._last or self._told_of_eof:
            self._close()
        elif self._drained():
            self._begin()
        else:
            self._phase = Phase.BODY

    def _close(self) -> None:
        self._phase = Phase.CLOSING
        self._input.clear()


def _wants_close(headers: Headers) -> bool:
    """Whether `Connection: close` is among the headers (RFC 9110, section 7.6.1)."""
    return any(
        name == b"connection" and b"close" in [option.strip() for option in value.lower().split(b",")]
        for name, value in headers
    )


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % one for one in headers])


def _chunk(data: bytes) -> bytes:
    """Frame a piece that is not empty (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
