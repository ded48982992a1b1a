"""One generic client on the table of operations, for asyncio and trio.

Knows: how to get a connection and keep it for the next call, and how a call's answer is handed out: whole, or
item by item.
Refuses to know: any particular operation; its types come from its row.

    async with Client("http://127.0.0.1:5272") as client:
        async with client.stream(CHAT_COMPLETIONS, request) as chunks:
            async for chunk in chunks:
                ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar, cast
from urllib.parse import urlsplit

import anyio
from attrs import define

from foundry_proto.connection import ClientConnection
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Failure, Headers, Response, StreamEnd, StreamItem
from foundry_proto.exchange import ClientAnswer
from foundry_proto.operations import Operation
from foundry_proto.sentinels import NEED_DATA
from foundry_runtime.transport import Transport, TransportBroken, connect_tcp

__all__ = ["Client", "Connect", "ServerFailure", "Stream"]

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ItemT = TypeVar("ItemT")

Connect = Callable[[], Awaitable[Transport]]
"""Opens a connection to the server."""

DEFAULT_TIMEOUT: Final = 600.0
"""Seconds that the server may be silent: a model may have to be loaded, and a long prompt to be read."""

KEEP_IDLE: Final = 30.0
"""Seconds that an unused connection is kept: less than any common server keeps it."""


class ServerFailure(Exception):
    """The server answered that it cannot do this; `failure` says what it said."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@define(eq=False)
class _Call:
    """A connection with a call under way: the only two functions that touch both."""

    transport: Transport
    connection: ClientConnection
    timeout: float
    idle_since: float = 0.0

    async def send(self, data: bytes) -> None:
        self.transport.deadline = anyio.current_time() + self.timeout
        await self.transport.send(data)

    async def next_event(self) -> ClientAnswer:
        while (event := self.connection.next_event()) is NEED_DATA:
            self.transport.deadline = anyio.current_time() + self.timeout
            data = await self.transport.receive()
            if data:
                self.connection.receive_data(data)
            else:
                self.connection.receive_eof()
        return event


class Stream(Generic[ItemT]):
    """The items of a streamed answer, in order; an asynchronous iterator."""

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._over = False

    def __aiter__(self) -> Stream[ItemT]:
        return self

    async def __anext__(self) -> ItemT:
        """Wait for the next item.

        Raises:
            ServerFailure: The server could not go on.
            RemoteProtocolError: The stream is broken, or was cut.
            TimeoutError: The server was silent for too long.
        """
        if self._over:
            raise StopAsyncIteration
        match event := await self._call.next_event():
            case StreamItem():
                return cast("ItemT", event.value)  # what the row says, as the codec made it
            case Failure():
                self._over = True
                raise ServerFailure(event)
            case Response():
                self._over = True
                raise RemoteProtocolError("expected a streamed answer, got a whole one")
            case StreamEnd():
                self._over = True
                raise StopAsyncIteration


class Client:
    """Calls the operations of one server; connections are kept and used again.

    Args:
        base_url: `http://host:port`, without a path.
        connect: Opens a connection in another way: through memory, or a Unix socket.
        timeout: Seconds that the server may be silent.
        headers: Sent with every call, names in lower case.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:5272",
        *,
        connect: Connect | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        headers: Headers = (),
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"base_url: expected http://host:port, got {base_url}")
        self._host = parts.netloc
        host, port = parts.hostname, parts.port or 80
        self._connect: Connect = connect or (lambda: connect_tcp(host, port))
        self._timeout = timeout
        self._headers = headers
        self._idle: list[_Call] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop().transport.aclose()

    async def call(
        self,
        operation: Operation[RequestT, ResponseT, Any],
        value: RequestT | None = None,
        *,
        params: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> ResponseT:
        """Call an operation that answers as a whole.

        Args:
            operation: Its row in the table.
            value: An instance of its request class.
            params: The path's parameters.
            query: The query string's words.

        Raises:
            ServerFailure: The server answered that it cannot.
            RemoteProtocolError: The answer is none of this operation.
            TransportBroken: The connection is lost.
            TimeoutError: The server was silent for too long.
        """
        async with self._calling(operation, value, params, query) as call:
            match event := await call.next_event():
                case Response():
                    return cast("ResponseT", event.value)
                case Failure():
                    raise ServerFailure(event)
                case StreamItem() | StreamEnd():
                    raise RemoteProtocolError("expected a whole answer, got a streamed one")

    @asynccontextmanager
    async def stream(
        self,
        operation: Operation[RequestT, Any, ItemT],
        value: RequestT | None = None,
        *,
        params: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Stream[ItemT]]:
        """Call an operation that answers item by item; leaving early hangs up, which stops the server's work.

        Args and errors as for `call`; the errors may also come from the iteration.
        """
        async with self._calling(operation, value, params, query) as call:
            yield Stream(call)

    @asynccontextmanager
    async def _calling(
        self,
        operation: Operation[Any, Any, Any],
        value: object,
        params: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
    ) -> AsyncIterator[_Call]:
        call = await self._begin(operation, value, params, query)
        try:
            yield call
        finally:
            if call.connection.reusable:
                call.transport.deadline = None
                call.idle_since = anyio.current_time()
                self._idle.append(call)
            else:
                await call.transport.aclose()

    async def _begin(
        self,
        operation: Operation[Any, Any, Any],
        value: object,
        params: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
    ) -> _Call:
        while True:
            call = await self._kept() or await self._open()
            kept = call.idle_since > 0
            try:
                data = call.connection.call(
                    operation, value, params=params, query=query, headers=self._headers
                )
                await call.send(data)
            except BaseException as error:
                await call.transport.aclose()
                # Nothing was answered on a kept connection that the server has closed: another one will do.
                if not (kept and isinstance(error, TransportBroken)):
                    raise
            else:
                return call

    async def _kept(self) -> _Call | None:
        """Take the connection that was used last, unless the server may be about to close it."""
        while self._idle:
            call = self._idle.pop()
            if anyio.current_time() - call.idle_since < KEEP_IDLE:
                return call
            await call.transport.aclose()
        return None

    async def _open(self) -> _Call:
        with anyio.fail_after(self._timeout):
            transport = await self._connect()
        return _Call(transport, ClientConnection(self._host), self._timeout)
