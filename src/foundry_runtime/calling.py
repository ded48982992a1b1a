"""What both clients know, on an event loop and without: whom to call, and when to try again.

Knows: what a base URL says, the headers of every call, what has been heard of an answer, which failures of a
connection may be tried again, and how an answer's events are handed out.
Refuses to know: sockets, event loops, clocks.

When to try again follows RFC 9110, section 9.2.2: what changes nothing (a row that is `safe`) may be sent
twice; anything else only when it cannot have been acted upon, since its last byte was never handed over.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, assert_never
from urllib.parse import urlsplit

from attrs import define, field, frozen

from foundry_proto.chat.assemble import ChatAssembler
from foundry_proto.connection import ClientConnection
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Failure, Headers, Response, StreamEnd, StreamItem
from foundry_proto.exchange import ClientAnswer
from foundry_proto.messages.completions import ChatCompletion
from foundry_proto.operations import Operation
from foundry_proto.sentinels import NeedData

__all__ = ["Attempts", "Call", "Chunks", "Items", "ServerFailure", "Whom", "value_of"]

DEFAULT_URL: Final = "http://127.0.0.1:5272"

DEFAULT_TIMEOUT: Final = 600.0
"""Seconds that the server may be silent: a model may have to be loaded, and a long prompt to be read."""

_PATH: Final = re.compile(r"(?:[-!$&'()*+,./:;=@_~0-9A-Za-z]|%[0-9A-Fa-f]{2})*")
"""A URL's path (RFC 3986, section 3.3)."""

CONNECT_TIMEOUT: Final = 30.0
"""Seconds to make a connection."""

KEEP_IDLE: Final = 30.0
"""Seconds that an unused connection is kept: less than any common server keeps it."""

RETRIES: Final = 1
"""Further attempts of a safe call: "A client SHOULD NOT automatically retry a failed automatic retry"."""

RETRY_PAUSE: Final = 0.1
"""Seconds before another attempt."""


class ServerFailure(Exception):
    """The server answered that it cannot do this; `failure` says what it said."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@frozen(kw_only=True)
class Whom:
    """Which server is called, and how it is reached."""

    authority: str
    """What the `Host` header says."""
    host: str
    port: int
    prefix: str
    """What stands before every path, percent-encoded."""
    unix: Path | None
    """The Unix socket that leads there instead of host and port."""
    tls: ssl.SSLContext | None
    headers: Headers
    """Those of every call."""

    @classmethod
    def at(
        cls,
        base_url: str,
        *,
        unix: str | Path | None,
        tls: ssl.SSLContext | None,
        api_key: str | None,
        headers: Headers,
    ) -> Whom:
        """Read what a client is given.

        Raises:
            ValueError: The URL is none of a server, or contradicts `tls`.
        """
        parts = urlsplit(base_url)
        secure = parts.scheme == "https"
        prefix, more = parts.path.rstrip("/"), parts.query or parts.fragment
        if parts.scheme not in ("http", "https") or not parts.hostname or more or not _PATH.fullmatch(prefix):
            raise ValueError(f"base_url: expected http://host:port or https://host:port, got {base_url}")
        if prefix.endswith("/v1"):  # It is what other clients want.
            raise ValueError(f"base_url: expected it without /v1, which calls add themselves, got {base_url}")
        if tls is not None and not secure:
            raise ValueError(f"base_url: expected https://host:port with tls, got {base_url}")
        key: Headers = () if api_key is None else ((b"authorization", b"Bearer " + api_key.encode()),)
        return cls(
            authority=parts.netloc.rpartition("@")[2],
            host=parts.hostname,
            port=parts.port or (443 if secure else 80),
            prefix=prefix,
            unix=None if unix is None else Path(unix),
            tls=(tls or ssl.create_default_context()) if secure else None,
            headers=(*key, *headers),
        )


@define
class Attempts:
    """The attempts at one call.

    Args:
        safe: Whether the call changes nothing on the server.
        retries: Further attempts of a safe call.
    """

    _safe: bool
    _retries: int

    def again(self, error: BaseException, *, kept: bool, sent: bool, heard: bool) -> float | None:
        """Say whether an attempt that failed is followed by another.

        Args:
            error: How it failed.
            kept: Whether its connection had carried calls before: the server may have closed it meanwhile.
            sent: Whether the whole request was handed over.
            heard: Whether a byte of the answer came.

        Returns:
            Seconds to wait before; `None` where there is no other attempt.
        """
        # A time-out is none of these: who waited long enough is not made to wait once more.
        lost = isinstance(error, ConnectionError | RemoteProtocolError)
        if heard or not lost:
            return None
        if kept and (self._safe or not sent):
            return 0.0
        if self._safe and self._retries > 0:
            self._retries -= 1
            return RETRY_PAUSE
        return None


@define(eq=False)
class Call:
    """A connection with a call under way; each client adds what carries its bytes."""

    connection: ClientConnection
    idle_since: float = 0.0
    """When it last ended, in seconds on the client's clock."""
    heard: bool = False
    """Whether a byte of the answer has come."""
    _first: ClientAnswer | None = field(init=False, default=None)

    def begin(
        self,
        operation: Operation[Any, Any, Any],
        value: object,
        params: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
        headers: Headers,
    ) -> bytes:
        """Begin another call; returns what to send."""
        self.heard = False
        return self.connection.call(operation, value, params=params, query=query, headers=headers)

    def received(self, data: bytes) -> None:
        """Take what came of the answer; no byte at all is the end of the connection."""
        if data:
            self.heard = True
            self.connection.receive_data(data)
        else:
            self.connection.receive_eof()

    def known_event(self) -> ClientAnswer | NeedData:
        """Give the answer's next event; `NEED_DATA` if it has not come yet."""
        first, self._first = self._first, None
        return self.connection.next_event() if first is None else first

    def put_back(self, event: ClientAnswer) -> None:
        """Give an event once more that was waited for early, to see that the call has arrived."""
        self._first = event


def value_of(event: ClientAnswer) -> Any:
    """The value of a whole answer.

    Raises:
        ServerFailure: The server could not.
        RemoteProtocolError: It answered otherwise.
    """
    match event:
        case Response():
            return event.value
        case Failure():
            raise ServerFailure(event)
        case StreamItem() | StreamEnd():
            raise RemoteProtocolError("expected a whole answer, got a streamed one")
        case _:
            assert_never(event)


@define
class Items:
    """What a streamed answer hands out, event by event."""

    over: bool = False
    """Whether nothing follows."""

    def take(self, event: ClientAnswer) -> Any:
        """Give an event's item; `StreamEnd` where there are no more.

        Raises:
            ServerFailure: The server could not go on.
            RemoteProtocolError: It answered otherwise.
        """
        self.over = not isinstance(event, StreamItem)
        match event:
            case StreamItem():
                return event.value
            case Failure():
                raise ServerFailure(event)
            case Response():
                raise RemoteProtocolError("expected a streamed answer, got a whole one")
            case StreamEnd():
                return event
            case _:
                assert_never(event)


@define
class Chunks(Items):
    """What a streamed chat hands out, and what its chunks add up to."""

    _assembler: ChatAssembler = field(init=False, factory=ChatAssembler)

    def take(self, event: ClientAnswer) -> Any:
        """Give an event's chunk; as `Items` does."""
        item = super().take(event)
        if not self.over:
            self._assembler.add(item)
        return item

    def completion(self) -> ChatCompletion:
        """The completion so far; of a stream that was cut, the finish reason is null.

        Raises:
            LocalProtocolError: No chunk has come.
        """
        return self._assembler.completion()
