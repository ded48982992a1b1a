"""What a server's connection and its driver agree on: what is waited for, how much is held, what leaves when.

Knows: the terms. Refuses to know: what HTTP makes of them (`server.py`), sockets, clocks.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from foundry_proto.jsontext import MAX_DEPTH

__all__ = ["Limits", "Phase", "Write"]


class Phase(Enum):
    """What a server's connection waits for: all that a driver needs to choose a time-out."""

    IDLE = "idle"
    """The first byte of a request."""
    HEAD = "head"
    """The rest of a request's head."""
    BODY = "body"
    """The rest of a request's body, wanted or not."""
    RESPONDING = "responding"
    """The server's own answer."""
    CLOSING = "closing"
    """Nothing: the last answer is whole, or there will be none."""
    SWITCHED = "switched"
    """Nothing: the connection goes on as a WebSocket, of which this machine knows nothing."""


@frozen(kw_only=True)
class Limits:
    """How much a peer may make a server's connection hold, in bytes where nothing else is said."""

    head: int = 64 * 1024
    """A request's line and headers together (431 beyond it), a chunk's size line, or a body's trailers."""
    drain: int = 64 * 1024
    """The unread rest of a body that is read and forgotten for the sake of keeping the connection."""
    waiting: int = 64 * 1024
    """What may wait behind a request that is being answered, before a driver should stop reading."""
    body: int | None = None
    """A request's body (413 beyond it); `None` is what the operation's row says."""
    headers: int = 100
    """How many headers a request may have (431 beyond it)."""
    depth: int = MAX_DEPTH
    """How many levels of nesting a body's JSON may have."""


@frozen(kw_only=True)
class Write:
    """Bytes to send, and how long after the previous write: a driver never joins across a pause."""

    data: bytes
    after: float = 0.0
    """Seconds."""
