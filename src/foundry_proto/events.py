"""What happens on an exchange: nouns, frozen, complete.

Knows: what a server is told (`Head`, then `Request` or `Upgrade`; `Disconnected`), what it answers with
(`Response`, or `StreamItem` … `StreamEnd`, or `Failure`), and that a client is told the same answers.
Refuses to know: HTTP, JSON, and in which order events may come (`exchange.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import Factory, field, frozen

if TYPE_CHECKING:
    from foundry_proto.operations import Operation

__all__ = [
    "Disconnected",
    "Failure",
    "Head",
    "Headers",
    "Request",
    "Response",
    "StreamEnd",
    "StreamItem",
    "Upgrade",
    "header",
]

T = TypeVar("T")

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, and values, in the order of the wire."""


def header(headers: Headers, name: bytes) -> bytes | None:
    """Give a header's value, of several the last; `None` without one.

    Args:
        headers: Where to look.
        name: In lower case.
    """
    for key, value in reversed(headers):
        if key == name:
            return value
    return None


@frozen(kw_only=True)
class Head:
    """A request's head: who may talk, and whether the body is wanted, is decided on this."""

    operation: Operation[Any, Any, Any]
    method: str
    query: Any
    """An instance of the operation's `query` class, from the path's and the query string's words."""
    headers: Headers = ()
    client: str | None = None
    """Whose request it is: the address that who owns the connection gave, such as `127.0.0.1:50123`."""


@frozen(kw_only=True)
class Request(Generic[T]):
    """A request whose body is whole and means something."""

    head: Head
    value: T
    """An instance of the operation's `request` class; `None` for an operation without a body."""
    raw: bytes = b""
    """The body as it came, for who relays it."""


@frozen(kw_only=True)
class Upgrade:
    """A request for the connection to go on as a WebSocket, which it may: nothing is wrong with it."""

    head: Head
    headers: Headers
    """What the answer has to say, beside its status 101."""


@frozen(kw_only=True)
class Response(Generic[T]):
    """A whole answer."""

    value: T | bytes
    """An instance of the operation's `response` class; a server may give its JSON text instead. `None` for an
    empty body."""
    status: int = 200
    headers: Headers = ()


@frozen(kw_only=True)
class StreamItem(Generic[T]):
    """One piece of a streamed answer; the first one makes the status 200."""

    value: T | bytes
    """An instance of the operation's `item` class; a server may give its JSON text instead."""
    headers: Headers = ()
    """The answer's own, which only the first item can have; a client is not told of them."""


@frozen(kw_only=True)
class StreamEnd:
    """A streamed answer is whole."""


def _error_type(failure: Failure) -> str:
    return "server_error" if failure.status >= 500 else "invalid_request_error"


@frozen(kw_only=True)
class Failure:
    """An answer that says what is wrong: a whole one, or the end of a stream that can't go on."""

    status: int
    """From 400 to 599; a client may also be told of a redirection, which it does not follow."""
    message: str
    """For the client's user: the value, and what was expected."""
    type: str = field(default=Factory(_error_type, takes_self=True))
    """OpenAI's class of error; by default `invalid_request_error`, from status 500 on `server_error`."""
    param: str | None = None
    """The request's field that is to blame, as a path such as `messages[0].content`."""
    code: str | None = None
    """OpenAI's machine-readable code, such as `context_length_exceeded`."""
    headers: Headers = ()


@frozen(kw_only=True)
class Disconnected:
    """The peer sends nothing more; to who works on a long operation it means that nobody waits for it."""
