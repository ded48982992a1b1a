"""A server's side of an exchange: from a request's head and body to events, from events to a reply's pieces.

Knows: routing, which bodies are accepted, the order in which answers may be sent, and how each looks (HEAD,
OPTIONS, 405 with `Allow`, error bodies, streams).
Refuses to know: bytes on the wire (`connection/`), who may talk (a gate that is given), and what a handler
does.

The laws:
- A head gives `Head`, or the answer to send instead; after `Head`, a body gives `Request` or a `Failure`, or
  `Upgrade` where the connection is to go on as a WebSocket.
- A server answers once: a `Response`, or a `Failure`, or `StreamItem`s and then `StreamEnd` or `Failure`.
- What is wrong with the peer's *content* is never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, assert_never

from attrs import define, evolve, field, frozen

from foundry_proto._headers import check_headers
from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import (
    Failure,
    Head,
    Headers,
    Request,
    Response,
    StreamEnd,
    StreamItem,
    Upgrade,
)
from foundry_proto.exchange._heads import (
    allow,
    arguments,
    check_body_headers,
    no_such_route,
    origin_form,
    too_large,
)
from foundry_proto.exchange.gate import Asked, Gate
from foundry_proto.jsontext import MAX_DEPTH
from foundry_proto.messages.errors import ErrorFamily, error_body
from foundry_proto.operations import Match, Operation, Operations
from foundry_proto.operations.table import JSON
from foundry_proto.streams import StreamWriter
from foundry_proto.upgrade import check_websocket, websocket_headers

__all__ = ["Answer", "Data", "End", "Piece", "ServerExchange", "Start"]

Answer = Response[Any] | StreamItem[Any] | StreamEnd | Failure
"""What a server may send."""


@frozen(kw_only=True)
class Start:
    """The status and the headers of a response; without a `content-length` framing shows its end."""

    status: int
    headers: Headers


@frozen(kw_only=True)
class Data:
    """A piece of a response's body."""

    data: bytes
    after: float = 0.0
    """Seconds to wait since the previous piece left: a driver never joins across it."""


@frozen(kw_only=True)
class End:
    """The response is whole; nothing follows."""


Piece = Start | Data | End
"""What an answer consists of."""


class _Sent(Enum):
    """How far a server's answer is."""

    NOTHING = "nothing"
    ITEMS = "a part of a stream"
    ALL = "a whole answer"


# What may be sent when, and what has been sent then. A row is looked up once an answer, a cell once a token.
_ORDER: Final[Mapping[_Sent, Mapping[type, _Sent]]] = {
    _Sent.NOTHING: {
        Response: _Sent.ALL,
        Failure: _Sent.ALL,
        StreamItem: _Sent.ITEMS,
        StreamEnd: _Sent.ALL,
    },
    _Sent.ITEMS: {StreamItem: _Sent.ITEMS, StreamEnd: _Sent.ALL, Failure: _Sent.ALL},
    _Sent.ALL: {},
}

_BODILESS: Final = (204, 304)
"""Statuses whose replies end with the head (RFC 9110, section 6.4.1)."""


@define
class ServerExchange:
    """A server's side of one exchange.

    Args:
        operations: What is offered here.
        client: The peer's address, for `Head`; `None` where it has none, or none that is known.
        stream: How streamed answers look, where it is not as their rows say.
        gate: Decides who may ask; without one everybody may.
        body_limit: The most bytes of a body, instead of what the operation's row says.
        depth: The most levels of nesting in a body.
    """

    _operations: Operations
    _client: str | None = field(kw_only=True, default=None)
    _stream: StreamWriter | None = field(kw_only=True, default=None)
    _gate: Gate | None = field(kw_only=True, default=None)
    _body_limit: int | None = field(kw_only=True, default=None)
    _depth: int = field(kw_only=True, default=MAX_DEPTH)
    _operation: Operation[Any, Any, Any] | None = field(init=False, default=None)
    _head: Head | None = field(init=False, default=None)
    _method: str = field(init=False, default="")
    _family: ErrorFamily = field(init=False, default="openai")
    _body: bytearray = field(init=False, factory=bytearray)
    _sent: _Sent = field(init=False, default=_Sent.NOTHING)
    _common: Headers = field(init=False, default=())
    """What every answer has, as the gate says."""

    @property
    def answered(self) -> bool:
        """Whether the whole answer was sent."""
        return self._sent is _Sent.ALL

    @property
    def bodiless(self) -> bool:
        """Whether the answer is its head alone (RFC 9110, section 9.3.2)."""
        return self._method == "HEAD"

    def receive_head(self, method: str, target: str, headers: Headers) -> Head | Failure | Response[None]:
        """Take a request's head.

        Args:
            method: As on the wire; methods are case-sensitive (RFC 9110, section 9.1).
            target: As on the wire: a path with a query string, or in absolute form.
            headers: Names in lower case.

        Returns:
            `Head`, when the body is wanted next; otherwise the answer to send at once.
        """
        self._method = method
        authority, local_target = origin_form(target)
        path, _, query = local_target.partition("?")
        match = self._operations.match(path)
        if self._gate is not None:
            verdict = self._gate(_asked(method, authority, headers, self._client, match))
            if isinstance(verdict, Failure | Response):
                return verdict
            self._common = verdict
        if match is None:
            if method == "OPTIONS" and path == "*":
                return Response(value=None, status=204)
            self._family = "openai" if path.startswith("/v1/") else "compatible"
            return no_such_route(method, path, missing=self._operations.misses(path))
        self._family = match.operations[0].errors  # All at one path have the same.
        if method == "OPTIONS":
            return Response(value=None, status=204, headers=allow(match))
        operation = match.by_method(method)
        if operation is None:
            expected = " or ".join(match.allow())
            message = f"method: expected {expected} for {path[:200]}, got {method[:40]}"
            return Failure(status=405, message=message, code="method_not_allowed", headers=allow(match))
        self._operation = operation
        if operation.upgrade and (failure := check_websocket(headers)) is not None:
            return failure
        if (failure := check_body_headers(operation, headers, self._limit_of(operation))) is not None:
            return failure
        try:
            words = arguments(operation, query, match)
        except ContentError as error:
            return Failure(status=400, message=str(error), param=error.param)
        self._head = Head(
            operation=operation, method=method, query=words, headers=headers, client=self._client
        )
        return self._head

    def receive_body(self, data: bytes | bytearray) -> Failure | None:
        """Take a piece of the request's body.

        Args:
            data: Bytes, cut anywhere, without what frames them.

        Returns:
            `None`; or the answer to send at once to a body that is too large, of which nothing is kept.

        Raises:
            LocalProtocolError: No head was accepted.
        """
        if self._head is None:
            raise LocalProtocolError("receive_body: no head was accepted")
        limit = self._limit_of(self._head.operation)
        if len(self._body) + len(data) > limit:
            self._body.clear()
            return too_large(limit)
        self._body += data
        return None

    def _limit_of(self, operation: Operation[Any, Any, Any]) -> int:
        return operation.body_limit if self._body_limit is None else self._body_limit

    def receive_end(self) -> Request[Any] | Upgrade | Failure:
        """Take note that the request's body is whole, and say what it means.

        Returns:
            `Request`, or `Upgrade` where the connection is to go on as a WebSocket; or the answer to send to
            a body that is none of the operation's.

        Raises:
            LocalProtocolError: No head was accepted.
        """
        if self._head is None:
            raise LocalProtocolError("receive_end: no head was accepted")
        raw = bytes(self._body)
        self._body.clear()
        if self._head.operation.upgrade:
            return Upgrade(head=self._head, headers=websocket_headers(self._head.headers))
        if not self._head.operation.has_body:
            return Request(head=self._head, value=None, raw=raw)
        try:
            value = decode(self._head.operation.request, raw, depth=self._depth)
        except ContentError as error:
            return Failure(status=400, message=str(error), param=error.param)
        return Request(head=self._head, value=value, raw=raw)

    def send(self, event: Answer) -> list[Piece]:
        """Take a piece of the answer and say how it looks.

        Args:
            event: What follows those that were sent.

        Returns:
            `Start` with the first event, `End` with the last, and the body between them.

        Raises:
            LocalProtocolError: Not at this point of an answer, not for this operation, or a value, status or
                header that cannot be sent. Nothing has been sent then: another answer is still possible.
        """
        before = self._sent
        if (after := _ORDER[before].get(type(event))) is None:
            raise LocalProtocolError(f"cannot send {type(event).__name__} after {before.value}")
        pieces = self._pieces(event, first=before is _Sent.NOTHING)
        if self._common and isinstance(start := pieces[0], Start):
            pieces[0] = evolve(start, headers=(*start.headers, *self._common))
        self._sent = after
        if self.bodiless:
            pieces = [piece for piece in pieces if not isinstance(piece, Data)]
        return pieces

    def send_item(self, event: Answer) -> bytes | None:
        """Take what nearly every event of a stream is, a further item, in the short way.

        Args:
            event: As for `send`.

        Returns:
            What `send` would put into its only piece; `None` for any other event, which `send` is to take.

        Raises:
            LocalProtocolError: As `send`.
        """
        if self._sent is not _Sent.ITEMS or type(event) is not StreamItem or event.headers or self.bodiless:
            return None
        return self._format.encode_item(event.value)

    def _pieces(self, event: Answer, *, first: bool) -> list[Piece]:
        match event:
            case Response():
                return _whole(event.status, event.headers, event.value, lowest=200, media=self._media)
            case Failure() if first:
                return _whole(event.status, event.headers, error_body(event, self._family), lowest=400)
            case Failure():
                return [*self._last(self._format.encode_failure(event)), End()]
            case StreamItem():
                begun = self._begin(event.headers, first=first)
                return [*begun, Data(data=self._format.encode_item(event.value))]
            case StreamEnd():
                return [*self._begin(first=first), *self._last(self._format.encode_end()), End()]
            case _:
                assert_never(event)

    @property
    def _media(self) -> bytes:
        return JSON if self._operation is None else self._operation.media_type

    @property
    def _format(self) -> StreamWriter:
        if self._operation is None or self._operation.stream is None:
            raise LocalProtocolError("cannot send a stream: the operation has none")
        return self._stream or self._operation.stream

    def _begin(self, headers: Headers = (), *, first: bool) -> list[Piece]:
        """What stands before a piece of a stream: before the first one, the head."""
        if not first:
            if headers:
                raise LocalProtocolError("cannot send headers with an item that is not the first")
            return []
        check_headers(headers)
        described = ((b"content-type", self._format.media_type), (b"cache-control", b"no-cache"))
        return [Start(status=200, headers=(*described, *headers))]

    def _last(self, pieces: tuple[bytes, ...]) -> list[Piece]:
        *most, last = pieces
        return [*(Data(data=piece) for piece in most), Data(data=last, after=self._format.final_pause)]


def _whole(status: int, headers: Headers, value: object, *, lowest: int, media: bytes = JSON) -> list[Piece]:
    if not lowest <= status <= 599:
        raise LocalProtocolError(f"cannot send the status {status}: expected one from {lowest} to 599")
    check_headers(headers)
    if value is None:
        length: Headers = () if status in _BODILESS else ((b"content-length", b"0"),)
        return [Start(status=status, headers=(*headers, *length)), End()]
    if status in _BODILESS:
        raise LocalProtocolError(f"cannot send a value with the status {status}")
    body = value if isinstance(value, bytes) else _write(value, media)
    described = ((b"content-type", media), (b"content-length", b"%d" % len(body)))
    return [Start(status=status, headers=(*described, *headers)), Data(data=body), End()]


def _write(value: object, media: bytes) -> bytes:
    return encode(value) if media == JSON else str(value).encode()


def _asked(
    method: str, authority: str | None, headers: Headers, client: str | None, match: Match | None
) -> Asked:
    return Asked(
        method=method,
        authority=authority,
        headers=headers,
        client=client,
        operation=None if match is None else match.by_method(method),
        allow=() if match is None else match.allow(),
    )
