"""A client of the WebSocket, for asyncio and trio: it watches a server and chats with it, on one connection.

Knows: the handshake from a client's side, and how one connection's texts reach all who wait for theirs.
Refuses to know: what texts mean (`foundry_proto.conversation`), and frames.

    async with open_conversation("http://127.0.0.1:5272") as talk:
        await talk.watch("models")
        async for event in talk:
            ...

Whoever opens a stream reads it, and whoever watches iterates: what nobody takes holds up all that follows.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import define, evolve, field
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, RejectData
from wsproto.events import Request as Opening
from wsproto.utilities import RemoteProtocolError as BadHandshake

from foundry_proto.conversation import Answered, ClientConversation, Complained, Ended, Told
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Failure, Headers, StreamItem
from foundry_proto.exchange import ClientAnswer
from foundry_proto.jsontext import ContentError, load_json
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk
from foundry_proto.messages.errors import read_failure
from foundry_proto.messages.watch import ServerEvent, Topic, Watching
from foundry_proto.operations import WATCH
from foundry_proto.sentinels import ABSENT, Absent
from foundry_runtime.application import Hangup
from foundry_runtime.calling import CONNECT_TIMEOUT, DEFAULT_URL, Items, ServerFailure, Whom, value_of
from foundry_runtime.client import Connect, Stream, connect_to
from foundry_runtime.transport import Transport, TransportBroken
from foundry_runtime.websocket.frames import ABNORMAL, Frames
from foundry_runtime.websocket.socket import Patience, WebSocket, open_websocket

__all__ = ["Conversation", "ConversationClosed", "open_conversation"]

_MAX_TEXT: Final = 64 * 1024 * 1024
_WAITING: Final = 100
"""What may wait for one who takes answers or events, before nothing more is read."""
_GOODBYE: Final = 1.0
"""Seconds that it may take to say that a chat is not waited for any more."""
_ERROR_BODY: Final = 64 * 1024
"""Most bytes of a refusal that are read."""


class ConversationClosed(TransportBroken):
    """The WebSocket is closed; `code` and `reason` say why (RFC 6455, section 7.4)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the WebSocket was closed: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


@asynccontextmanager
async def open_conversation(
    base_url: str = DEFAULT_URL,
    *,
    unix: str | Path | None = None,
    tls: ssl.SSLContext | None = None,
    connect: Connect | None = None,
    api_key: str | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    headers: Headers = (),
    patience: Patience | None = None,
) -> AsyncIterator[Conversation]:
    """Open a WebSocket to a server; the end of the context closes it.

    Args:
        connect_timeout: Seconds to make a connection, and for the server to open the WebSocket on it.
        headers: Sent with the request that opens it, names in lower case.
        patience: How long the server may be silent, and take to read.

    The others say which server it is, and how it is reached, as `Client`'s do.

    Raises:
        ValueError: The URL is none of a server.
        ServerFailure: The server opens none for this client.
        RemoteProtocolError: The server's answer is none to such a request.
        TransportBroken: The connection is lost.
        TimeoutError: The server did not answer.
    """
    whom = Whom.at(base_url, unix=unix, tls=tls, api_key=api_key, headers=headers)
    with anyio.fail_after(connect_timeout):
        transport = await (connect or partial(connect_to, whom))()
        try:
            frames = await _shake_hands(transport, whom)
        except BaseException:
            await transport.aclose()
            raise
    failed: Exception | None = None
    inbox, outbox = anyio.create_memory_object_stream[ServerEvent | Watching](_WAITING)
    with inbox, outbox:
        async with open_websocket(transport, frames, patience=patience) as socket:
            talk = Conversation(socket, inbox, outbox)
            async with anyio.create_task_group() as group:
                group.start_soon(talk.keep_reading)
                try:
                    yield talk
                except Exception as error:  # noqa: BLE001 - raised below, since a task group would wrap it
                    failed = error
                group.cancel_scope.cancel()
    if failed is not None:
        raise failed


async def _shake_hands(transport: Transport, whom: Whom) -> Frames:
    http = WSConnection(ConnectionType.CLIENT)
    opening = Opening(host=whom.authority, target=whom.prefix + WATCH.path, extra_headers=list(whom.headers))
    await transport.send(http.send(opening))
    refusal, body = None, b""
    try:
        while True:
            for event in http.events():
                match event:
                    case AcceptConnection():
                        return Frames(limit=_MAX_TEXT, socket=cast("Any", http.connection))
                    case RejectConnection():
                        refusal = event
                        if not event.has_body:
                            raise ServerFailure(_failure(event.status_code, event.headers, body))
                    case RejectData() if refusal is not None:
                        body += event.data
                        if event.body_finished or len(body) > _ERROR_BODY:
                            raise ServerFailure(_failure(refusal.status_code, refusal.headers, body))
            if not (data := await transport.receive()):
                raise RemoteProtocolError("the server closed the connection without an answer")
            http.receive_data(data)
    except BadHandshake as error:
        raise RemoteProtocolError(f"the server opens no WebSocket: {error}") from error


def _failure(status: int, headers: Any, body: bytes) -> Failure:
    """Read why the server refuses, as over HTTP."""
    plain: Headers = tuple((bytes(name).lower(), bytes(value)) for name, value in headers)
    try:
        found = read_failure(load_json(body), status=status, headers=plain)
    except ContentError:
        found = None
    return found or Failure(status=status, message=f"status {status}", headers=plain)


@define(eq=False)
class Conversation:
    """A WebSocket to a server; made by `open_conversation`. Iterate over it for what is watched."""

    _socket: WebSocket
    _inbox: MemoryObjectSendStream[ServerEvent | Watching]
    _outbox: MemoryObjectReceiveStream[ServerEvent | Watching]
    _rules: ClientConversation = field(init=False, factory=ClientConversation)
    _ids: Iterator[int] = field(init=False, factory=lambda: count(1))
    _chats: dict[str, MemoryObjectSendStream[ClientAnswer]] = field(init=False, factory=dict)
    _error: Exception | None = field(init=False, default=None)
    """Why nothing more comes."""

    def __aiter__(self) -> Conversation:
        return self

    async def __anext__(self) -> ServerEvent | Watching:
        """Wait for what is told.

        Raises:
            ConversationClosed: The server has closed, or the connection is lost.
            ServerFailure: The server could not use something that was said.
            RemoteProtocolError: The server said what is none of the protocol.
        """
        try:
            return await self._outbox.receive()
        except anyio.EndOfStream:
            raise self.closed() from None

    async def watch(self, *topics: Topic, progress_tokens: tuple[object, ...] | Absent = ABSENT) -> None:
        """Ask to be told of these topics, and of nothing else any more; `Watching` comes before the first.

        Args:
            topics: None of them ends it.
            progress_tokens: The downloads to be told of; by default all that have a token.
        """
        await self._say(self._rules.watch(*topics, progress_tokens=progress_tokens))

    async def chat(self, request: ChatCompletionRequest) -> ChatCompletion:
        """Chat, and wait for the whole answer.

        Args:
            request: What is asked, whether or not it says `stream`.

        Raises:
            ServerFailure: The server answered that it cannot.
            ConversationClosed: The server has closed, or the connection is lost.
        """
        async with self._calling(evolve(request, stream=False)) as answers:
            return cast("ChatCompletion", value_of(await answers.next_event()))

    @asynccontextmanager
    async def stream(self, request: ChatCompletionRequest) -> AsyncIterator[Stream[ChatCompletionChunk]]:
        """Chat, and take the answer chunk by chunk; leaving early cancels the chat.

        Args and errors as for `chat`; the errors come from the iteration.
        """
        async with self._calling(evolve(request, stream=True)) as answers:
            yield Stream(answers.next_event, Items())

    @asynccontextmanager
    async def _calling(self, request: ChatCompletionRequest) -> AsyncIterator[_Answers]:
        if self._error is not None:
            raise self._error
        call = str(next(self._ids))
        text = self._rules.chat(call, request)
        inbox, outbox = anyio.create_memory_object_stream[ClientAnswer](_WAITING)
        with inbox, outbox:
            self._chats[call] = inbox
            try:
                await self._say(text)
                yield _Answers(self, outbox)
            finally:
                # Still there, so that its answer is not whole.
                if self._chats.pop(call, None) is not None and self._error is None:
                    with anyio.move_on_after(_GOODBYE, shield=True):
                        await self._cancel(call)

    async def _cancel(self, call: str) -> None:
        try:
            await self._socket.send(self._rules.cancel(call))
        except Hangup:
            pass

    async def _say(self, text: bytes) -> None:
        try:
            await self._socket.send(text)
        except Hangup:
            raise self.closed() from None

    def closed(self) -> Exception:
        """Say why nothing more comes, once nothing does."""
        return self._error or ConversationClosed(self._socket.code or ABNORMAL, self._socket.reason)

    async def keep_reading(self) -> None:
        """Give what comes to who waits for it; a task of the context's."""
        try:
            while (text := await self._socket.receive()) is not None:
                await self._take(text)
            self._error = self.closed()
        except (RemoteProtocolError, ServerFailure) as error:
            self._error = error
        finally:
            self._inbox.close()
            for inbox in self._chats.values():
                inbox.close()

    async def _take(self, text: bytes) -> None:
        match event := self._rules.receive(text):
            case Told():
                await self._inbox.send(event.event)
            case Answered():
                await self._give(event)
            case Ended():
                self._chats.pop(event.id, None)
            case Complained():
                raise ServerFailure(event.failure)

    async def _give(self, event: Answered) -> None:
        inbox = self._chats.get(event.id)
        if not isinstance(event.answer, StreamItem):
            self._chats.pop(event.id, None)
        if inbox is not None:
            try:
                await inbox.send(event.answer)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # Nobody takes it any more; its chat was cancelled.


@define(eq=False)
class _Answers:
    """What answers one chat."""

    _talk: Conversation
    _outbox: MemoryObjectReceiveStream[ClientAnswer]

    async def next_event(self) -> ClientAnswer:
        try:
            return await self._outbox.receive()
        except anyio.EndOfStream:
            raise self._talk.closed() from None
