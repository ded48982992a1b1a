"""Listening, accepting and connecting, on both loops."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import subprocess
import sys
from contextlib import suppress

import anyio
import pytest

from foundry_runtime.transport import (
    Listener,
    Transport,
    TransportBroken,
    TransportClosed,
    connect_tcp,
    open_tcp_listeners,
    tcp,
    wrap_socket,
)
from foundry_runtime.transport import listener as listener_module

pytestmark = pytest.mark.anyio


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


async def echo(transport: Transport) -> None:
    while data := await transport.receive():
        await transport.send(data)


async def ask(transport: Transport, question: bytes) -> bytes:
    await transport.send(question)
    return await transport.receive()


def socket_of(transport: Transport) -> socket.socket:
    """The socket under a transport, whichever it is."""
    under: object = getattr(transport, "_transport", None)
    if under is not None:
        return under.get_extra_info("socket")  # type: ignore[attr-defined,no-any-return]
    return transport._stream._socket  # type: ignore[attr-defined,no-any-return]


async def listen(host: str | None = "127.0.0.1", port: int = 0) -> Listener:
    (listener,) = await open_tcp_listeners(host, port)
    return listener


# Listening


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep less, and tell in their own way")
async def test_that_a_reader_takes_something_is_told_in_small_portions() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(listening.getsockname())
        accepted, _ = listening.accept()
        writer = accepted.dup()
        transport = await wrap_socket(accepted)
        with writer:
            for _ in range(2):
                with suppress(BlockingIOError):
                    while True:
                        writer.send(bytes(65536))
                taken = 0
                while not select.select([], [writer], [], 0.001)[1]:
                    taken += len(reader.recv(1024))
                assert taken <= 64 * 1024
        await transport.aclose()


async def test_port_0_becomes_the_port_that_was_found() -> None:
    listener = await listen()
    assert listener.host == "127.0.0.1"
    assert listener.port > 0
    assert listener.address == f"127.0.0.1:{listener.port}"
    assert repr(listener) == f"<Listener {listener.address}>"
    await listener.aclose()
    assert repr(listener) == f"<Listener {listener.address}, closed>"


@needs_ipv6
async def test_an_ipv6_address_stands_in_brackets() -> None:
    listener = await listen("::1")
    assert listener.address == f"[::1]:{listener.port}"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        client = await connect_tcp("::1", listener.port)
        assert client.peer == listener.address
        assert await ask(client, b"over IPv6") == b"over IPv6"
        await client.aclose()
        await listener.aclose()


@pytest.mark.parametrize("host", ["localhost", None])
async def test_all_addresses_of_a_host_share_one_port(host: str | None) -> None:
    listeners = await open_tcp_listeners(host, 0)
    assert len({listener.port for listener in listeners}) == 1
    assert len({listener.host for listener in listeners}) == len(listeners)
    for listener in listeners:
        await listener.aclose()


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST"])
async def test_localhost_is_both_loopback_addresses_whatever_the_resolver_says(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(tcp, "_resolve")
    listeners = await open_tcp_listeners(name, 0)
    assert [listener.host for listener in listeners] == ["127.0.0.1", "::1"][: 1 + _has_ipv6()]
    assert len({listener.port for listener in listeners}) == 1
    for listener in listeners:
        await listener.aclose()


async def test_a_free_port_that_is_taken_on_another_address_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bind, refusals = tcp._bind, [errno.EADDRINUSE, errno.EADDRINUSE]

    def taken_twice(*args: object) -> socket.socket:
        if refusals:
            raise OSError(refusals.pop(), "taken")
        return bind(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(tcp, "_bind", taken_twice)
    await (await listen()).aclose()


async def test_an_address_family_that_the_machine_lacks_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(host: str | None, port: int) -> list[object]:
        # Nobody's address: of the block for documentation (RFC 5737).
        return [(socket.AF_INET, ("203.0.113.1", port)), (socket.AF_INET, ("127.0.0.1", port))]

    monkeypatch.setattr(tcp, "_resolve", resolve)
    listener = await listen("test")
    assert listener.host == "127.0.0.1"
    await listener.aclose()


async def test_without_any_address_the_reason_is_told() -> None:
    with pytest.raises(OSError) as caught:
        await open_tcp_listeners("203.0.113.1", 5272)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert caught.value.strerror == f"cannot listen on 203.0.113.1:5272: {os.strerror(errno.EADDRNOTAVAIL)}"


async def test_a_taken_port_is_an_error_that_names_host_and_port() -> None:
    first = await listen()
    with pytest.raises(OSError) as caught:
        await open_tcp_listeners("127.0.0.1", first.port)
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.strerror == f"cannot listen on {first.address}: {os.strerror(errno.EADDRINUSE)}"
    await first.aclose()
    await (await listen(port=first.port)).aclose()


@pytest.mark.parametrize("host", ["x" * 64, "\u00fc" * 64])
async def test_what_is_no_host_name_is_refused_by_name(host: str) -> None:
    with pytest.raises(socket.gaierror) as listening:
        await open_tcp_listeners(host, 80)
    assert str(listening.value.strerror).startswith(f"cannot listen on {host}:80: ")
    with pytest.raises(socket.gaierror) as connecting:
        await connect_tcp(host, 80)
    assert str(connecting.value.strerror).startswith(f"cannot connect to {host}:80: ")


@pytest.mark.parametrize("port", [-1, 65536])
async def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ValueError) as caught:
        await open_tcp_listeners("127.0.0.1", port)
    assert str(caught.value) == f"port: expected 0 to 65535, got {port}"


# Accepting


async def test_both_ends_know_each_other_and_send_without_delay() -> None:
    listener = await listen()
    accepted: list[Transport] = []

    async def handler(transport: Transport) -> None:
        accepted.append(transport)
        await echo(transport)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        client = await connect_tcp("127.0.0.1", listener.port)
        assert await ask(client, b"hello") == b"hello"
        host, port = socket_of(client).getsockname()
        assert accepted[0].peer == f"{host}:{port}"
        for transport in (client, accepted[0]):
            assert socket_of(transport).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await client.aclose()
        await listener.aclose()
    with pytest.raises(TransportClosed):
        await accepted[0].receive()


async def test_closing_a_listener_leaves_its_connections() -> None:
    listener = await listen()
    async with anyio.create_task_group() as tasks:
        served = anyio.Event()

        async def serve() -> None:
            await listener.serve(echo)
            served.set()

        tasks.start_soon(serve)
        client = await connect_tcp("127.0.0.1", listener.port)
        assert await ask(client, b"before") == b"before"
        await listener.aclose()
        await listener.aclose()
        with pytest.raises(ConnectionRefusedError):
            await connect_tcp("127.0.0.1", listener.port)
        assert await ask(client, b"after") == b"after"
        assert not served.is_set()
        await client.aclose()
        await served.wait()


async def test_connections_may_belong_to_a_task_group_of_the_callers() -> None:
    listener = await listen()
    async with anyio.create_task_group() as connections:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: listener.serve(echo, task_group=connections))
            client = await connect_tcp("127.0.0.1", listener.port)
            assert await ask(client, b"before") == b"before"
            await listener.aclose()
        assert await ask(client, b"after") == b"after"
        await client.aclose()


async def test_a_closed_listener_serves_nobody() -> None:
    listener = await listen()
    await listener.aclose()
    await listener.serve(echo)


async def test_cancelling_serve_closes_the_connections() -> None:
    listener = await listen()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        client = await connect_tcp("127.0.0.1", listener.port)
        assert await ask(client, b"hello") == b"hello"
        tasks.cancel_scope.cancel()
    assert await client.receive() == b""
    await client.aclose()
    await listener.aclose()


async def test_what_a_handler_raises_ends_the_group_and_closes_the_connection() -> None:
    listener = await listen()

    async def handler(transport: Transport) -> None:
        raise LookupError(f"for {transport.peer}")

    clients: list[Transport] = []

    async def serve_until_it_fails() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handler)
            clients.append(await connect_tcp("127.0.0.1", listener.port))
            await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await serve_until_it_fails()
    assert caught.group_contains(LookupError, match=r"^for 127\.0\.0\.1:\d+$")
    assert await clients[0].receive() == b""
    await clients[0].aclose()
    await listener.aclose()


class FailingSocket:
    """A listening socket that fails a few times before it works."""

    def __init__(self, sock: socket.socket, failures: list[int]) -> None:
        self._sock = sock
        self._failures = failures

    def accept(self) -> tuple[socket.socket, object]:
        if self._failures:
            number = self._failures.pop(0)
            raise OSError(number, os.strerror(number))
        return self._sock.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)


async def test_accepting_goes_on_after_errors_that_pass(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener_module, "ACCEPT_PAUSE", 0.001)
    listener = await listen()
    failures = [errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.EPERM]
    listener._socket = FailingSocket(listener._socket, failures)  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, echo)
            client = await connect_tcp("127.0.0.1", listener.port)
            assert await ask(client, b"served at last") == b"served at last"
            await client.aclose()
            await listener.aclose()
    assert [record.getMessage() for record in caplog.records] == [
        f"no connection can be accepted on {listener.address}: {os.strerror(errno.EMFILE)}"
    ]


async def test_a_listener_that_failed_itself_raises() -> None:
    listener = await listen()
    listener._socket = FailingSocket(listener._socket, [errno.EINVAL])  # type: ignore[assignment]
    with pytest.raises(ExceptionGroup) as caught:
        await listener.serve(echo)
    assert caught.group_contains(OSError, match=os.strerror(errno.EINVAL))
    await listener.aclose()


async def test_a_client_that_left_before_it_was_served_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def gone(sock: socket.socket) -> Transport:
        sock.close()
        monkeypatch.undo()
        raise TransportBroken

    monkeypatch.setattr(listener_module, "wrap_socket", gone)
    listener = await listen()
    with socket.create_connection(("127.0.0.1", listener.port)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, echo)
            while vars(listener_module)["wrap_socket"] is gone:
                await anyio.lowlevel.checkpoint()
            client = await connect_tcp("127.0.0.1", listener.port)
            assert await ask(client, b"hello") == b"hello"
            await client.aclose()
            await listener.aclose()


# Connecting


async def test_a_refused_connection_names_host_and_port() -> None:
    listener = await listen()
    await listener.aclose()
    with pytest.raises(ConnectionRefusedError) as caught:
        await connect_tcp("127.0.0.1", listener.port)
    reason = os.strerror(errno.ECONNREFUSED)
    assert caught.value.strerror == f"cannot connect to {listener.address}: {reason}"


def _resolving_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    async def resolve(host: str | None, port: int) -> list[object]:
        return [(socket.AF_INET, (address, port)) for address in hosts]

    monkeypatch.setattr(tcp, "_resolve", resolve)


async def test_every_reason_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolving_to(monkeypatch, "first", "second", "third")
    reasons = [errno.ENETUNREACH, errno.ECONNREFUSED, errno.ENETUNREACH]

    async def connect(family: object, address: object) -> socket.socket:
        number = reasons.pop(0)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tcp, "_connect", connect)
    with pytest.raises(OSError) as caught:
        await connect_tcp("somewhere", 5272)
    assert caught.value.strerror == (
        "cannot connect to somewhere:5272: "
        f"{os.strerror(errno.ENETUNREACH)}; {os.strerror(errno.ECONNREFUSED)}"
    )


async def test_an_address_that_does_not_answer_delays_the_next_only_shortly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = await listen()
    _resolving_to(monkeypatch, "silent", "127.0.0.1")
    monkeypatch.setattr(tcp, "CONNECT_HEAD_START", 0.001)
    connect = tcp._connect

    async def only_the_second(
        family: socket.AddressFamily, address: tuple[str | int | bytes, ...]
    ) -> socket.socket:
        if address[0] == "silent":
            await anyio.sleep_forever()
        return await connect(family, address)

    monkeypatch.setattr(tcp, "_connect", only_the_second)
    client = await connect_tcp("somewhere", listener.port)
    assert client.peer == listener.address
    await client.aclose()
    await listener.aclose()


async def test_of_two_addresses_that_answer_one_is_taken_and_one_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = await listen()
    _resolving_to(monkeypatch, "127.0.0.1", "127.0.0.1")
    monkeypatch.setattr(tcp, "CONNECT_HEAD_START", 0)
    both = anyio.Event()
    made: list[socket.socket] = []
    connect = tcp._connect

    async def together(family: socket.AddressFamily, address: tuple[str | int | bytes, ...]) -> socket.socket:
        with anyio.CancelScope(shield=True):
            sock = await connect(family, address)
            made.append(sock)
            if len(made) == 2:
                both.set()
            await both.wait()
        return sock

    monkeypatch.setattr(tcp, "_connect", together)
    client = await connect_tcp("somewhere", listener.port)
    assert sorted(sock.fileno() == -1 for sock in made) == [False, True]
    await client.aclose()
    await listener.aclose()


async def test_a_cancelled_connect_closes_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    async def never(sock: socket.socket) -> None:
        made.append(sock)
        scope.cancel()
        await anyio.sleep_forever()

    monkeypatch.setattr(anyio, "wait_writable", never)
    listener = await listen()
    with anyio.CancelScope() as scope:
        await connect_tcp("127.0.0.1", listener.port)
    await listener.aclose()
    assert scope.cancelled_caught
    assert [sock.fileno() for sock in made] == [-1]


# Sockets of one's own


async def test_a_socket_that_is_not_connected_is_refused_and_closed() -> None:
    sock = socket.socket()
    with pytest.raises(TransportBroken) as caught:
        await wrap_socket(sock)
    assert str(caught.value) == "the connection is broken: the peer reset it or is gone"
    assert sock.fileno() == -1


async def test_a_socket_that_is_no_stream_is_refused_and_closed() -> None:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    with pytest.raises(ValueError) as caught:
        await wrap_socket(sock)
    assert str(caught.value) == "sock: expected a stream socket, got SOCK_DGRAM"
    assert sock.fileno() == -1


async def _with_a_plain_peer() -> tuple[Transport, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    return await wrap_socket(accepted), peer


def _reset(peer: socket.socket) -> None:
    """Close with a reset instead of an end (`SO_LINGER` with no time)."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def test_a_reset_by_the_peer_breaks_the_transport() -> None:
    transport, peer = await _with_a_plain_peer()
    peer.sendall(b"before")
    assert await transport.receive() == b"before"
    _reset(peer)
    for operation in (transport.receive, transport.receive, lambda: transport.send(b"x"), transport.send_eof):
        with pytest.raises(TransportBroken) as caught:
            await operation()
        assert str(caught.value) == "the connection is broken: the peer reset it or is gone"
        assert isinstance(caught.value.__cause__, ConnectionError)
    await transport.aclose()
    with pytest.raises(TransportClosed):
        await transport.receive()


async def test_a_reset_by_the_peer_breaks_a_send_that_waits() -> None:
    transport, peer = await _with_a_plain_peer()

    async def reset_soon() -> None:
        await anyio.sleep(0.02)
        _reset(peer)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reset_soon)
        with pytest.raises(TransportBroken):
            # More than any system takes for a peer that does not read.
            await transport.send(bytes(64 * 1024 * 1024))
    await transport.aclose()


async def test_a_half_close_after_the_peers_reset_is_told() -> None:
    transport, peer = await _with_a_plain_peer()
    _reset(peer)
    with pytest.raises(TransportBroken):
        await transport.send_eof()
    await transport.aclose()


# The loops


@pytest.mark.parametrize(("loop", "other"), [("asyncio", "trio"), ("trio", "asyncio")])
def test_nothing_is_imported_for_the_loop_that_does_not_run(loop: str, other: str) -> None:
    program = f"""
import sys
from foundry_runtime.transport import connect_tcp, memory_transport_pair, open_tcp_listeners
assert not {{"asyncio", "trio"}} & set(sys.modules), "loaded by the import"
import anyio

async def main():
    near, far = memory_transport_pair()
    async with anyio.create_task_group() as tasks:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        tasks.start_soon(listener.serve, lambda transport: transport.send(b"hello"))
        client = await connect_tcp("127.0.0.1", listener.port)
        assert await client.receive() == b"hello"
        await client.aclose()
        await listener.aclose()

anyio.run(main, backend={loop!r})
assert {other!r} not in sys.modules, "loaded by use"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
