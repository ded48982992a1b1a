"""The table: one row per endpoint, from which routing, client, server and documents derive.

Knows: which operations there are, and everything about each that is not behaviour.
Refuses to know: what a handler does, and how bytes are framed.

An `Operations` is a value: this package ships the documented rows, a product or an embedder adds its own.
A path is matched raw: it is split at `/` first and each segment decoded once, so that `%2f` never makes a
segment (RFC 3986, section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import NoneType
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote, unquote_to_bytes

from attrs import field, frozen

from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk
from foundry_proto.messages.errors import ErrorFamily
from foundry_proto.streams import SSE_JSON, StreamFormat

__all__ = ["CHAT_COMPLETIONS", "DOCUMENTED", "Match", "Operation", "Operations", "Profile"]

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ItemT = TypeVar("ItemT")

Profile = Literal["documented", "core", "openai"]
"""Where an operation comes from: the REST reference page, the newer routes, or OpenAI's API alone."""

MAX_REQUEST_BODY: Final = 4 * 1024 * 1024
"""Bytes: twenty times the longest prompt that a context of 128k tokens holds, in any script."""


@frozen(kw_only=True)
class Operation(Generic[RequestT, ResponseT, ItemT]):
    """One row: everything about an endpoint that is not behaviour."""

    name: str
    """A Python identifier; the handler and the client's method are named like it."""
    methods: tuple[str, ...]
    path: str
    """A template: `/openai/load/{name}`; a segment in braces is a parameter."""
    request: type[RequestT]
    """The body's class; `NoneType` for an operation without a body."""
    response: type[ResponseT]
    """The whole answer's class; `NoneType` for an empty body."""
    item: type[ItemT]
    """The class of a streamed answer's items; `NoneType` where nothing streams."""
    query: type[Any] = NoneType
    """The class of the path's and the query string's words."""
    stream: StreamFormat | None = None
    streams: Callable[[RequestT], bool] = field(default=lambda _: False)
    """Whether this very request asks for a streamed answer."""
    safe: bool = False
    """Whether it changes nothing and computes little: only then HEAD is answered from GET."""
    long: bool = False
    """Whether its work is worth cancelling when the client hangs up."""
    body_limit: int = MAX_REQUEST_BODY
    errors: ErrorFamily = "openai"
    profile: Profile = "documented"
    heading: str
    """Where the operation is described: a heading of the REST reference page, or of another source."""

    @property
    def has_body(self) -> bool:
        """Whether a request carries a JSON body."""
        return self.request is not NoneType

    def target(self, params: Mapping[str, str]) -> str:
        """Fill the path's parameters in, percent-encoded."""
        return "/".join(
            quote(params[segment[1:-1]], safe=":@!$&'()*+,;=") if segment.startswith("{") else segment
            for segment in self.path.split("/")
        )


@frozen(kw_only=True)
class Match:
    """What a path means: the operations at it, one per method, and its parameters, decoded."""

    operations: tuple[Operation[Any, Any, Any], ...]
    params: Mapping[str, str]

    def allow(self) -> tuple[str, ...]:
        """The methods that the path answers, for `Allow`."""
        methods = [method for operation in self.operations for method in operation.methods]
        if any("GET" in operation.methods and operation.safe for operation in self.operations):
            methods.append("HEAD")
        return (*dict.fromkeys(methods), "OPTIONS")

    def by_method(self, method: str) -> Operation[Any, Any, Any] | None:
        """The operation for a method; HEAD is answered by a safe GET."""
        for operation in self.operations:
            if method in operation.methods or (
                method == "HEAD" and operation.safe and "GET" in operation.methods
            ):
                return operation
        return None


class Operations:
    """An immutable set of operations with the paths that lead to them.

    Args:
        rows: The operations; two may share a path when their methods differ.

    Raises:
        ValueError: Two rows have one name, or one path and method.
    """

    def __init__(self, rows: Iterable[Operation[Any, Any, Any]]) -> None:
        self._rows = tuple(rows)
        self._by_shape: dict[tuple[str | None, ...], tuple[Operation[Any, Any, Any], ...]] = {}
        seen: set[object] = set()
        for row in self._rows:
            shape = tuple(None if part.startswith("{") else part for part in row.path.split("/"))
            for key in (row.name, *((shape, method) for method in row.methods)):
                if key in seen:
                    raise ValueError(f"operation {row.name}: {key} is taken by another row")
                seen.add(key)
            self._by_shape[shape] = (*self._by_shape.get(shape, ()), row)

    def __iter__(self) -> Iterator[Operation[Any, Any, Any]]:
        return iter(self._rows)

    def __add__(self, rows: Iterable[Operation[Any, Any, Any]]) -> Operations:
        """Give a new table with further rows."""
        return Operations((*self._rows, *rows))

    def match(self, path: str) -> Match | None:
        """Find what a raw path means; `None` when no row has such a path.

        Args:
            path: The target's path, still percent-encoded, without the query string.
        """
        segments = path.split("/")
        best: tuple[int, tuple[Operation[Any, Any, Any], ...]] | None = None
        for shape, rows in self._by_shape.items():
            if len(shape) == len(segments) and all(
                segment != "" if part is None else part == segment
                for part, segment in zip(shape, segments, strict=True)
            ):
                # A literal segment is closer than a parameter.
                literal = len(shape) - shape.count(None)
                if best is None or literal > best[0]:
                    best = (literal, rows)
        if best is None:
            return None
        try:
            params = {
                part[1:-1]: unquote_to_bytes(segment).decode()
                for part, segment in zip(best[1][0].path.split("/"), segments, strict=True)
                if part.startswith("{")
            }
        except UnicodeDecodeError:
            return None
        return Match(operations=best[1], params=params)


CHAT_COMPLETIONS: Final[Operation[ChatCompletionRequest, ChatCompletion, ChatCompletionChunk]] = Operation(
    name="chat_completions",
    methods=("POST",),
    path="/v1/chat/completions",
    request=ChatCompletionRequest,
    response=ChatCompletion,
    item=ChatCompletionChunk,
    stream=SSE_JSON,
    streams=lambda request: request.stream is True,
    long=True,
    heading="POST /v1/chat/completions",
)

DOCUMENTED: Final = Operations([CHAT_COMPLETIONS])
"""The operations of the REST reference page that this package speaks."""
