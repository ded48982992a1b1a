"""HTTP/1.1 around a client's exchanges: one call at a time on one connection.

Knows: framing (h11's), and whether the connection can be used again.
Refuses to know: what a reply means (`exchange/`), where the server is, time.

The laws: any cut of the same bytes gives the same events; any bytes give events or `RemoteProtocolError`,
which every later call repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import h11
from attrs import define, field

from foundry_proto._headers import check_headers
from foundry_proto.connection._h11 import feed, in_words
from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Headers
from foundry_proto.exchange import ClientAnswer, ClientExchange
from foundry_proto.operations import Operation
from foundry_proto.sentinels import NEED_DATA, NeedData

__all__ = ["ClientConnection"]

_HEAD_LIMIT: Final = 64 * 1024
"""Bytes: a reply's status line and headers together."""

_NO_STATUS_LINE: Final = ("illegal request line", "no response line received")
"""What h11 also says of a status line that is none, by how much of it has come."""


@define
class ClientConnection:
    """A client's side of one connection: one call at a time.

    Send what `call` gives, feed the reply with `receive_data`, ask `next_event` until `NEED_DATA`.

    Args:
        host: The server's name and port in ASCII, for the `Host` header.
        prefix: What stands before every path, where the server's application is mounted so: `""` or
            `/some/path`, percent-encoded.
        limit: The most bytes of a whole answer, or of one item of a stream.
    """

    _host: str
    _prefix: str = field(kw_only=True, default="")
    _limit: int = field(kw_only=True, default=64 * 1024 * 1024)
    _http: h11.Connection = field(init=False)
    _exchange: ClientExchange | None = field(init=False, default=None)
    _input: bytearray = field(init=False, factory=bytearray)
    _eof: bool = field(init=False, default=False)
    _whole: bool = field(init=False, default=True)
    """Whether the reply's framing was read to its end: what follows is no part of it."""
    _wrong: str | None = field(init=False, default=None)
    """What was wrong with the reply: the connection is of no further use."""

    def __attrs_post_init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_LIMIT)

    @property
    def reusable(self) -> bool:
        """Whether a further call can be made: the last answer is whole, and nobody wants to close."""
        return (
            self._http.our_state is h11.IDLE
            and self._http.their_state is h11.IDLE
            and self._wrong is None
            and not self._eof
            # Bytes that nobody asked for would be taken for the next call's answer.
            and not self._input
            and not self._http.trailing_data[0]
        )

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
            value: An instance of its request class; `None` for an operation without a body.
            params: The path's parameters.
            query: The query string's words.
            headers: Further headers, names in lower case.
            method: One of the operation's, or HEAD; by default the operation's first.

        Returns:
            What to send.

        Raises:
            LocalProtocolError: Another call is not over, the connection closes, or the call cannot be sent.
        """
        if not self.reusable:
            raise LocalProtocolError("cannot call: the connection is busy or closing")
        exchange = ClientExchange(operation, limit=self._limit)
        verb, target, own, body = exchange.request(value, params=params, query=query, method=method)
        check_headers(headers)
        try:
            request = h11.Request(
                method=verb,
                target=self._prefix + target,
                headers=[(b"host", self._host.encode("ascii")), *own, *headers],
            )
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            raise LocalProtocolError(f"cannot call: {error}") from error
        self._exchange = exchange
        self._whole = False
        pieces = [self._http.send(request)]
        if body:
            pieces.append(self._http.send(h11.Data(data=body)))
        pieces.append(self._http.send(h11.EndOfMessage()))
        return b"".join(piece or b"" for piece in pieces)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the server; `next_event` says what they mean.

        Args:
            data: Bytes, cut anywhere; an empty piece changes nothing.

        Raises:
            LocalProtocolError: The end was already told.
        """
        if self._eof:
            raise LocalProtocolError("receive_data: expected no data after receive_eof")
        self._input += data

    def receive_eof(self) -> None:
        """Say that the server sends nothing more; saying it again changes nothing."""
        self._eof = True

    def next_event(self) -> ClientAnswer | NeedData:
        """Say what the server has answered.

        Returns:
            A `Response` or a `Failure`, which end the call; or `StreamItem`s and then `StreamEnd` or
            `Failure`; otherwise `NEED_DATA`.

        Raises:
            RemoteProtocolError: What came is no answer (RFC 9112), or none to this operation; so says every
                later call. Any other exception is a bug.
        """
        if self._exchange is None:
            return NEED_DATA
        if self._wrong is not None:
            raise RemoteProtocolError(self._wrong)
        try:
            return self._next_event(self._exchange)
        except RemoteProtocolError as error:
            self._wrong = str(error)
            raise

    def _next_event(self, exchange: ClientExchange) -> ClientAnswer | NeedData:
        while (event := exchange.next_event()) is NEED_DATA and not exchange.over:
            if not self._advance(exchange):
                break
        if exchange.over:
            self._finish(exchange)
        return event

    def _finish(self, exchange: ClientExchange) -> None:
        """Read what frames an answer's end, so that it shows whether the connection is reusable."""
        try:
            while self._advance(exchange):
                pass
        except RemoteProtocolError:
            # The answer was whole and has been given; h11's state keeps the connection from being used again.
            self._whole = True

    def _advance(self, exchange: ClientExchange) -> bool:
        """Give the exchange the next part of the reply; false when there is none."""
        part = None if self._whole else self._next_part()
        match part:
            case None:
                return False
            case h11.Response():
                exchange.receive_head(part.status_code, tuple(part.headers))
            case h11.Data():
                exchange.receive_body(part.data)
            case h11.EndOfMessage():
                self._whole = True
                exchange.receive_end()
                if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
        return True

    def _next_part(self) -> h11.Event | None:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if self._input:
                    feed(self._http, self._input, _HEAD_LIMIT)
                elif not self._eof:
                    return None
                elif self._http.their_state is h11.SEND_RESPONSE and not self._http.trailing_data[0]:
                    raise RemoteProtocolError("the server closed the connection without an answer")
                else:
                    self._http.receive_data(b"")
        except h11.RemoteProtocolError as error:
            words = in_words(error)
            what = "illegal status line" if words in _NO_STATUS_LINE else words
            raise RemoteProtocolError(f"the server broke the framing: {what}") from error
        if event is h11.PAUSED:
            raise RemoteProtocolError("expected an answer, got a switch to another protocol")
        return cast("h11.Event", event)
