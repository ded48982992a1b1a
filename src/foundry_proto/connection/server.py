"""HTTP/1.1 around a server's exchanges: one after the other on one connection.

Knows: keep-alive, pipelining, how much input may wait, how answers are framed (h11 would take many times as
long), and when an answer must be the connection's last.
Refuses to know: where requests begin and end in the bytes (`_requests.py`), what one means (`exchange/`),
time (a driver arms time-outs by `phase`), who talks.

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

from collections.abc import Callable
from typing import Any, Final, assert_never

from attrs import define, field

from foundry_proto._headers import check_headers, wants_close
from foundry_proto.connection._requests import RequestReader, malformed
from foundry_proto.connection.terms import Limits, Phase, Write
from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Disconnected, Failure, Head, Headers, Request, Response, Upgrade, header
from foundry_proto.exchange import Answer, Data, End, Gate, Piece, ServerExchange, Start
from foundry_proto.messages.errors import status_phrase
from foundry_proto.operations import Operations
from foundry_proto.sentinels import NEED_DATA, NeedData

__all__ = ["ServerConnection"]

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
    _requests: RequestReader = field(init=False)
    _exchange: ServerExchange = field(init=False)
    _asked: Request[Any] | Upgrade | Failure | None = field(init=False)
    """What the request meant, once it is whole."""
    _last: bool = field(init=False, default=False)
    """Whether the connection ends with this answer."""
    _chunked: bool = field(init=False)
    """Whether the answer's body is framed in chunks."""
    _own: tuple[Headers, bytes] = field(init=False, default=((), b""))
    """The server's own headers of the last answer, and how they are written: most answers have the same."""
    _eof: bool = field(init=False, default=False)
    _told_of_eof: bool = field(init=False, default=False)
    _unsent: list[tuple[list[bytes], float]] = field(init=False, factory=list)
    """What `send` has framed so far, and how long after the previous each is to leave."""

    def __attrs_post_init__(self) -> None:
        self._requests = RequestReader(self._limits)
        self._begin()

    def _begin(self) -> None:
        """Wait for the next request."""
        self._requests.begin()
        self._exchange = ServerExchange(
            self._operations,
            client=self._client,
            gate=self._gate,
            body_limit=self._limits.body,
            depth=self._limits.depth,
        )
        self._phase = Phase.HEAD if self._requests.waiting else Phase.IDLE
        self._asked = None
        self._chunked = False

    @property
    def phase(self) -> Phase:
        """What the connection waits for."""
        return self._phase

    @property
    def wants_data(self) -> bool:
        """Whether a driver should read: false while more than `Limits.waiting` waits behind an answer."""
        return self._phase is not Phase.RESPONDING or self._requests.waiting < self._limits.waiting

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; `next_event` says what they mean.

        Args:
            data: Bytes, cut anywhere; an empty piece changes nothing.

        Raises:
            LocalProtocolError: The end was already told.
        """
        if self._eof:
            raise LocalProtocolError("receive_data: expected no data after receive_eof")
        if self._phase is Phase.SWITCHED:
            raise LocalProtocolError("receive_data: expected no data after switch")
        if self._phase is Phase.CLOSING:
            return
        self._requests.receive_data(data)
        if self._phase is Phase.IDLE and data:
            self._phase = Phase.HEAD

    def receive_eof(self) -> None:
        """Say that the peer sends nothing more; saying it again changes nothing."""
        self._eof = True

    def accept_body(self) -> bytes:
        """Decide, after a `Head`, to read the body.

        Returns:
            What to send first: `100 Continue` if the client waits for it (RFC 9110, section 10.1.1).
        """
        if self._phase is not Phase.BODY or not self._requests.awaits_continue:
            return b""
        self._requests.awaits_continue = False
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
            RemoteProtocolError: The framing is broken. Send its `failure`; the connection then closes. Any
                other exception is a bug.
        """
        try:
            return self._next_event()
        except RemoteProtocolError:
            # Only an answer may follow, and it is the last.
            self._last = True
            self._phase = Phase.RESPONDING
            raise

    def _next_event(
        self,
    ) -> Head | Request[Any] | Upgrade | Failure | Response[None] | Disconnected | NeedData:
        event = self._advance()
        if event is not NEED_DATA or not self._eof or self._told_of_eof:
            return event
        self._told_of_eof = True
        if self._phase in (Phase.HEAD, Phase.BODY) and not self._exchange.answered:
            part = self._phase.value
            raise malformed(f"expected the rest of the request's {part}, got the end of the input")
        if self._phase is not Phase.RESPONDING:
            self._phase = Phase.CLOSING
        return Disconnected()

    def _advance(self) -> Head | Request[Any] | Upgrade | Failure | Response[None] | NeedData:
        """Take the next of what has come, as far as this phase takes anything."""
        match self._phase:
            case Phase.HEAD:
                return self._next_head()
            case Phase.BODY:
                return self._next_body()
            case _:
                return NEED_DATA

    def _next_head(self) -> Head | Failure | Response[None] | NeedData:
        head = self._requests.take_head()
        if head is None:
            if not self._requests.waiting:
                self._phase = Phase.IDLE
            return NEED_DATA
        self._last = self._requests.is_last
        self._phase = Phase.BODY
        event = self._exchange.receive_head(*head)
        if not isinstance(event, Head):
            self._stop_reading()
        return event

    def _stop_reading(self) -> None:
        """An answer comes before the body was read: decide whether the connection can outlive it."""
        self._phase = Phase.RESPONDING
        unread = self._requests.rest if self._requests.rest is not None else self._limits.drain + 1
        if unread > self._limits.drain or self._requests.awaits_continue:
            self._last = True

    def _next_body(self) -> Head | Request[Any] | Upgrade | Failure | Response[None] | NeedData:
        if self._exchange.answered:
            if not self._requests.forget_body():
                return NEED_DATA
            self._begin()
            return self._advance()
        while self._requests.rest != 0 and (data := self._requests.take_body()):
            failure = self._exchange.receive_body(data)
            if failure is not None:
                self._stop_reading()
                return failure
        if self._requests.rest != 0:
            return NEED_DATA
        self._phase = Phase.RESPONDING
        self._asked = self._exchange.receive_end()
        return self._asked

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

        Args:
            upgrade: The event that asked for it.

        Returns:
            What to send first, and what the client has sent already behind its request.

        Raises:
            LocalProtocolError: This is not asked for, or was answered otherwise.
        """
        if upgrade is not self._asked or self._phase is not Phase.RESPONDING:
            raise LocalProtocolError(f"cannot switch while the connection is {self._phase.value}")
        self._phase = Phase.SWITCHED
        behind = self._requests.take_rest()
        lines = self._own_lines() + _lines(upgrade.headers)
        return b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % lines, behind

    def send_item(self, event: Answer) -> bytes | None:
        """Answer with what nearly every event of a stream is, a further item, in the short way.

        Args:
            event: As for `send`.

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

        Args:
            events: What follows those that were sent.

        Returns:
            What to send, in this order; several writes only where a pause must be kept between them.

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
            if self._requests.knows_chunks:
                framing = b"Transfer-Encoding: chunked\r\n"
                self._chunked = not self._exchange.bodiless
            else:
                self._last = True
        self._last = self._last or wants_close(piece.headers)
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
        elif self._requests.forget_body():
            self._begin()
        else:
            self._phase = Phase.BODY

    def _close(self) -> None:
        self._phase = Phase.CLOSING
        self._requests.take_rest()


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % one for one in headers])


def _chunk(data: bytes) -> bytes:
    """Frame a piece that is not empty (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
