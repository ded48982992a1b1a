"""The networks that the contract is run on: each is a factory of connected pairs, as an embedder's would be.

Knows: how to connect two transports over TCP, a Unix socket, TLS and memory on the running loop.
Refuses to know: the laws.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import trustme
from anyio.streams.tls import TLSStream

from foundry_runtime.transport import (
    StreamTransport,
    Transport,
    connect_tcp,
    memory_transport_pair,
    open_tcp_listeners,
    wrap_socket,
)

Pair = tuple[Transport, Transport]


@asynccontextmanager
async def _closing(*pair: Transport) -> AsyncIterator[Pair]:
    near, far = pair
    try:
        yield near, far
    finally:
        with anyio.CancelScope(shield=True):
            await near.aclose()
            await far.aclose()


@asynccontextmanager
async def memory() -> AsyncIterator[Pair]:
    async with _closing(*memory_transport_pair()) as pair:
        yield pair


@asynccontextmanager
async def tight_memory() -> AsyncIterator[Pair]:
    """Memory that holds so little that most sends wait."""
    async with _closing(*memory_transport_pair(limit=1000)) as pair:
        yield pair


@asynccontextmanager
async def unix() -> AsyncIterator[Pair]:
    """A pair of Unix sockets (of TCP sockets on Windows)."""
    near, far = socket.socketpair()
    async with _closing(await wrap_socket(near), await wrap_socket(far)) as pair:
        yield pair


@asynccontextmanager
async def tcp() -> AsyncIterator[Pair]:
    """A client and the server's end that a listener made."""
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    accepted: list[Transport] = []
    connected, finished = anyio.Event(), anyio.Event()

    async def handler(transport: Transport) -> None:
        accepted.append(transport)
        connected.set()
        await finished.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        client = await connect_tcp("127.0.0.1", listener.port)
        await connected.wait()
        async with _closing(client, accepted[0]) as pair:
            yield pair
        finished.set()
        await listener.aclose()


@asynccontextmanager
async def anyio_tcp() -> AsyncIterator[Pair]:
    """`StreamTransport` over anyio's TCP streams."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as multi:
        (listener,) = multi.listeners
        assert isinstance(listener, anyio.abc.SocketListener)
        near = await anyio.connect_tcp("127.0.0.1", listener.extra(anyio.abc.SocketAttribute.local_port))
        far = await listener.accept()
    async with _closing(StreamTransport(near), StreamTransport(far)) as pair:
        yield pair


@asynccontextmanager
async def anyio_unix() -> AsyncIterator[Pair]:
    """`StreamTransport` over anyio's Unix socket streams."""
    near, far = [await anyio.abc.UNIXSocketStream.from_socket(end) for end in socket.socketpair()]
    async with _closing(StreamTransport(near), StreamTransport(far)) as pair:
        yield pair


@functools.cache
def _tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    # A client that closes with the tickets unread resets the connection: the kernel's doing, not TLS's.
    server.num_tickets = 0
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@asynccontextmanager
async def tls() -> AsyncIterator[Pair]:
    """TLS, without the good-bye that HTTP does not wait for (RFC 9112, section 9.8)."""
    ends = [await anyio.abc.SocketStream.from_socket(end) for end in socket.socketpair()]
    server_context, client_context = _tls_contexts()
    wrapped: list[Transport] = []

    async def accept() -> None:
        wrapped.append(
            StreamTransport(
                await TLSStream.wrap(
                    ends[0], server_side=True, ssl_context=server_context, standard_compatible=False
                )
            )
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accept)
        client = StreamTransport(
            await TLSStream.wrap(
                ends[1], hostname="localhost", ssl_context=client_context, standard_compatible=False
            )
        )
    async with _closing(client, wrapped[0]) as pair:
        yield pair
