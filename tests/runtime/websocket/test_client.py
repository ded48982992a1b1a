"""Laws of the client: answers reach who waits for them, leaving cancels, and what ends it is told."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from foundry_proto.errors import RemoteProtocolError
from foundry_proto.messages.watch import ModelChanged, Watching
from foundry_proto.upgrade import websocket_headers
from foundry_runtime.client import ServerFailure
from foundry_runtime.server import serve
from foundry_runtime.transport import Transport, TransportBroken, memory_transport_pair
from foundry_runtime.websocket import Conversation, ConversationClosed, Patience, open_conversation
from tests.support.applications import chat_request, make_test_application
from tests.support.masking import TEXT, frame
from tests.support.serving import Served, served, until
from tests.support.websockets import OneConnection

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def talking(server: Served, **more: Any) -> AsyncIterator[Conversation]:
    async with open_conversation("http://localhost:5272", connect=server.connect, **more) as talk:
        yield talk


async def test_many_tasks_share_one_websocket() -> None:
    answers: dict[str, str] = {}

    async def ask(talk: Conversation, text: str) -> None:
        whole = await talk.chat(chat_request(text=text))
        answers[text] = whole.choices[0].message.content or ""

    async def read(talk: Conversation, text: str) -> None:
        async with talk.stream(chat_request(text=text)) as chunks:
            answers[text] = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    async with served() as server, talking(server) as talk:
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(ask, talk, f"w{number} x")
                group.start_soon(read, talk, f"s{number} y z")
        assert answers == {text: f"{text} " for text in answers}
        assert len(answers) == 20
        assert server.connections == 1


async def test_what_is_watched_is_iterated_over() -> None:
    async with served() as server, talking(server) as talk:
        await talk.watch("models")
        assert await anext(talk) == Watching(topics=("models",))
        event = ModelChanged(model="m", state="absent")
        server.journal.feed.publish(event)
        async for told in talk:
            assert told == event
            break


async def test_leaving_a_stream_cancels_its_chat_and_nothing_else() -> None:
    async with served() as server, talking(server) as talk:
        async with talk.stream(chat_request("hold")) as chunks:
            async for chunk in chunks:
                if chunk.choices[0].delta.content:
                    break
        with anyio.fail_after(60):
            await until(lambda: server.journal.cancelled)
        whole = await talk.chat(chat_request())
        assert whole.choices[0].message.content == "hi "


async def test_a_task_that_is_cancelled_cancels_its_chat() -> None:
    async with served() as server, talking(server) as talk:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk.chat, chat_request("sleep"))
            await until(lambda: server.journal.begun)
            tasks.cancel_scope.cancel()
        with anyio.fail_after(60):
            await until(lambda: server.journal.cancelled)
        assert (await talk.chat(chat_request())).choices[0].message.content == "hi "


async def test_an_error_of_the_program_comes_out_as_it_is() -> None:
    async with served() as server:
        with pytest.raises(ServerFailure, match=r"^the server failed on this request$"):
            async with talking(server) as talk:
                await talk.chat(chat_request("raise"))
        with pytest.raises(KeyError, match="mine"):
            async with talking(server):
                raise KeyError("mine")
        with anyio.fail_after(60):
            await until(lambda: server.ended == 2)


async def test_a_stream_that_fails_says_so_behind_what_came() -> None:
    late = chat_request("raise-late")
    async with served() as server, talking(server) as talk, talk.stream(late) as chunks:
        said = [(await anext(chunks)).choices[0].delta.content for _ in range(2)]
        assert said == ["", "begun"]
        with pytest.raises(ServerFailure, match=r"^the server failed on this request$"):
            await anext(chunks)


async def test_a_page_of_another_site_is_refused_with_the_servers_words() -> None:
    async with served() as server:
        with pytest.raises(ServerFailure) as caught:
            async with talking(server, headers=((b"origin", b"http://evil.example"),)):
                pass
        assert caught.value.failure.status == 403
        assert str(caught.value) == "origin: expected a page of this machine, got http://evil.example"


async def test_the_opening_carries_the_key_and_what_is_sent_with_every_call() -> None:
    client, server = memory_transport_pair()
    seen: list[bytes] = []

    async def connect() -> Transport:
        return client

    async def hear() -> None:
        seen.append(await server.receive())
        await server.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(hear)
        with pytest.raises((RemoteProtocolError, TransportBroken)):
            async with open_conversation(
                "http://user:secret@host:1", connect=connect, api_key="k", headers=((b"x-a", b"b"),)
            ):
                pass
    lines = [line.lower() for line in seen[0].split(b"\r\n")]
    assert {b"host: host:1", b"authorization: bearer k", b"x-a: b"} <= set(lines)


@pytest.mark.parametrize("url", ["ws://localhost", "http://localhost/?x", "http://"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^base_url: expected http://host:port or https://host:port, got "):
        async with open_conversation(url):
            pass


async def test_a_server_that_stops_is_told_to_all_who_wait() -> None:
    listener = OneConnection()
    stop = anyio.Event()
    ends: list[str] = []

    async def connect() -> Transport:
        return listener.client

    async def wait(talk: Conversation) -> None:
        with pytest.raises(ConversationClosed) as caught:
            await talk.chat(chat_request("sleep"))
        ends.append(str(caught.value))

    async with anyio.create_task_group() as group:
        application = make_test_application()
        await group.start(partial(serve, application, [listener.as_listener()], stop=stop, drain=0.1))
        async with open_conversation(connect=connect) as talk, anyio.create_task_group() as waiting:
            waiting.start_soon(wait, talk)
            await until(lambda: application._running[0].begun)
            stop.set()
            with pytest.raises(ConversationClosed) as caught:
                await anext(talk)
            assert (caught.value.code, caught.value.reason) == (1001, "the server is stopping")
        with pytest.raises(ConversationClosed):
            await talk.watch("models")
        with pytest.raises(ConversationClosed):
            await talk.chat(chat_request())
    assert ends == ["the WebSocket was closed: 1001 the server is stopping"]


async def _answering(transport: Transport, answer: bytes) -> None:
    await transport.receive()
    await transport.send(answer)
    await transport.send_eof()


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (b"", RemoteProtocolError, "the server closed the connection without an answer"),
        (b"SSH-2.0-x\r\n\r\n", RemoteProtocolError, "the server opens no WebSocket: "),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            RemoteProtocolError,
            "the server opens no WebSocket: ",
        ),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", ServerFailure, "status 404"),
        (
            b'HTTP/1.1 401 Unauthorized\r\nContent-Length: 30\r\n\r\n{"error":{"message":"a key!"}}',
            ServerFailure,
            "a key!",
        ),
    ],
    ids=["nothing", "no HTTP", "no accept", "refused", "refused with words"],
)
async def test_a_server_that_opens_none_is_an_error(
    answer: bytes, error: type[Exception], message: str
) -> None:
    ours, theirs = memory_transport_pair()

    async def connect() -> Transport:
        return ours

    async with anyio.create_task_group() as group:
        group.start_soon(_answering, theirs, answer)
        with pytest.raises(error) as caught:
            async with open_conversation(connect=connect):
                pass
        assert str(caught.value).startswith(message)


async def _forging(transport: Transport) -> None:
    """Open a WebSocket, and end a chat that nobody began."""
    request = await transport.receive()
    key = re.search(rb"sec-websocket-key: (\S+)", request, re.IGNORECASE)
    assert key is not None
    lines = [b"%b: %b" % one for one in websocket_headers(((b"sec-websocket-key", key[1]),))]
    head = b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, b"", b""])
    await transport.send(head + frame(TEXT, b'{"type":"end","id":"7"}', masked=False))
    while await transport.receive():
        pass
    await transport.aclose()


async def test_a_server_that_says_what_is_none_of_the_protocol_is_an_error() -> None:
    ours, theirs = memory_transport_pair()

    async def connect() -> Transport:
        return ours

    async with anyio.create_task_group() as group:
        group.start_soon(_forging, theirs)
        with pytest.raises(RemoteProtocolError) as caught:
            async with open_conversation(connect=connect, patience=Patience(linger=0.1)) as talk:
                await anext(talk)
    assert str(caught.value) == 'expected an answer to a chat that runs, got one to "7"'
