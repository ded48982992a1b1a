"""How all clients reach a server: TLS with certificates on both sides, and Unix sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trustme

from foundry_proto.errors import RemoteProtocolError
from foundry_proto.messages.completions import ChatCompletion
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.blocking import BlockingClient
from foundry_runtime.client import Client
from foundry_runtime.server import serve
from foundry_runtime.transport import (
    Listener,
    Transport,
    TransportBroken,
    TransportClosed,
    connect_tcp,
    open_tcp_listeners,
    open_unix_listener,
)
from foundry_runtime.websocket import open_conversation
from tests.support.applications import chat_request, make_test_application

pytestmark = pytest.mark.anyio

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


@asynccontextmanager
async def serving(listeners: Sequence[Listener]) -> AsyncIterator[None]:
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        await tasks.start(partial(serve, make_test_application(), listeners, stop=stop))
        yield
        stop.set()


async def ask(*arguments: Any, **more: Any) -> ChatCompletion:
    async with Client(*arguments, **more) as client:
        return await client.call(CHAT_COMPLETIONS, chat_request())


def ask_blocking(*arguments: Any, **more: Any) -> ChatCompletion:
    with BlockingClient(*arguments, **more) as client:
        return client.call(CHAT_COMPLETIONS, chat_request())


async def ask_over_websocket(*arguments: Any, **more: Any) -> ChatCompletion:
    async with open_conversation(*arguments, **more) as talk:
        return await talk.chat(chat_request())


async def all_of_them(*arguments: Any, **more: Any) -> list[str | None]:
    """What each client is answered."""
    answers = (
        await ask(*arguments, **more),
        await ask_over_websocket(*arguments, **more),
        await anyio.to_thread.run_sync(partial(ask_blocking, *arguments, **more)),
    )
    return [answer.choices[0].message.content for answer in answers]


async def test_a_server_with_a_certificate_is_reached_by_who_trusts_it_and_shows_one() -> None:
    authority = trustme.CA()
    at_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(at_server)
    authority.configure_trust(at_server)
    at_server.verify_mode = ssl.CERT_REQUIRED
    known = ssl.create_default_context()
    authority.configure_trust(known)
    authority.issue_cert("me@example.org").configure_cert(known)
    listeners = await open_tcp_listeners("127.0.0.1", 0, tls=at_server)
    url = f"https://localhost:{listeners[0].port}"
    async with serving(listeners):
        assert await all_of_them(url, tls=known) == ["hi ", "hi ", "hi "]
        # Without a certificate of its own, without trust, and without TLS.
        unknown = ssl.create_default_context()
        authority.configure_trust(unknown)
        for context in (unknown, None):
            with pytest.raises((TransportBroken, RemoteProtocolError)):
                await ask(url, tls=context, retries=0)
            with pytest.raises((TransportBroken, RemoteProtocolError)):
                await ask_over_websocket(url, tls=context)
            with pytest.raises((TransportBroken, RemoteProtocolError)):
                await anyio.to_thread.run_sync(partial(ask_blocking, url, tls=context, retries=0))


@needs_unix
async def test_a_unix_socket_leads_to_the_server(tmp_path: Path) -> None:
    path = tmp_path / "a b.sock"
    async with serving([open_unix_listener(path)]):
        assert await all_of_them("http://localhost", unix=path) == ["hi ", "hi ", "hi "]
    with pytest.raises(OSError, match=r"^\[Errno \d+\] cannot connect to .*a b\.sock: "):
        await ask("http://localhost", unix=path, retries=0)
    with pytest.raises(OSError, match=r"^\[Errno \d+\] cannot connect to .*a b\.sock: "):
        await ask_over_websocket("http://localhost", unix=path)
    with pytest.raises(OSError, match=r"^\[Errno \d+\] cannot connect to .*a b\.sock: "):
        await anyio.to_thread.run_sync(partial(ask_blocking, "http://localhost", unix=path, retries=0))


async def test_a_client_that_is_cancelled_leaves_no_connection() -> None:
    listeners = await open_tcp_listeners("127.0.0.1", 0)
    opened: list[Transport] = []

    async def connect() -> Transport:
        opened.append(await connect_tcp("127.0.0.1", listeners[0].port))
        return opened[-1]

    async with serving(listeners):
        with anyio.CancelScope() as scope:
            async with Client(connect=connect) as client:
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(client.call, CHAT_COMPLETIONS, chat_request())
                scope.cancel()
        assert len(opened) == 3
        for transport in opened:
            with pytest.raises(TransportClosed):
                await transport.receive()
