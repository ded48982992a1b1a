"""Clients that are not ours, over TCP: trio-websocket, websockets, and wsproto on either loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
import trio
import trio_websocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from foundry_proto.messages.watch import ModelChanged
from foundry_runtime.application import Application
from foundry_runtime.server import TimeOuts, serve
from foundry_runtime.transport import open_tcp_listeners
from tests.support.applications import Journal, make_test_application

pytestmark = pytest.mark.anyio

QUICK = TimeOuts(linger=0.2)
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "grün ☕"}], "stream": True}
BIG = {"model": "long", "messages": [{"role": "user", "content": "200000"}]}


def on(backend: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("anyio_backend", [backend])


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, Journal, anyio.Event]]:
    """The test application over TCP: its URL, what its handlers did, and what stops it."""
    stop = anyio.Event()
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    application: Application[Journal] = make_test_application()
    async with anyio.create_task_group() as group:
        await group.start(partial(serve, application, [listener], stop=stop, time_outs=QUICK))
        yield f"ws://127.0.0.1:{listener.port}/foundry/watch", application._running[0], stop
        stop.set()


def opened(url: str, **more: Any) -> connect:
    return connect(url, proxy=None, **more)


def said(**message: Any) -> str:
    return json.dumps(message, ensure_ascii=False)


@on("trio")
async def test_trio_websocket_watches_and_chats() -> None:
    async with serving() as (url, journal, stop):
        place = urlsplit(url)
        # Its own `open_websocket_url` leaves a socket to the collector where the server closes first.
        stream = await trio.open_tcp_stream("127.0.0.1", place.port or 0)
        async with stream, trio.open_nursery() as nursery:
            socket = await trio_websocket.wrap_client_stream(nursery, stream, place.netloc, place.path)
            await socket.send_message(said(type="watch", topics=["models"]))
            assert json.loads(await socket.get_message())["type"] == "watching"
            journal.feed.publish(ModelChanged(model="m", state="ready"))
            assert json.loads(await socket.get_message())["state"] == "ready"
            await socket.send_message(said(type="chat", id="1", body=CHAT))
            text = ""
            while (message := json.loads(await socket.get_message()))["type"] == "chunk":
                text += message["body"]["choices"][0]["delta"].get("content", "")
            assert (text, message["type"]) == ("grün ☕ ", "end")
            await socket.send_message(said(type="chat", id="2", body=BIG))
            answer = json.loads(await socket.get_message())
            assert answer["body"]["choices"][0]["message"]["content"] == "x" * 200_000
            await socket.ping(b"you?")
            stop.set()
            with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                await socket.get_message()
            reason = caught.value.reason
            assert reason is not None
            assert (reason.code, reason.reason) == (1001, "the server is stopping")
            nursery.cancel_scope.cancel()


@on("asyncio")
async def test_websockets_watches_and_chats() -> None:
    async with serving() as (url, journal, stop), opened(url) as socket:
        await socket.send(said(type="watch", topics=["models"]))
        assert json.loads(await socket.recv())["type"] == "watching"
        journal.feed.publish(ModelChanged(model="m", state="ready"))
        assert json.loads(await socket.recv())["state"] == "ready"
        # As fragments, which it makes of an iterable.
        await socket.send(list(said(type="chat", id="1", body=CHAT)))
        text = ""
        while (message := json.loads(await socket.recv()))["type"] == "chunk":
            text += message["body"]["choices"][0]["delta"].get("content", "")
        assert (text, message["type"]) == ("grün ☕ ", "end")
        await socket.send(said(type="chat", id="2", body=BIG))
        answer = json.loads(await socket.recv())
        assert answer["body"]["choices"][0]["message"]["content"] == "x" * 200_000
        await asyncio.wait_for(await socket.ping(), 60)
        stop.set()
        with pytest.raises(Exception, match="1001") as caught:
            await socket.recv()
        assert "the server is stopping" in str(caught.value)


@on("asyncio")
async def test_websockets_learns_why_it_is_refused_and_closed() -> None:
    async with serving() as (url, _, _stop):
        with pytest.raises(InvalidStatus) as refused:
            async with opened(url, origin="http://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        async with opened(url) as socket:
            await socket.send(b"binary")
            with pytest.raises(ConnectionClosedError) as caught:
                await socket.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1003
        async with asyncio.timeout(60), opened(url, close_timeout=600):
            pass  # its close is answered at once
