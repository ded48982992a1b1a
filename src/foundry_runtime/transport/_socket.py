"""A connected socket as an eager byte stream, on any loop that can wait for a socket: trio, in practice.

Knows: three system calls, and how to wait until they would succeed.
Refuses to know: deadlines and errors, which are `StreamTransport`'s.
"""

from __future__ import annotations

import socket
from typing import Final, final

import anyio

from foundry_runtime.transport.stream import EagerStream

__all__ = ["SocketStream"]

READ_SIZE: Final = 64 * 1024
"""Bytes that one read of the socket may bring."""


@final
class SocketStream(EagerStream):
    """The stream of a non-blocking socket, which belongs to it from now on."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes:
        """Read what is there."""
        try:
            data = self._socket.recv(max_bytes)
        except (BlockingIOError, InterruptedError):
            raise anyio.WouldBlock from None
        if not data:
            raise anyio.EndOfStream
        return data

    def send_nowait(self, data: bytes | memoryview) -> int:
        """Write what the socket takes."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    async def wait_receivable(self) -> None:
        """Wait until reading would bring something."""
        await anyio.wait_readable(self._socket)

    async def wait_sendable(self) -> None:
        """Wait until the socket would take something."""
        await anyio.wait_writable(self._socket)

    async def send_eof(self) -> None:
        """Say that nothing more will be written."""
        self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close the socket; who waits for it is woken."""
        anyio.notify_closing(self._socket)
        self._socket.close()
