"""Operations of the tests' own, so that every general branch has one that takes it.

Path parameters, query words, HEAD, bodies without answers, answers without bodies, several methods at one
path, and a stream whose last piece needs a write of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, Literal

from attrs import define, field, frozen

from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Failure, StreamEnd, StreamItem
from foundry_proto.lines import LineBuffer
from foundry_proto.operations import CHAT_COMPLETIONS, Operation, Operations
from foundry_proto.sentinels import ABSENT, NEED_DATA, Absent, NeedData
from foundry_proto.streams import StreamDecoder

__all__ = [
    "COPY",
    "DROP",
    "FAKES",
    "FIND",
    "FOLLOW",
    "LINES",
    "PUT",
    "Widget",
    "WidgetWords",
]


@frozen(kw_only=True)
class Widget:
    """What the operations are about."""

    name: str
    size: int | Absent = ABSENT


@frozen(kw_only=True)
class WidgetWords:
    """The words of a path and a query."""

    name: str
    colour: Literal["red", "green"] | Absent = ABSENT
    count: int | Absent = ABSENT


@define
class _LinesDecoder:
    _item: type[Any]
    _limit: int
    _lines: LineBuffer = field(init=False)
    _over: bool = field(init=False, default=False)
    _wrong: str | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._lines = LineBuffer(max_line_size=self._limit)

    def receive_data(self, data: bytes) -> None:
        self._lines.receive_data(data)

    def receive_eof(self) -> None:
        self._lines.receive_eof()

    def next_event(self) -> StreamItem[Any] | StreamEnd | Failure | NeedData:
        if self._wrong is not None:
            raise RemoteProtocolError(self._wrong)
        line = NEED_DATA if self._over else self._lines.next_line()
        if line is NEED_DATA:
            return NEED_DATA
        if line is None:
            raise RemoteProtocolError("expected the line end, got the end of the stream")
        self._over = line == b"end" or line.startswith(b"failed ")
        if line == b"end":
            return StreamEnd()
        if self._over:
            return Failure(status=500, message=line.removeprefix(b"failed ").decode("utf-8", "replace"))
        try:
            return StreamItem(value=decode(self._item, line))
        except ContentError as error:
            self._wrong = str(error)
            raise RemoteProtocolError(self._wrong) from None


class _Lines:
    media_type = b"text/plain; charset=utf-8"
    final_pause = 0.15

    def schema(self, item: type[Any], of: Callable[[type[Any]], object]) -> Mapping[str, object]:
        return {"type": "string"}

    def encode_item(self, value: object) -> bytes:
        return (value if isinstance(value, bytes) else encode(value)) + b"\n"

    def encode_failure(self, failure: Failure) -> tuple[bytes, ...]:
        return (b"failed %b\n" % failure.message.encode(),)

    def encode_end(self) -> tuple[bytes, ...]:
        return (b"end\n",)

    def decoder(self, item: type[Any], *, limit: int) -> StreamDecoder:
        return _LinesDecoder(item, limit)


LINES = _Lines()
"""A line for each item; the last comes 0.15 seconds after the others."""

FIND: Operation[None, Widget, None] = Operation(
    name="find",
    methods=("GET",),
    path="/widgets/{name}",
    summary="Finds a widget.",
    request=NoneType,
    response=Widget,
    item=NoneType,
    query=WidgetWords,
    safe=True,
    errors="compatible",
    heading="Widgets",
)
PUT: Operation[Widget, None, None] = Operation(
    name="put",
    methods=("PUT", "POST"),
    path="/widgets/{name}",
    summary="Puts a widget in its place.",
    request=Widget,
    response=NoneType,
    item=NoneType,
    body_limit=100,
    errors="compatible",
    heading="Widgets",
)
DROP: Operation[None, None, None] = Operation(
    name="drop",
    methods=("GET", "POST"),
    path="/widgets/drop",
    summary="Drops all widgets.",
    request=NoneType,
    response=NoneType,
    item=NoneType,
    heading="Widgets",
)
COPY: Operation[Widget, Widget, Widget] = Operation(
    name="copy",
    methods=("POST",),
    path="/v1/copies",
    summary="Copies a widget.",
    request=Widget,
    response=Widget,
    item=Widget,
    stream=LINES,
    streams=lambda widget: widget.size is not ABSENT,
    heading="Widgets",
)

FOLLOW: Operation[None, None, Widget] = Operation(
    name="follow",
    methods=("GET",),
    path="/v1/changes",
    summary="Follows what changes.",
    request=NoneType,
    response=NoneType,
    item=Widget,
    stream=LINES,
    streams=lambda _: True,
    safe=True,
    heading="Widgets",
)

FAKES: Operations = Operations([CHAT_COMPLETIONS, FIND, PUT, DROP, COPY, FOLLOW])
"""The documented operations and the tests' own."""
