"""The formats of streamed answers, as a server writes and a client reads them.

Knows: how an item, a failure and the end look in each format.
Refuses to know: HTTP framing, and which operation streams (the table says).

A format is one object; the row of an operation names it. Here:

- server-sent events whose data is JSON, ended by `data: [DONE]` (the REST reference page, "stream"); a
  failure after the first item is `data: {"error": …}`, after which nothing follows, not even the end;
- a download's progress (the same page, "POST /openai/download"): lines of text, ended by a marker and, in a
  write of its own, a JSON object that says what became of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, cast

from attrs import define, field

from foundry_proto.codec import encode, structure
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Failure, StreamEnd, StreamItem
from foundry_proto.jsontext import ContentError, load_json
from foundry_proto.messages.errors import ErrorBody, error_body, read_failure
from foundry_proto.progress import (
    DownloadResult,
    Progress,
    ProgressDecoder,
    ProgressEnd,
    ProgressEvent,
    encode_progress,
)
from foundry_proto.sentinels import NEED_DATA, NeedData
from foundry_proto.sse import SSEDecoder, encode_data

__all__ = ["PROGRESS", "SSE_JSON", "StreamDecoder", "StreamFormat", "StreamWriter"]


class StreamDecoder(Protocol):
    """A client's reading of one stream; the shape of every incremental parser here."""

    def receive_data(self, data: bytes) -> None:
        """Take a piece of the body."""
        ...

    def receive_eof(self) -> None:
        """The body is over."""
        ...

    def next_event(self) -> StreamItem[Any] | StreamEnd | Failure | NeedData:
        """Give the next event; after `StreamEnd` or `Failure` there is none.

        Raises:
            RemoteProtocolError: The stream is broken; so says every later call.
        """
        ...


class StreamWriter(Protocol):
    """How a server writes one kind of stream."""

    @property
    def media_type(self) -> bytes:
        """The reply's `Content-Type`."""
        ...

    @property
    def final_pause(self) -> float:
        """Seconds to wait before the last write, for clients that take one read for one piece."""
        ...

    def encode_item(self, value: object) -> bytes:
        """Write one item, a message or its JSON text."""
        ...

    def encode_failure(self, failure: Failure) -> tuple[bytes, ...]:
        """Write the end of a stream that can't go on; `final_pause` stands before the last piece."""
        ...

    def encode_end(self) -> tuple[bytes, ...]:
        """Write the end of a whole stream; `final_pause` stands before the last piece."""
        ...


class StreamFormat(StreamWriter, Protocol):
    """How one kind of stream looks on the wire, to who writes and to who reads it."""

    def schema(self, item: type[Any], of: Callable[[type[Any]], object]) -> Mapping[str, object]:
        """Describe a stream of such items in JSON Schema: one event of it, or else the whole text.

        Args:
            item: The class of an item.
            of: Gives the schema of a message class.
        """
        ...

    def decoder(self, item: type[Any], *, limit: int) -> StreamDecoder:
        """Begin to read a stream of such items, each of at most `limit` bytes."""
        ...


@define
class _SSEJsonDecoder:
    _item: type[Any]
    _limit: int
    _events: SSEDecoder = field(init=False)
    _over: bool = field(init=False, default=False)
    _wrong: str | None = field(init=False, default=None)
    """What was wrong with the stream: it is wrong for good."""

    def __attrs_post_init__(self) -> None:
        self._events = SSEDecoder(max_event_size=self._limit)

    def receive_data(self, data: bytes) -> None:
        if not self._over:
            self._events.receive_data(data)

    def receive_eof(self) -> None:
        self._events.receive_eof()

    def next_event(self) -> StreamItem[Any] | StreamEnd | Failure | NeedData:
        if self._wrong is not None:
            raise RemoteProtocolError(self._wrong)
        if self._over:
            return NEED_DATA
        event = self._events.next_event()
        if event is NEED_DATA:
            return NEED_DATA
        if event is None:
            raise RemoteProtocolError("expected data: [DONE], got the end of the stream")
        if event.data == "[DONE]":
            self._over = True
            return StreamEnd()
        try:
            plain = load_json(event.data.encode())
            # The status had left before the failure was known: 500 stands for "the server could not go on".
            if (failure := _reported(plain)) is not None:
                self._over = True
                return failure
            return StreamItem(value=structure(self._item, plain))
        except ContentError as error:
            self._wrong = f"an event of the stream is not what was expected: {error}"
            raise RemoteProtocolError(self._wrong) from None


def _reported(plain: object) -> Failure | None:
    """Read an event as a failure, if it is one: then it has an `error` that is not null."""
    if isinstance(plain, dict) and plain.get("error") is not None:
        return read_failure(plain, status=500) or Failure(
            status=500, message="the stream ended with an error"
        )
    return None


class _SSEJson:
    media_type: Final = b"text/event-stream"
    final_pause: Final = 0.0

    def schema(self, item: type[Any], of: Callable[[type[Any]], object]) -> Mapping[str, object]:
        # OpenAPI 3.1 has no word for the items of a stream; tools take this for one event.
        content = {"anyOf": [of(item), of(ErrorBody)]}
        message = {"contentMediaType": "application/json", "contentSchema": content}
        data = {"type": "string", "anyOf": [{"const": "[DONE]"}, message]}
        return {"type": "object", "properties": {"data": data}, "required": ["data"]}

    def encode_item(self, value: object) -> bytes:
        return encode_data(value if isinstance(value, bytes) else encode(value))

    def encode_failure(self, failure: Failure) -> tuple[bytes, ...]:
        return (encode_data(encode(error_body(failure, "openai"))),)

    def encode_end(self) -> tuple[bytes, ...]:
        return (encode_data(b"[DONE]"),)

    def decoder(self, item: type[Any], *, limit: int) -> StreamDecoder:
        return _SSEJsonDecoder(item, limit)


SSE_JSON: Final[StreamFormat] = _SSEJson()
"""Server-sent events of JSON, ended by `data: [DONE]`."""


@define
class _ProgressDecoder:
    """What a client of a download is told: progress, and then its end or why there is none."""

    _events: ProgressDecoder

    def receive_data(self, data: bytes) -> None:
        self._events.receive_data(data)

    def receive_eof(self) -> None:
        self._events.receive_eof()

    def next_event(self) -> StreamItem[Any] | StreamEnd | Failure | NeedData:
        while isinstance(event := self._events.next_event(), ProgressEnd):
            pass  # the result, which comes next, says what it was the end of
        match event:
            case Progress():
                return StreamItem(value=event)
            case DownloadResult(success=True):
                return StreamEnd()
            case DownloadResult():
                # The status had left before the failure was known: 500 stands for "the server could not".
                return Failure(status=500, message=event.error_message or "the download failed")
            case _:
                return NEED_DATA


class _ProgressLines:
    media_type: Final = b"text/plain; charset=utf-8"
    # One client takes what a single read gives either for progress or for the result: on a loaded machine
    # shorter pauses let the two come together.
    final_pause: Final = 0.2

    def schema(self, item: type[Any], of: Callable[[type[Any]], object]) -> Mapping[str, object]:  # noqa: ARG002 - no JSON
        return {"type": "string"}

    def encode_item(self, value: object) -> bytes:
        return encode_progress(cast("ProgressEvent", value))

    def encode_failure(self, failure: Failure) -> tuple[bytes, ...]:
        result = DownloadResult(success=False, error_message=failure.message)
        return encode_progress(ProgressEnd()), encode_progress(result)

    def encode_end(self) -> tuple[bytes, ...]:
        return encode_progress(ProgressEnd()), encode_progress(DownloadResult(success=True))

    def decoder(self, item: type[Any], *, limit: int) -> StreamDecoder:  # noqa: ARG002 - there is one kind
        return _ProgressDecoder(ProgressDecoder(max_event_size=limit))


PROGRESS: Final[StreamFormat] = _ProgressLines()
"""A download's progress: lines, and a result behind a pause."""
