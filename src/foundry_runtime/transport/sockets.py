"""From a connected socket to a transport, and how addresses are written.

Knows: which transport suits the running loop.
Refuses to know: how the socket was connected, and what it is for.
"""

from __future__ import annotations

import socket
from typing import Final

import anyio

from foundry_runtime.transport._socket import SocketStream
from foundry_runtime.transport.api import BROKEN, Transport, TransportBroken
from foundry_runtime.transport.stream import StreamTransport

__all__ = ["SocketAddress", "join_address", "peer_name", "prepare_tcp", "wrap_socket"]

UNSENT_LIMIT: Final = 16 * 1024
"""Bytes that the system may hold beyond those that the peer's has room for."""

SocketAddress = tuple[str | int | bytes, ...]


async def wrap_socket(sock: socket.socket) -> Transport:
    """Put the running loop's transport on a connected stream socket (TCP or Unix).

    Args:
        sock: Belongs to the transport from now on, and is closed if none can be made.

    Raises:
        TransportBroken: The socket is not connected, or no longer.
        ValueError: It is no stream socket.
    """
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ValueError(f"sock: expected a stream socket, got {sock.type.name}")
    try:
        sock.setblocking(False)
        try:
            peer = peer_name(sock.getpeername())
            if sock.family in {socket.AF_INET, socket.AF_INET6}:
                prepare_tcp(sock)
            if _runs_on_asyncio():
                from foundry_runtime.transport import _asyncio  # noqa: PLC0415  (not imported under trio)

                return await _asyncio.wrap_socket(sock, peer)
        except OSError as error:  # The peer is gone.
            raise TransportBroken(BROKEN) from error
        return StreamTransport(SocketStream(sock), peer=peer)
    except BaseException:
        sock.close()
        raise


def prepare_tcp(sock: socket.socket) -> None:
    """Set what a TCP connection needs that is written to often, and perhaps read from slowly."""
    # A chunk of a stream must not wait for the acknowledgement of the one before.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Else Linux keeps 4 MB for a reader, and tells of what it takes when that is a third of it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_LIMIT)


def _runs_on_asyncio() -> bool:
    # Tells the loops apart without importing either; asyncio's class lives in `asyncio.exceptions`.
    return anyio.get_cancelled_exc_class().__module__.startswith("asyncio")


def peer_name(address: SocketAddress | str) -> str | None:
    """The address of an internet peer; a Unix socket's peer has none that says who it is."""
    return join_address(str(address[0]), address[1]) if isinstance(address, tuple) else None


def join_address(host: str, port: object) -> str:
    """Both, as a URL takes them (RFC 3986, section 3.2.2: an IPv6 address stands in brackets)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
