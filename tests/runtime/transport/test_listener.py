"""Laws of accepting: how many, by TLS, on Unix sockets; what is too much is told so, and costs little."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio
import pytest
import trustme

from foundry_runtime.crowd import Crowd, CrowdLimits
from foundry_runtime.platform import unix_socket_family
from foundry_runtime.transport import (
    Listener,
    Transport,
    TransportBroken,
    connect_tcp,
    connect_unix,
    open_tcp_listeners,
    open_unix_listener,
)
from foundry_runtime.transport import listener as listener_module
from foundry_runtime.transport import tls as tls_module
from tests.support.serving import read_all, until

pytestmark = pytest.mark.anyio

unix = pytest.mark.skipif(sys.platform == "win32", reason="Python has no Unix sockets there")


async def echo(transport: Transport) -> None:
    while data := await transport.receive():
        await transport.send(data)


Connect = Callable[..., Awaitable[Transport]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects to a port of this machine, or to a path; the connections are closed with the test."""
    async with AsyncExitStack() as stack:

        async def connect(to: int | Path, tls: ssl.SSLContext | None = None) -> Transport:
            transport = await (
                connect_unix(to) if isinstance(to, Path) else connect_tcp("127.0.0.1", to, tls=tls)
            )
            stack.push_async_callback(transport.aclose)
            return transport

        yield connect


async def ask(transport: Transport, data: bytes) -> bytes:
    await transport.send(data)
    return await transport.receive()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


# How many.


async def listen(tls: ssl.SSLContext | None = None) -> Listener:
    (listener,) = await open_tcp_listeners("127.0.0.1", 0, tls=tls)
    return listener


async def test_one_too_many_reads_why_and_the_next_is_served(connect: Connect) -> None:
    listener = await listen()
    crowd = Crowd(CrowdLimits(per_address=2))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(listener.serve, echo, crowd=crowd))
        first, second = [await connect(listener.port) for _ in range(2)]
        assert (await ask(first, b"a"), await ask(second, b"b")) == (b"a", b"b")
        third = await connect(listener.port)
        await third.send(b"GET / HTTP/1.1\r\n")
        assert (await read_all(third)).startswith(b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\n")
        await third.aclose()
        assert await ask(first, b"still here") == b"still here"
        await second.aclose()
        await until(lambda: len(crowd) == 1)
        fourth = await connect(listener.port)
        assert await ask(fourth, b"served") == b"served"
        tasks.cancel_scope.cancel()
    assert len(crowd) == 0
    await listener.aclose()


async def test_who_is_turned_away_and_stays_is_cut_and_many_of_them_at_once(
    monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    monkeypatch.setattr(listener_module, "TURNED_AWAY", 1)
    monkeypatch.setattr(listener_module, "MOMENT", 0.05)
    listener = await listen()
    crowd = Crowd(CrowdLimits(total=1))
    assert crowd.enter(None) is None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(listener.serve, echo, crowd=crowd))
        staying = await connect(listener.port)
        assert (await staying.receive()).startswith(b"HTTP/1.1 503 ")
        hasty = await connect(listener.port)
        try:
            assert await hasty.receive() == b""
        except TransportBroken:
            pass  # cut, as said
        await until(lambda: listener._turned_away == 0)
        again = await connect(listener.port)
        assert (await again.receive()).startswith(b"HTTP/1.1 503 ")
        tasks.cancel_scope.cancel()
    await listener.aclose()


# TLS.


async def test_what_is_said_by_tls_arrives(authority: trustme.CA, connect: Connect) -> None:
    listener = await listen(server_context(authority))
    assert listener.tls
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        client = await connect(listener.port, client_context(authority))
        assert await ask(client, b"hello") == b"hello"
        tasks.cancel_scope.cancel()
    await listener.aclose()


async def test_one_too_many_is_cut_without_words_where_they_would_cost_a_handshake(
    authority: trustme.CA, connect: Connect
) -> None:
    listener = await listen(server_context(authority))
    crowd = Crowd(CrowdLimits(total=1))
    trusting = client_context(authority)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(listener.serve, echo, crowd=crowd))
        first = await connect(listener.port, trusting)
        with pytest.raises(TransportBroken):
            await connect(listener.port, trusting)
        assert await ask(first, b"still here") == b"still here"
        await first.aclose()
        await until(lambda: len(crowd) == 0)
        assert await ask(await connect(listener.port, trusting), b"served") == b"served"
        tasks.cancel_scope.cancel()
    await listener.aclose()


async def test_a_handshake_that_fails_costs_one_connection(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    monkeypatch.setattr(tls_module, "HANDSHAKE", 0.1)
    listener = await listen(server_context(authority))
    crowd = Crowd(CrowdLimits(total=4))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(listener.serve, echo, crowd=crowd))
        # In clear; silent; gone; and one that trusts somebody else.
        clear, silent, gone = [await connect(listener.port) for _ in range(3)]
        await clear.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await gone.aclose()
        with pytest.raises(TransportBroken):
            await connect(listener.port, client_context(trustme.CA()))
        for one in (clear, silent):
            try:
                await read_all(one)
            except TransportBroken:
                pass
        await until(lambda: len(crowd) == 0)
        client = await connect(listener.port, client_context(authority))
        assert await ask(client, b"hello") == b"hello"
        tasks.cancel_scope.cancel()
    await listener.aclose()


async def test_one_too_many_is_cut_before_the_handshake(authority: trustme.CA, connect: Connect) -> None:
    listener = await listen(server_context(authority))
    crowd = Crowd(CrowdLimits(total=1))
    assert crowd.enter(None) is None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(listener.serve, echo, crowd=crowd))
        with pytest.raises(TransportBroken):
            await connect(listener.port, client_context(authority))
        tasks.cancel_scope.cancel()
    await listener.aclose()


# Unix sockets.


@unix
async def test_a_unix_socket_serves_those_who_may_write_to_its_file(tmp_path: Path, connect: Connect) -> None:
    path = tmp_path / "ein Weg ☕.sock"
    listener = open_unix_listener(path, 0o620)
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    assert (listener.host, listener.port, listener.address) == ("", 0, str(path))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(listener.serve, echo, crowd=Crowd()))
        client = await connect(path)
        assert client.peer is None
        assert await ask(client, b"hello") == b"hello"
        await client.aclose()
        await listener.aclose()
    assert not path.exists()
    with pytest.raises(FileNotFoundError, match=f"^.* cannot connect to {path}: No such file or directory$"):
        await connect(path)


@unix
async def test_what_a_dead_server_left_is_replaced_and_a_living_one_is_not(
    tmp_path: Path, connect: Connect
) -> None:
    path = tmp_path / "service.sock"
    with socket.socket(unix_socket_family()) as dead:
        dead.bind(str(path))
    first = open_unix_listener(path)
    with pytest.raises(OSError, match=f"cannot listen on {path}: Address already in use"):
        open_unix_listener(path)
    # Another server may have the path by now: it stays.
    path.unlink()
    second = open_unix_listener(path)
    await first.aclose()
    assert path.exists()
    await second.aclose()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(OSError, match=f"cannot listen on {path}: ") as caught:
        open_unix_listener(path)
    assert caught.value.errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


@unix
def test_a_path_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot listen on /nowhere/at all: "):
        open_unix_listener(Path("/nowhere/at all"))
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        open_unix_listener(tmp_path / ("x" * 200))


def test_a_system_without_unix_sockets_says_so() -> None:
    with pytest.raises(OSError, match="this system has no Unix sockets"):
        unix_socket_family(sockets=object())
    if os.name == "posix":
        assert unix_socket_family() == socket.AF_UNIX


async def test_a_client_that_ends_tls_first_ends_no_more_than_its_connection(
    authority: trustme.CA, connect: Connect
) -> None:
    ended: list[str] = []

    async def say_good_bye(transport: Transport) -> None:
        assert await transport.receive() == b"hello"
        assert await transport.receive() == b""
        await transport.send_eof()
        ended.append("well")

    listener = await listen(server_context(authority))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, say_good_bye)
        client = await connect(listener.port, client_context(authority))
        await client.send(b"hello")
        await client.aclose()
        await until(lambda: ended)
        tasks.cancel_scope.cancel()
    await listener.aclose()
