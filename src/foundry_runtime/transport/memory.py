"""Two transports joined in memory: for tests, and for a client and a server in one process.

Knows: a bounded pipe of bytes for each direction, and what its two ends learn from each other's closing.
Refuses to know: time. Deadlines are `StreamTransport`'s, so that a virtual clock rules them.
"""

from __future__ import annotations

from typing import Final, final

import anyio

from foundry_runtime.transport.api import Transport
from foundry_runtime.transport.stream import EagerStream, StreamTransport

__all__ = ["PIPE_LIMIT", "memory_transport_pair"]

PIPE_LIMIT: Final = 64 * 1024
"""Bytes that one direction holds by default before its sender waits."""


def memory_transport_pair(*, limit: int = PIPE_LIMIT, peer: str | None = None) -> tuple[Transport, Transport]:
    """Make two transports, each the other's peer, for tasks of one event loop.

    Args:
        limit: Bytes that each direction may hold unread before `send` waits, at least 1.
        peer: The address that each side is told of the other.

    Raises:
        ValueError: The limit lets no byte pass.
    """
    if limit < 1:
        raise ValueError(f"limit: expected at least 1, got {limit}")
    there, back = _Pipe(limit), _Pipe(limit)
    return StreamTransport(_Duplex(back, there), peer=peer), StreamTransport(_Duplex(there, back), peer=peer)


@final
class _Pipe:
    """One direction: bytes on their way, and whether either end has gone."""

    __slots__ = ("_changed", "abandoned", "ended", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = bytearray()
        self.ended = False  # The sender will send no more.
        self.abandoned = False  # The receiver will take no more.
        self._changed: anyio.Event | None = None

    def notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait_for_change(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()


@final
class _Duplex(EagerStream):
    """One end: receives from one pipe, sends into the other."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def receive_nowait(self, max_bytes: int = PIPE_LIMIT) -> bytes:
        pipe = self._incoming
        if pipe.abandoned:
            raise anyio.ClosedResourceError
        if not pipe.held:
            raise anyio.EndOfStream if pipe.ended else anyio.WouldBlock
        data = bytes(pipe.held[:max_bytes])
        del pipe.held[:max_bytes]
        pipe.notify()
        return data

    def send_nowait(self, data: bytes | memoryview) -> int:
        pipe = self._outgoing
        if pipe.ended:
            raise anyio.ClosedResourceError
        if pipe.abandoned:
            raise anyio.BrokenResourceError
        taken = data[: pipe.limit - len(pipe.held)]
        pipe.held += taken
        pipe.notify()
        return len(taken)

    async def wait_receivable(self) -> None:
        pipe = self._incoming
        while not (pipe.held or pipe.ended or pipe.abandoned):
            await pipe.wait_for_change()

    async def wait_sendable(self) -> None:
        pipe = self._outgoing
        while len(pipe.held) >= pipe.limit and not (pipe.ended or pipe.abandoned):
            await pipe.wait_for_change()

    async def send_eof(self) -> None:
        self._outgoing.ended = True
        self._outgoing.notify()

    async def aclose(self) -> None:
        self._incoming.abandoned = True
        self._incoming.held.clear()
        self._incoming.notify()
        await self.send_eof()
