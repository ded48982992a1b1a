"""HTTP/1.1 around exchanges, for either side, without a socket.

Knows: framing (h11's), what a strict server refuses that h11 lets pass, keep-alive, pipelining, how much
input may wait, and when an answer must be the connection's last.
Refuses to know: what a request means (`exchange.py`), time (a driver arms time-outs by `phase`), who talks.

The laws:
- Any cut of the same bytes gives the same events; any bytes give events or `RemoteProtocolError`.
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
from http import HTTPStatus
from typing import Any, Final, TypeVar

import h11
from attrs import define, field, frozen

from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Disconnected, Failure, Head, Headers, Request, Response, header
from foundry_proto.exchange import (
    Answer,
    ClientAnswer,
    ClientExchange,
    Data,
    End,
    Piece,
    ServerExchange,
    Start,
)
from foundry_proto.operations import Operation, Operations
from foundry_proto.sentinels import NEED_DATA, NeedData

__all__ = ["ClientConnection", "Limits", "Phase", "ServerConnection", "Write"]

T = TypeVar("T")


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


@frozen(kw_only=True)
class Limits:
    """How much a peer may make a server's connection hold, in bytes."""

    head: int = 64 * 1024
    """A request's line and headers together (431 beyond it)."""
    drain: int = 64 * 1024
    """The unread rest of a body that is read and forgotten for the sake of keeping the connection."""
    waiting: int = 64 * 1024
    """What may wait behind a request that is being answered, before a driver should stop reading."""


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


def _malformed(message: str, status: int = 400) -> RemoteProtocolError:
    return RemoteProtocolError(message, Failure(status=status, message=message))


@define
class ServerConnection:
    """A server's side of one connection.

    Feed it with `receive_data`, ask `next_event` until `NEED_DATA`, answer with `send`. After a `Head` the
    driver may answer at once, or go on; `accept_body` says what to send first if it goes on.

    Args:
        operations: What is offered here.
        limits: How much a peer may make it hold.
        headers: Gives headers for every response, such as `Server` and `Date`; called once each.
    """

    _operations: Operations
    _limits: Limits = field(kw_only=True, factory=Limits)
    _headers: Callable[[], Headers] = field(kw_only=True, default=tuple)
    _phase: Phase = field(init=False, default=Phase.IDLE)
    _http: h11.Connection = field(init=False)
    _exchange: ServerExchange = field(init=False)
    _input: bytearray = field(init=False, factory=bytearray)
    _searched: int = field(init=False, default=0)
    _eof: bool = field(init=False, default=False)
    _told_of_eof: bool = field(init=False, default=False)
    _rest: int | None = field(init=False, default=0)
    """Bytes of the request's body that were not given to h11 yet; `None` while only h11 can know."""
    _last: bool = field(init=False, default=False)
    """Whether the connection ends with this answer."""
    _answer_first: bool = field(init=False, default=False)
    """Whether the exchange or the head was refused: only an answer may follow."""

    def __attrs_post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * self._limits.head)
        self._exchange = ServerExchange(self._operations)
        self._phase = Phase.HEAD if self._input else Phase.IDLE
        self._searched = 0
        self._rest = 0
        self._answer_first = False

    @property
    def phase(self) -> Phase:
        """What the connection waits for."""
        return self._phase

    @property
    def wants_data(self) -> bool:
        """Whether a driver should read: false while more than `Limits.waiting` waits behind an answer."""
        return self._phase is not Phase.RESPONDING or len(self._input) < self._limits.waiting

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; `next_event` says what they mean."""
        if self._eof:
            raise LocalProtocolError("receive_data after receive_eof")
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
        if self._phase is Phase.BODY and self._http.they_are_waiting_for_100_continue:
            return bytes(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        return b""

    def next_event(self) -> Head | Request[Any] | Failure | Response[None] | Disconnected | NeedData:
        """Say what has happened.

        Returns:
            `Head` and then `Request`; or an answer (`Failure`, `Response`) that the driver should `send`;
            `Disconnected`, once, when the peer sends nothing more; otherwise `NEED_DATA`.

        Raises:
            RemoteProtocolError: The framing is broken. Send its `failure`; the connection then closes.
        """
        event = self._next_event()
        if event is not NEED_DATA or not self._eof or self._told_of_eof:
            return event
        self._told_of_eof = True
        if self._phase in (Phase.HEAD, Phase.BODY) and not self._exchange.answered:
            part = self._phase.value
            self._refuse_input()
            raise _malformed(f"expected the rest of the request's {part}, got the end of the input")
        if self._phase is not Phase.RESPONDING:
            self._phase = Phase.CLOSING
        return Disconnected()

    def _next_event(self) -> Head | Request[Any] | Failure | Response[None] | NeedData:
        if self._answer_first:
            return NEED_DATA
        try:
            match self._phase:
                case Phase.HEAD:
                    return self._next_head()
                case Phase.BODY:
                    return self._next_body()
                case _:
                    return NEED_DATA
        except h11.RemoteProtocolError as error:
            self._refuse_input()
            raise _malformed(str(error), error.error_status_hint) from error
        except RemoteProtocolError:
            self._refuse_input()
            raise

    def _refuse_input(self) -> None:
        self._last = True
        self._phase = Phase.RESPONDING
        self._answer_first = True

    def _next_head(self) -> Head | Failure | Response[None] | NeedData:
        head = self._take_head()
        if head is None:
            return NEED_DATA
        self._http.receive_data(head)
        request = self._http.next_event()
        assert isinstance(request, h11.Request)
        headers: Headers = tuple(request.headers)
        length = header(headers, b"content-length")
        coding = header(headers, b"transfer-encoding")
        # Both at once may be an attempt to smuggle a request: RFC 9112, section 6.1 demands the close.
        self._last = coding is not None and (length is not None or request.http_version == b"1.0")
        self._rest = None if coding is not None else int(length or 0)
        self._phase = Phase.BODY
        event = self._exchange.receive_head(request.method.decode(), request.target.decode(), headers)
        if not isinstance(event, Head):
            self._answer_now()
        return event

    def _take_head(self) -> bytes | None:
        """Take a whole request head from the input, once it is there and contains nothing forbidden."""
        # A server ignores an empty line before the request line (RFC 9112, section 2.2).
        while self._input.startswith(b"\r\n"):
            del self._input[:2]
            self._searched = 0
        if not self._input:
            self._phase = Phase.IDLE
            return None
        start = max(0, self._searched - 3)
        end = self._input.find(_HEAD_END, start)
        # A CR that is the last byte so far may yet be followed by its LF.
        undecided = self._input.endswith(b"\r")
        stop = end + len(_HEAD_END) if end >= 0 else len(self._input) - undecided
        if (found := _FORBIDDEN.search(self._input, start, stop)) is not None:
            raise _malformed(f"expected no {_FORBIDDEN_NAMES[found[0][:1]]} in a request's head")
        if stop > self._limits.head:
            raise _malformed(f"expected a request's head of at most {self._limits.head} bytes", 431)
        self._searched = stop
        if end < 0:
            return None
        head = bytes(self._input[:stop])
        del self._input[:stop]
        return head

    def _answer_now(self) -> None:
        """An answer comes before the body was read: decide whether the connection can outlive it."""
        self._phase = Phase.RESPONDING
        self._answer_first = True
        unread = self._rest if self._rest is not None else self._limits.drain + 1
        if unread > self._limits.drain or self._http.they_are_waiting_for_100_continue:
            self._last = True

    def _next_body(self) -> Request[Any] | Failure | NeedData:
        while True:
            event = self._next_part()
            if event is NEED_DATA:
                return NEED_DATA
            if isinstance(event, h11.EndOfMessage):
                if self._exchange.answered:
                    self._cycle()
                    return NEED_DATA
                self._phase = Phase.RESPONDING
                return self._exchange.receive_end()
            if self._exchange.answered:
                continue
            failure = self._exchange.receive_body(event.data)
            if failure is not None:
                self._answer_now()
                return failure

    def _next_part(self) -> h11.Data | h11.EndOfMessage | NeedData:
        """Give h11's next body event, feeding it no byte of the request that follows."""
        if self._input and self._rest != 0:
            part = self._input if self._rest is None else self._input[: self._rest]
            self._http.receive_data(bytes(part))
            if self._rest is not None:
                self._rest -= len(part)
            del self._input[: len(part)]
        event = self._http.next_event()
        if isinstance(event, h11.EndOfMessage):
            # What a chunked body's last read held beyond its end is the next request's.
            self._input[:0] = self._http.trailing_data[0]
            self._rest = 0
        return event if isinstance(event, h11.Data | h11.EndOfMessage) else NEED_DATA

    def give_up(self, failure: Failure) -> list[Write]:
        """Answer a request that is not whole, and never will be: what a driver does when patience ends.

        Raises:
            LocalProtocolError: No request has begun, or it is being answered.
        """
        if self._phase not in (Phase.HEAD, Phase.BODY) or self._exchange.answered:
            raise LocalProtocolError(f"cannot give up while the connection is {self._phase.value}")
        self._refuse_input()
        return self.send(failure)

    def send(self, *events: Answer) -> list[Write]:
        """Answer: several events of a stream leave as one write.

        Raises:
            LocalProtocolError: Not at this point of an answer.
        """
        if self._phase not in (Phase.BODY, Phase.RESPONDING):
            raise LocalProtocolError(f"cannot send an answer while the connection is {self._phase.value}")
        writes: list[Write] = []
        data = bytearray()
        after = 0.0
        for event in events:
            if self._phase is Phase.BODY:
                self._answer_now()
            for piece in self._exchange.send(event):
                if isinstance(piece, Data) and piece.after:
                    if data:
                        writes.append(Write(data=bytes(data), after=after))
                        data.clear()
                    after = piece.after
                data += self._frame(piece)
        if data:
            writes.append(Write(data=bytes(data), after=after))
        return writes

    def _frame(self, piece: Piece) -> bytes:
        match piece:
            case Start():
                headers = [*self._headers(), *piece.headers]
                if self._last:
                    headers.append((b"connection", b"close"))
                start = h11.Response(
                    status_code=piece.status, headers=headers, reason=HTTPStatus(piece.status).phrase
                )
                return bytes(self._http.send(start) or b"")
            case Data():
                return bytes(self._http.send(h11.Data(data=piece.data)) or b"")
            case End():
                data = bytes(self._http.send(h11.EndOfMessage()) or b"")
                self._answered()
                return data

    def _answered(self) -> None:
        if self._last or self._http.our_state is h11.MUST_CLOSE or self._told_of_eof:
            self._phase = Phase.CLOSING
            self._input.clear()
        elif self._http.their_state is h11.SEND_BODY:
            self._phase = Phase.BODY
            self._answer_first = False
        else:
            self._cycle()

    def _cycle(self) -> None:
        if self._http.our_state is h11.MUST_CLOSE or self._http.their_state is h11.MUST_CLOSE:
            self._phase = Phase.CLOSING
        else:
            self._begin()


@define
class ClientConnection:
    """A client's side of one connection: one call at a time.

    Args:
        host: The server's name and port in ASCII, for the `Host` header.
        limit: The most bytes of a whole answer, or of one item of a stream.
    """

    _host: str
    _limit: int = field(kw_only=True, default=64 * 1024 * 1024)
    _http: h11.Connection = field(init=False)
    _exchange: ClientExchange | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)

    @property
    def reusable(self) -> bool:
        """Whether a further call can be made: the last answer is whole, and nobody wants to close."""
        return self._http.our_state is h11.IDLE and self._http.their_state is h11.IDLE

    def call(
        self,
        operation: Operation[Any, Any, Any],
        value: object = None,
        *,
        params: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Headers = (),
        method: str | None = None,
    ) -> bytes:
        """Begin a call.

        Args:
            operation: What is called.
            value: An instance of its request class.
            params: The path's parameters.
            query: The query string's words.
            headers: Further headers, names in lower case.
            method: One of the operation's; by default the first.

        Returns:
            What to send.

        Raises:
            LocalProtocolError: Another call is not over, or the connection closes.
        """
        if not self.reusable:
            raise LocalProtocolError("cannot call: the connection is busy or closing")
        exchange = ClientExchange(operation, limit=self._limit)
        verb, target, own, body = exchange.request(
            value, params=params or {}, query=query or {}, method=method
        )
        all_headers = [(b"host", self._host.encode("ascii")), *own, *headers]
        request = h11.Request(method=verb, target=target, headers=all_headers)
        self._exchange = exchange
        pieces = [self._http.send(request)]
        if body:
            pieces.append(self._http.send(h11.Data(data=body)))
        pieces.append(self._http.send(h11.EndOfMessage()))
        return b"".join(piece or b"" for piece in pieces)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the server."""
        if data:
            self._http.receive_data(data)

    def receive_eof(self) -> None:
        """The server sends nothing more."""
        self._http.receive_data(b"")

    def next_event(self) -> ClientAnswer | NeedData:
        """Say what the server has answered.

        Returns:
            A `Response` or a `Failure`, which end the call; or `StreamItem`s and then `StreamEnd` or
            `Failure`; otherwise `NEED_DATA`.

        Raises:
            RemoteProtocolError: The answer is none.
        """
        if self._exchange is None:
            return NEED_DATA
        while True:
            event = self._exchange.next_event()
            if event is not NEED_DATA:
                return event
            if not self._feed(self._exchange):
                return NEED_DATA

    def _feed(self, exchange: ClientExchange) -> bool:
        """Give the exchange h11's next event; false when there is none."""
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise RemoteProtocolError(f"the server broke the framing: {error}") from error
        match event:
            case h11.Response():
                exchange.receive_head(event.status_code, tuple(event.headers))
            case h11.Data():
                exchange.receive_body(event.data)
            case h11.EndOfMessage():
                exchange.receive_end()
                if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
            case h11.ConnectionClosed():
                raise RemoteProtocolError("the server closed the connection without an answer")
            case h11.InformationalResponse():
                pass
            case _:
                return False
        return True
