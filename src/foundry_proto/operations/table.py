"""What a row of the table is, and how a path leads to it.

Knows: everything about an endpoint that is not behaviour.
Refuses to know: which endpoints there are (the modules beside this one), what a handler does, and how bytes
are framed.

An `Operations` is a value: this package ships its rows, a product or an embedder adds its own.
A path is matched raw: it is split at `/` first and each segment decoded once, so that `%2f` never makes a
segment (RFC 3986, section 2.4). Of several rows that fit, the one counts that is literal where they first
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote, unquote_to_bytes

from attrs import field, frozen

from foundry_proto.errors import LocalProtocolError
from foundry_proto.messages.errors import ErrorFamily
from foundry_proto.streams import StreamFormat

__all__ = ["JSON", "MAX_REQUEST_BODY", "Match", "Operation", "Operations", "Profile"]

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ItemT = TypeVar("ItemT")

Profile = Literal["documented", "core", "openai", "extra"]
"""Where an operation comes from: the REST reference page, the newer routes, OpenAI's API alone, or none of
these."""

JSON: Final = b"application/json"

MAX_REQUEST_BODY: Final = 4 * 1024 * 1024
"""Bytes: eight times an English prompt of 128k tokens, so that other scripts and JSON's escapes have room."""


@frozen(kw_only=True)
class Operation(Generic[RequestT, ResponseT, ItemT]):
    """One row: everything about an endpoint that is not behaviour."""

    name: str
    """A Python identifier; the handler and the client's method are named like it."""
    methods: tuple[str, ...]
    path: str
    """A template: `/openai/load/{name}`; a segment in braces is a parameter."""
    summary: str
    """What it does, as a sentence for users."""
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
    timeless: bool = False
    """Whether it may take as long as it takes, where an owner limits the time of others."""
    local: bool = False
    """Whether only clients on the server's own machine may call it."""
    upgrade: bool = False
    """Whether the connection goes on as a WebSocket: `request` is then what its client may say there, and
    `item` what it is told; over HTTP there is no body."""
    public: bool = False
    """Whether it is answered without a key, where keys are asked for."""
    body_limit: int = MAX_REQUEST_BODY
    media_type: bytes = JSON
    """What a whole answer is written in; other than JSON its type is `str`, and its value the text."""
    errors: ErrorFamily = "openai"
    """The form of its failures; the same for all operations at one path."""
    failures: tuple[int, ...] = ()
    """The statuses that a handler may refuse with, beside those that follow from the row itself."""
    profile: Profile = "documented"
    heading: str
    """Where the operation is described: a heading of the REST reference page, or of another source."""

    @property
    def has_body(self) -> bool:
        """Whether a request carries a JSON body."""
        return self.request is not NoneType and not self.upgrade

    def target(self, params: Mapping[str, str]) -> str:
        """Fill the path's parameters in, percent-encoded (RFC 3986, section 2.1).

        Args:
            params: A value for each name that stands in braces.

        Returns:
            The path, without a query string.

        Raises:
            LocalProtocolError: A parameter is missing, empty, or no Unicode text.
        """
        return "/".join(
            self._segment(params.get(part[1:-1], "")) if part.startswith("{") else part
            for part in self.path.split("/")
        )

    def _segment(self, value: str) -> str:
        try:
            segment = quote(value, safe=":@!$&'()*+,;=")
        except UnicodeEncodeError:
            raise LocalProtocolError(
                f"{self.name}: expected Unicode text for {self.path}, got a lone surrogate"
            ) from None
        if not segment:
            raise LocalProtocolError(f"{self.name}: expected a value for each parameter of {self.path}")
        return segment


@frozen(kw_only=True)
class Match:
    """What a path means: the operations at it, one per method, and its parameters, decoded."""

    operations: tuple[Operation[Any, Any, Any], ...]
    params: Mapping[str, str]
    _allowed: tuple[str, ...] = field(init=False, repr=False, eq=False)

    @_allowed.default
    def _find_allowed(self) -> tuple[str, ...]:
        methods = [method for operation in self.operations for method in operation.methods]
        if any("GET" in operation.methods and operation.safe for operation in self.operations):
            methods.append("HEAD")
        return (*dict.fromkeys(methods), "OPTIONS")

    def allow(self) -> tuple[str, ...]:
        """The methods that the path answers, for `Allow`."""
        return self._allowed

    def by_method(self, method: str) -> Operation[Any, Any, Any] | None:
        """The operation for a method; HEAD is answered by a safe GET (RFC 9110, section 9.3.2).

        Args:
            method: As on the wire; methods are case-sensitive (RFC 9110, section 9.1).

        Returns:
            Its row; `None` for a method that the path does not have, which is answered with 405.
        """
        for operation in self.operations:
            if method in operation.methods or (
                method == "HEAD" and operation.safe and "GET" in operation.methods
            ):
                return operation
        return None


_Shape = tuple[str | None, ...]
"""A path's segments, `None` for a parameter."""


class Operations:
    """An immutable set of operations with the paths that lead to them.

    Args:
        rows: The operations; two may share a path when their methods differ.
        not_yet: Paths of the protocol that are not offered, each with all that lies below it: who asks
            for one is told so.

    Raises:
        ValueError: Two rows have one name, or one path and method, or one path and differ in what a path has
            once: the names of its parameters, and the form of its failures.
    """

    def __init__(self, rows: Iterable[Operation[Any, Any, Any]], *, not_yet: Iterable[str] = ()) -> None:
        self._rows = tuple(rows)
        self.not_yet = tuple(not_yet)
        self._by_shape: dict[_Shape, tuple[Operation[Any, Any, Any], ...]] = {}
        self._open: dict[int, list[_Shape]] = {}
        """The shapes that have parameters, by their number of segments."""
        self._literal: dict[tuple[str | None, ...], Match] = {}
        """What the shapes without parameters mean."""
        names: set[str] = set()
        for row in self._rows:
            if row.name in names:
                raise ValueError(f"{row.name}: another row has this name")
            names.add(row.name)
            shape = tuple(None if part.startswith("{") else part for part in row.path.split("/"))
            if None in shape and shape not in self._by_shape:
                self._open.setdefault(len(shape), []).append(shape)
            others = self._by_shape.get(shape, ())
            for other in others:
                _check_neighbours(row, other)
            found = self._by_shape[shape] = (*others, row)
            if None not in shape:
                self._literal[shape] = Match(operations=found, params={})

    def __iter__(self) -> Iterator[Operation[Any, Any, Any]]:
        return iter(self._rows)

    def __add__(self, rows: Iterable[Operation[Any, Any, Any]]) -> Operations:
        """Give a new table with further rows."""
        more = rows.not_yet if isinstance(rows, Operations) else ()
        return Operations((*self._rows, *rows), not_yet=dict.fromkeys((*self.not_yet, *more)))

    def misses(self, path: str) -> bool:
        """Whether a raw path that no row has is one of `not_yet`, or lies below one.

        Args:
            path: As for `match`.
        """
        return any(f"{path}/".startswith(f"{missing}/") for missing in self.not_yet)

    def match(self, path: str) -> Match | None:
        """Find what a raw path means; `None` when no row has such a path.

        Args:
            path: The target's path, still percent-encoded, without the query string.
        """
        segments: Sequence[str] = path.split("/")
        if "%" in path:
            try:
                segments = [unquote_to_bytes(segment).decode() for segment in segments]
            except UnicodeDecodeError:
                return None
        # A shape without parameters, if there is one, is literal wherever others are not.
        if (literal := self._literal.get(tuple(segments))) is not None:
            return literal
        fitting = [shape for shape in self._open.get(len(segments), ()) if _fits(shape, segments)]
        if not fitting:
            return None
        rows = self._by_shape[min(fitting, key=lambda shape: [part is None for part in shape])]
        parts = rows[0].path.split("/")
        params = {
            part[1:-1]: segment for part, segment in zip(parts, segments, strict=True) if part.startswith("{")
        }
        return Match(operations=rows, params=params)


def _check_neighbours(row: Operation[Any, Any, Any], other: Operation[Any, Any, Any]) -> None:
    """Refuse two rows at one path that could not be told apart, or differ in what the path has once."""
    if row.path != other.path:
        raise ValueError(f"{row.name}: {row.path} is {other.path} of {other.name}, in other words")
    if row.errors != other.errors:
        raise ValueError(f"{row.name}: {row.path} has {other.errors} errors, as {other.name} says")
    for method in row.methods:
        if method in other.methods:
            raise ValueError(f"{row.name}: {method} {row.path} belongs to {other.name}")


def _fits(shape: _Shape, segments: Sequence[str]) -> bool:
    return all(
        segment != "" if part is None else part == segment
        for part, segment in zip(shape, segments, strict=True)
    )
