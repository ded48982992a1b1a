"""One request and its response without HTTP's bytes: what a status, a header and a body mean.

Knows: routing, which bodies are accepted, the order in which a server may answer, how every answer looks
(HEAD, OPTIONS, 405 with `Allow`, error bodies, streams); and the same seen from a client.
Refuses to know: connections, framing, keep-alive (`connection.py`); who may talk and what a handler does.

The laws:
- A head gives `Head`, or the answer to send instead; after `Head`, a body gives `Request` or a `Failure`.
- A server answers once: a `Response`, or a `Failure`, or `StreamItem`s and then `StreamEnd` or `Failure`.
- What is wrong with the peer's *content* is never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import NoneType
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from attrs import define, field, frozen

from foundry_proto.codec import ContentError, decode, decode_words, encode
from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import (
    Failure,
    Head,
    Headers,
    Request,
    Response,
    StreamEnd,
    StreamItem,
    header,
)
from foundry_proto.messages.errors import ErrorBody, error_body
from foundry_proto.operations import Operation, Operations
from foundry_proto.sentinels import NEED_DATA, NeedData
from foundry_proto.streams import StreamDecoder

__all__ = [
    "Answer",
    "ClientAnswer",
    "ClientExchange",
    "Data",
    "End",
    "Piece",
    "ServerExchange",
    "Start",
]

Answer = Response[Any] | StreamItem[Any] | StreamEnd | Failure
"""What a server may send."""

ClientAnswer = Response[Any] | StreamItem[Any] | StreamEnd | Failure
"""What a client may be told."""


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


class _Sent(Enum):
    """How far a server's answer is."""

    NOTHING = "nothing"
    ITEMS = "a part of a stream"
    ALL = "a whole answer"


# What may be sent when, and what has been sent then.
_ORDER: Final[Mapping[tuple[_Sent, type], _Sent]] = {
    (_Sent.NOTHING, Response): _Sent.ALL,
    (_Sent.NOTHING, Failure): _Sent.ALL,
    (_Sent.NOTHING, StreamItem): _Sent.ITEMS,
    (_Sent.NOTHING, StreamEnd): _Sent.ALL,
    (_Sent.ITEMS, StreamItem): _Sent.ITEMS,
    (_Sent.ITEMS, StreamEnd): _Sent.ALL,
    (_Sent.ITEMS, Failure): _Sent.ALL,
}

_JSON: Final = b"application/json"


@define
class ServerExchange:
    """A server's side of one exchange.

    Args:
        operations: What is offered here.
    """

    _operations: Operations
    _operation: Operation[Any, Any, Any] | None = field(init=False, default=None)
    _head: Head | None = field(init=False, default=None)
    _method: str = field(init=False, default="")
    _path: str = field(init=False, default="/v1/")
    _body: bytearray = field(init=False, factory=bytearray)
    _sent: _Sent = field(init=False, default=_Sent.NOTHING)

    @property
    def answered(self) -> bool:
        """Whether the whole answer was sent."""
        return self._sent is _Sent.ALL

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
        path, _, query = _origin_form(target).partition("?")
        self._path = path
        match = self._operations.match(path)
        if match is None:
            if method == "OPTIONS" and path == "*":
                return Response(value=None, status=204)
            return Failure(status=404, message=f"no such route: {method} {path[:200]}", code="unknown_url")
        allow: Headers = ((b"allow", ", ".join(match.allow()).encode()),)
        if method == "OPTIONS":
            return Response(value=None, status=204, headers=allow)
        operation = match.by_method(method)
        if operation is None:
            expected = " or ".join(match.allow())
            message = f"method: expected {expected} for {path[:200]}, got {method[:40]}"
            return Failure(status=405, message=message, code="method_not_allowed", headers=allow)
        self._operation = operation
        if (failure := _check_body_headers(operation, headers)) is not None:
            return failure
        try:
            words = (*parse_qsl(query, keep_blank_values=True, max_num_fields=100), *match.params.items())
            arguments = None if operation.query is NoneType else decode_words(operation.query, words)
        except ValueError as error:
            param = error.param if isinstance(error, ContentError) else None
            return Failure(status=400, message=str(error), param=param)
        self._head = Head(operation=operation, method=method, query=arguments, headers=headers)
        return self._head

    def receive_body(self, data: bytes | bytearray) -> Failure | None:
        """Take a piece of the request's body; a `Failure` when it is too large."""
        if self._operation is None:
            raise LocalProtocolError("receive_body: no head was accepted")
        limit = self._operation.body_limit
        if len(self._body) + len(data) > limit:
            self._body.clear()
            return _too_large(limit)
        self._body += data
        return None

    def receive_end(self) -> Request[Any] | Failure:
        """The request's body is whole: say what it means."""
        if self._head is None or self._operation is None:
            raise LocalProtocolError("receive_end: no head was accepted")
        raw = bytes(self._body)
        self._body.clear()
        if not self._operation.has_body:
            return Request(head=self._head, value=None, raw=raw)
        try:
            value = decode(self._operation.request, raw)
        except ContentError as error:
            return Failure(status=400, message=str(error), param=error.param)
        return Request(head=self._head, value=value, raw=raw)

    def send(self, event: Answer) -> list[Piece]:
        """Take a piece of the answer and say how it looks.

        Raises:
            LocalProtocolError: Not at this point of an answer, or not for this operation.
        """
        before = self._sent
        if (after := _ORDER.get((before, type(event)))) is None:
            raise LocalProtocolError(f"cannot send {type(event).__name__} after {before.value}")
        pieces = self._pieces(event, first=before is _Sent.NOTHING)
        self._sent = after
        if self._method == "HEAD":
            pieces = [piece for piece in pieces if not isinstance(piece, Data)]
        return pieces

    def _pieces(self, event: Answer, *, first: bool) -> list[Piece]:
        match event:
            case Response():
                return self._whole(event.status, event.headers, event.value)
            case Failure() if first:
                family = self._operation.errors if self._operation else _family(self._path)
                return self._whole(event.status, event.headers, error_body(event, family))
            case StreamItem():
                return self._streamed(self._format.encode_item(event.value), first=first)
            case Failure():
                return [Data(data=self._format.encode_failure(event)), End()]
            case StreamEnd():
                data = self._format.encode_end()
                return [*self._streamed(data, first=first, after=self._format.final_pause), End()]

    @property
    def _format(self) -> Any:
        if self._operation is None or self._operation.stream is None:
            raise LocalProtocolError("cannot send a stream: the operation has none")
        return self._operation.stream

    def _streamed(self, data: bytes, *, first: bool, after: float = 0.0) -> list[Piece]:
        piece = Data(data=data, after=after)
        if not first:
            return [piece]
        headers = ((b"content-type", self._format.media_type), (b"cache-control", b"no-cache"))
        return [Start(status=200, headers=headers), piece]

    def _whole(self, status: int, headers: Headers, value: object) -> list[Piece]:
        if value is None:
            length: Headers = () if status == 204 else ((b"content-length", b"0"),)
            return [Start(status=status, headers=(*headers, *length)), End()]
        body = encode(value)
        described = ((b"content-type", _JSON), (b"content-length", b"%d" % len(body)))
        return [Start(status=status, headers=(*described, *headers)), Data(data=body), End()]


def _origin_form(target: str) -> str:
    """Reduce an absolute-form target to its path and query (RFC 9112, section 3.2.2)."""
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return target
    slash = rest.find("/")
    return rest[slash:] if slash >= 0 else "/"


def _family(path: str) -> Any:
    return "openai" if path.startswith("/v1/") else "compatible"


def _too_large(limit: int) -> Failure:
    return Failure(
        status=413, message=f"body: expected at most {limit} bytes, got more", code="request_too_large"
    )


def _check_body_headers(operation: Operation[Any, Any, Any], headers: Headers) -> Failure | None:
    """Say what can be said against a body before a byte of it is read."""
    length = header(headers, b"content-length")
    if length is not None and int(length) > operation.body_limit:
        return _too_large(operation.body_limit)
    if not operation.has_body:
        return None
    # Choice: a body without a Content-Type is taken for JSON; one of another type is refused even where it
    # would parse, since a web page may send `text/plain` anywhere without asking.
    media = header(headers, b"content-type")
    name, _, parameters = (media or _JSON).lower().partition(b";")
    name = name.strip()
    if name != _JSON and not (name.startswith(b"application/") and name.endswith(b"+json")):
        return _unsupported(f"content-type: expected application/json, got {_show_header(media)}")
    charset = parameters.strip().removeprefix(b"charset=").strip(b'"')
    if charset not in (b"", b"utf-8", b"utf8") and parameters.strip().startswith(b"charset="):
        return _unsupported(f"content-type: expected charset=utf-8, got {_show_header(charset)}")
    coding = header(headers, b"content-encoding")
    if coding is not None and coding.lower() != b"identity":
        return _unsupported(f"content-encoding: expected identity, got {_show_header(coding)}")
    return None


def _unsupported(message: str) -> Failure:
    return Failure(status=415, message=message, code="unsupported_media_type")


def _show_header(value: bytes | None) -> str:
    return (value or b"")[:80].decode("ascii", "replace")


@define
class ClientExchange:
    """A client's side of one exchange.

    Args:
        operation: What is called.
        limit: The most bytes of a whole answer, or of one item of a stream.
    """

    _operation: Operation[Any, Any, Any]
    _limit: int = field(kw_only=True)
    _status: int = field(init=False, default=0)
    _headers: Headers = field(init=False, default=())
    _body: bytearray = field(init=False, factory=bytearray)
    _stream: StreamDecoder | None = field(init=False, default=None)
    _eof: bool = field(init=False, default=False)
    _done: bool = field(init=False, default=False)

    def request(
        self, value: object, *, params: Mapping[str, str], query: Mapping[str, str], method: str | None
    ) -> tuple[str, str, Headers, bytes]:
        """Say how the request looks.

        Returns:
            Method, target, headers and body.
        """
        operation = self._operation
        target = operation.target(params) + (f"?{urlencode(query)}" if query else "")
        body = encode(value) if operation.has_body else b""
        headers: Headers = ()
        if operation.has_body:
            headers = ((b"content-type", _JSON), (b"content-length", b"%d" % len(body)))
        return method or operation.methods[0], target, headers, body

    def receive_head(self, status: int, headers: Headers) -> None:
        """Take the response's head."""
        self._status, self._headers = status, headers
        media = (header(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
        stream = self._operation.stream
        if status < 300 and stream is not None and media == stream.media_type.partition(b";")[0]:
            self._stream = stream.decoder(self._operation.item, limit=self._limit)

    def receive_body(self, data: bytes | bytearray) -> None:
        """Take a piece of the response's body."""
        if self._stream is not None:
            self._stream.receive_data(bytes(data))
            return
        if len(self._body) + len(data) > self._limit:
            raise RemoteProtocolError(f"expected an answer of at most {self._limit} bytes, got more")
        self._body += data

    def receive_end(self) -> None:
        """The response's body is whole."""
        self._eof = True
        if self._stream is not None:
            self._stream.receive_eof()

    def next_event(self) -> ClientAnswer | NeedData:
        """Give the next event of the answer.

        Raises:
            RemoteProtocolError: The answer is none of this operation.
        """
        if self._done:
            return NEED_DATA
        if self._stream is not None:
            event = self._stream.next_event()
            self._done = isinstance(event, StreamEnd | Failure)
            return event
        if not self._eof:
            return NEED_DATA
        self._done = True
        raw = bytes(self._body)
        if self._status >= 300:
            return _reported(self._status, raw, self._headers)
        if self._operation.response is NoneType:
            return Response(value=None, status=self._status, headers=self._headers)
        try:
            value = decode(self._operation.response, raw)
        except ContentError as error:
            raise RemoteProtocolError(f"the answer is not what was expected: {error}") from None
        return Response(value=value, status=self._status, headers=self._headers)


def _reported(status: int, raw: bytes, headers: Headers) -> Failure:
    """Read a failure from a reply of any server, as well as it can be read."""
    try:
        error = decode(ErrorBody, raw).error
    except ContentError:
        text = raw[:200].decode("utf-8", "replace").strip()
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return Failure(status=status, message=text or f"status {status}", type=kind, headers=headers)
    return Failure(
        status=status,
        message=error.message,
        type=error.type,
        param=error.param,
        code=error.code,
        headers=headers,
    )
