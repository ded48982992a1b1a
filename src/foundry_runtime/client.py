"""One generic client on the table of operations, for asyncio and trio.

Knows: how to get a connection and keep it for the next call, when a call is tried again on another one, and
how an answer is handed out: whole, item by item, or a chat's chunks and what they add up to.
Refuses to know: any particular operation but the chat; types come from the operation's row.

    async with Client("http://127.0.0.1:5272") as client:
        async with client.chat(request) as chunks:
            async for chunk in chunks:
                ...
            completion = chunks.completion
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import anyio
import anyio.lowlevel
from attrs import define, evolve, field

from foundry_proto.connection import ClientConnection
from foundry_proto.events import Headers, StreamEnd
from foundry_proto.exchange import ClientAnswer
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk
from foundry_proto.operations import CHAT_COMPLETIONS, Operation
from foundry_proto.sentinels import NEED_DATA
from foundry_runtime.calling import (
    CONNECT_TIMEOUT,
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    KEEP_IDLE,
    RETRIES,
    Attempts,
    Call,
    Chunks,
    Items,
    ServerFailure,
    Whom,
    value_of,
)
from foundry_runtime.transport import Transport, TransportBroken, connect_tcp, connect_unix

__all__ = ["ChatStream", "Client", "Connect", "ServerFailure", "Stream", "connect_to"]

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ItemT = TypeVar("ItemT")

Connect = Callable[[], Awaitable[Transport]]
"""Opens a connection to the server."""


async def connect_to(whom: Whom) -> Transport:
    """Open a connection to a server; raises as `connect_tcp` and `connect_unix` do."""
    if whom.unix is not None:
        return await connect_unix(whom.unix)
    return await connect_tcp(whom.host, whom.port, tls=whom.tls)


@define(eq=False)
class _Call(Call):
    """A call on a transport: the only two functions that touch both."""

    transport: Transport = field(kw_only=True)
    timeout: float = field(kw_only=True)

    async def send(self, data: bytes) -> None:
        self.transport.deadline = anyio.current_time() + self.timeout
        await self.transport.send(data)

    async def next_event(self) -> ClientAnswer:
        while (event := self.known_event()) is NEED_DATA:
            self.transport.deadline = anyio.current_time() + self.timeout
            self.received(await self.transport.receive())
        return event

    async def is_stale(self) -> bool:
        """Whether the server has closed a connection that nobody uses, or says what nobody asked."""
        self.transport.deadline = None
        await anyio.lowlevel.checkpoint()  # lets asyncio hear of it
        with anyio.CancelScope() as at_once:
            at_once.cancel()
            try:
                await self.transport.receive()
            except TransportBroken:
                pass
            return True
        return False


class Stream(Generic[ItemT]):
    """The items of a streamed answer, in order; an asynchronous iterator."""

    def __init__(self, next_event: Callable[[], Awaitable[ClientAnswer]], items: Items) -> None:
        self._next_event = next_event
        self._items = items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        """Wait for the next item.

        Raises:
            ServerFailure: The server could not go on.
            RemoteProtocolError: The stream is broken, or was cut.
            TimeoutError: The server was silent for too long.
        """
        item = StreamEnd() if self._items.over else self._items.take(await self._next_event())
        if isinstance(item, StreamEnd):
            raise StopAsyncIteration
        return cast("ItemT", item)  # what the row says, as the codec made it


class ChatStream(Stream[ChatCompletionChunk]):
    """The chunks of a chat completion, and what they add up to."""

    def __init__(self, next_event: Callable[[], Awaitable[ClientAnswer]], chunks: Chunks) -> None:
        super().__init__(next_event, chunks)
        self._chunks = chunks

    @property
    def completion(self) -> ChatCompletion:
        """The completion so far; of a stream that was cut, the finish reason is null.

        Raises:
            LocalProtocolError: No chunk has come.
        """
        return self._chunks.completion()


class Client:
    """Calls the operations of one server; connections are kept and used again.

    Args:
        base_url: `http://host:port` or `https://host:port`, and the path that the server is mounted at, if it
            is; operations bring `/v1` with them.
        unix: Connects to this Unix socket; the URL's host is only named to the server then.
        tls: Which certificates are trusted, and which are shown; by default what the system trusts.
        connect: Opens a connection in a way of its own, as through memory.
        api_key: Sent as `Authorization: Bearer …`.
        timeout: Seconds that the server may be silent.
        connect_timeout: Seconds to make a connection.
        retries: Further attempts of calls that change nothing, where a connection fails before the answer.
        headers: Sent with every call, names in lower case.

    Raises:
        ValueError: The URL is none of a server.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        unix: str | Path | None = None,
        tls: ssl.SSLContext | None = None,
        connect: Connect | None = None,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        retries: int = RETRIES,
        headers: Headers = (),
    ) -> None:
        self._whom = Whom.at(base_url, unix=unix, tls=tls, api_key=api_key, headers=headers)
        self._connect = connect or partial(connect_to, self._whom)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._retries = retries
        self._idle: list[_Call] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that nobody uses, all of them even if cancelled."""
        with anyio.CancelScope(shield=True):  # no close waits for the server
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
            return cast("ResponseT", value_of(await call.next_event()))

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
            yield Stream(call.next_event, Items())

    @asynccontextmanager
    async def chat(self, request: ChatCompletionRequest) -> AsyncIterator[ChatStream]:
        """Have a conversation answered chunk by chunk, whether or not the request says `stream`.

        Args and errors as for `stream`.
        """
        async with self._calling(CHAT_COMPLETIONS, evolve(request, stream=True), None, None) as call:
            yield ChatStream(call.next_event, Chunks())

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
        """Send a call; one that changes nothing is tried again until its answer begins."""
        attempts = Attempts(safe=operation.safe, retries=self._retries)
        while True:
            kept, sent = await self._kept(), False
            call = kept
            try:
                call = call or await self._open()
                await call.send(call.begin(operation, value, params, query, self._whom.headers))
                sent = True
                if operation.safe:
                    call.put_back(await call.next_event())
                return call  # noqa: TRY300 - an `else` would stand behind the long `except`
            except BaseException as error:  # whatever ended it: a broken connection serves no other call
                heard = False
                if call is not None:
                    heard = call.heard
                    await call.transport.aclose()
                pause = attempts.again(error, kept=kept is not None, sent=sent, heard=heard)
                if pause is None:
                    raise
            if kept is not None:
                await self.aclose()  # The others are as old.
            await anyio.sleep(pause)

    async def _kept(self) -> _Call | None:
        """Take the connection that was used last, unless the server has closed it, or may be about to."""
        while self._idle:
            call = self._idle.pop()
            if anyio.current_time() - call.idle_since < KEEP_IDLE and not await call.is_stale():
                return call
            await call.transport.aclose()
        return None

    async def _open(self) -> _Call:
        with anyio.fail_after(self._connect_timeout):
            transport = await self._connect()
        connection = ClientConnection(self._whom.authority, prefix=self._whom.prefix)
        return _Call(connection, transport=transport, timeout=self._timeout)
