"""TLS over a connected socket, for either side, on either loop.

Knows: that a handshake has little time, and how its failures are called here.
Refuses to know: certificates; who gives a context decides who is trusted.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

import anyio
from anyio.streams.tls import TLSStream

from foundry_runtime.transport._socket import SocketStream
from foundry_runtime.transport.api import BROKEN, Transport, TransportBroken
from foundry_runtime.transport.sockets import peer_name, prepare_tcp
from foundry_runtime.transport.stream import StreamTransport

__all__ = ["wrap_client_socket", "wrap_server_socket"]

HANDSHAKE: Final = 10.0
"""Seconds for a handshake."""

_FAILED: Final = (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError)
"""How a handshake fails; `TimeoutError` and `ssl.SSLError` are an `OSError`."""


class _Secured(TLSStream):
    """A TLS stream that does not try to end one direction.

    anyio's own asks for the TLS version first, of which nothing is left when the peer was quicker, and fails
    with a `TypeError` then. The answer would have been that it cannot be done.
    """

    async def send_eof(self) -> None:
        """Refuse, always in the same way."""
        raise NotImplementedError("TLS ends both directions, by `aclose`")


async def wrap_server_socket(sock: socket.socket, context: ssl.SSLContext) -> Transport:
    """Greet a client.

    Args:
        sock: Connected; it belongs to the transport from now on, and is closed if there will be none.
        context: With the server's certificate.

    Raises:
        TransportBroken: The client is gone, or the handshake failed.
    """
    return await _wrap(sock, context, None)


async def wrap_client_socket(sock: socket.socket, context: ssl.SSLContext, name: str) -> Transport:
    """Greet a server.

    Args:
        sock: As above.
        context: Says which certificates are trusted.
        name: The server's.

    Raises:
        TransportBroken: The server is gone, or the handshake failed: it may have another certificate.
    """
    return await _wrap(sock, context, name)


async def _wrap(sock: socket.socket, context: ssl.SSLContext, name: str | None) -> Transport:
    stream = None
    try:
        sock.setblocking(False)
        peer = peer_name(sock.getpeername())
        prepare_tcp(sock)
        stream = SocketStream(sock)
        with anyio.fail_after(HANDSHAKE):
            secured = await _Secured.wrap(
                stream,
                server_side=name is None,
                hostname=name,
                ssl_context=context,
                standard_compatible=False,
            )
        return StreamTransport(secured, peer=peer)
    except BaseException as error:
        if stream is None:
            sock.close()
        else:
            await stream.aclose()  # which does not wait
        if isinstance(error, _FAILED):
            raise TransportBroken(BROKEN) from error
        raise
