"""A client's side of an exchange: from a call to a request's pieces, from a reply's pieces to events.

Knows: how a call becomes method, target, headers and body, and how a reply is read: whole, as a stream, or as
a failure, from this server or from another that speaks nearly the same.
Refuses to know: bytes on the wire (`connection/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any
from urllib.parse import urlencode

from attrs import define, field

from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Failure, Headers, Response, StreamEnd, StreamItem, header
from foundry_proto.jsontext import load_json
from foundry_proto.messages.errors import read_failure
from foundry_proto.operations import Operation
from foundry_proto.operations.table import JSON
from foundry_proto.sentinels import NEED_DATA, NeedData
from foundry_proto.streams import StreamDecoder

__all__ = ["ClientAnswer", "ClientExchange"]

ClientAnswer = Response[Any] | StreamItem[Any] | StreamEnd | Failure
"""What a client may be told."""


@define
class ClientExchange:
    """A client's side of one exchange.

    Args:
        operation: What is called.
        limit: The most bytes of a whole answer, or of one item of a stream.
    """

    _operation: Operation[Any, Any, Any]
    _limit: int = field(kw_only=True)
    _method: str = field(init=False, default="")
    _status: int = field(init=False, default=0)
    _headers: Headers = field(init=False, default=())
    _body: bytearray = field(init=False, factory=bytearray)
    _stream: StreamDecoder | None = field(init=False, default=None)
    _eof: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)

    @property
    def over(self) -> bool:
        """Whether the last event of the answer was given."""
        return self._over

    def request(
        self,
        value: object = None,
        *,
        params: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> tuple[str, str, Headers, bytes]:
        """Say how the request looks.

        Args:
            value: An instance of the operation's request class; `None` for an operation without a body.
            params: The path's parameters.
            query: The query string's words.
            method: One of the operation's, or HEAD; by default the operation's first.

        Returns:
            Method, target, headers and body.

        Raises:
            LocalProtocolError: A value too many or too few, or one that cannot be sent.
        """
        operation = self._operation
        if (value is not None) is not operation.has_body:
            expected = "a value for the body" if operation.has_body else "no value, since it has no body"
            raise LocalProtocolError(f"{operation.name}: expected {expected}")
        try:
            words = urlencode(query or {})
        except UnicodeEncodeError:
            raise LocalProtocolError(
                f"{operation.name}: expected Unicode text in the query, got a lone surrogate"
            ) from None
        target = operation.target(params or {}) + (f"?{words}" if words else "")
        self._method = method or operation.methods[0]
        if not operation.has_body:
            return self._method, target, (), b""
        body = encode(value)
        headers = ((b"content-type", JSON), (b"content-length", b"%d" % len(body)))
        return self._method, target, headers, body

    def receive_head(self, status: int, headers: Headers) -> None:
        """Take the response's head.

        Args:
            status: The final one; interim ones (1xx) are no part of an answer (RFC 9110, section 15.2).
            headers: Names in lower case.
        """
        self._status, self._headers = status, headers
        media = (header(headers, b"content-type") or b"").partition(b";")[0].strip().lower()
        stream = self._operation.stream
        if status < 300 and stream is not None and media == stream.media_type.partition(b";")[0]:
            self._stream = stream.decoder(self._operation.item, limit=self._limit)

    def receive_body(self, data: bytes | bytearray) -> None:
        """Take a piece of the response's body.

        Args:
            data: Bytes, cut anywhere, without what frames them.

        Raises:
            RemoteProtocolError: The body is larger than the exchange's limit.
        """
        if self._stream is not None:
            self._stream.receive_data(bytes(data))
            return
        if len(self._body) + len(data) > self._limit:
            raise RemoteProtocolError(f"expected an answer of at most {self._limit} bytes, got more")
        self._body += data

    def receive_end(self) -> None:
        """Say that the response's body is whole; `next_event` then gives the rest of the answer."""
        self._eof = True
        if self._stream is not None:
            self._stream.receive_eof()

    def next_event(self) -> ClientAnswer | NeedData:
        """Give the next event of the answer.

        Returns:
            A `Response`; or `StreamItem`s and then `StreamEnd`; or a `Failure`, which a server may also send
            in the midst of a stream. `NEED_DATA` before more has come, and after the last event.

        Raises:
            RemoteProtocolError: The answer is none of this operation; any other exception is a bug.
        """
        if self._over:
            return NEED_DATA
        if self._stream is not None:
            event = self._stream.next_event()
            self._over = isinstance(event, StreamEnd | Failure)
            return event
        if not self._eof:
            return NEED_DATA
        answer = self._whole()
        self._over = True
        return answer

    def _whole(self) -> Response[Any] | Failure:
        raw = bytes(self._body)
        if self._status >= 300:
            return self._failure(raw)
        value = None
        if self._operation.response is not NoneType and self._method != "HEAD" and self._status != 204:
            try:
                value = self._value(raw)
            except ContentError as error:
                raise RemoteProtocolError(f"the answer is not what was expected: {error}") from None
        return Response(value=value, status=self._status, headers=self._headers)

    def _value(self, raw: bytes) -> object:
        if self._operation.media_type == JSON:
            return decode(self._operation.response, raw)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise ContentError("expected UTF-8") from None

    def _failure(self, raw: bytes) -> Failure:
        """Read a failure from a reply of any server; where its body says nothing, the status must do."""
        try:
            failure = read_failure(load_json(raw), status=self._status, headers=self._headers)
        except ContentError:
            failure = None
        if failure is not None:
            return failure
        text = raw[:200].decode("utf-8", "replace").strip() or f"status {self._status}"
        return Failure(status=self._status, message=text, headers=self._headers)
