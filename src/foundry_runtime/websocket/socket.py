"""A WebSocket over a transport, for either side: whole texts, on both loops.

Knows: that one task writes (`outbox.py`), so that who is cancelled while it sends never cuts a frame; how
long a reader may take, how long a peer may be silent, and how to part from it.
Refuses to know: frames (`frames.py`), the handshake, and what the texts mean.

    async with open_websocket(transport, frames) as socket:
        while (text := await socket.receive()) is not None:
            await socket.send(text)

Memory: a sender waits until its texts have left; what comes in waits in the operating system.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import anyio
from attrs import define, field, frozen

from foundry_runtime.application import Hangup
from foundry_runtime.transport import Transport, TransportBroken, TransportClosed
from foundry_runtime.websocket.frames import ABNORMAL, GOING_AWAY, NORMAL, Closed, Frames, Reply, Text
from foundry_runtime.websocket.outbox import Outbox

__all__ = ["Patience", "TextSocket", "WebSocket", "open_websocket", "parting_from"]

_LOST: Final = (TransportBroken, TransportClosed, TimeoutError)
_FAREWELL: Final = 1.0
"""Seconds that saying why may take when there is no time left."""


class TextSocket(Protocol):
    """What carries a conversation: whole texts, in order, each way."""

    async def receive(self) -> bytes | None:
        """Wait for the peer's next text; `None` once there will be none."""
        ...

    async def send(self, *texts: bytes) -> None:
        """Send texts, and wait until they have left.

        Args:
            texts: Each a message, UTF-8; nothing comes between them.

        Raises:
            Hangup: The peer is gone, reads too slowly, or was said good-bye to.
        """
        ...

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say good-bye behind what is on its way; `receive` then comes to its end. Nothing is waited for.

        Args:
            code: Why (RFC 6455, section 7.4).
            reason: The same in words; of it, 123 bytes at most are sent.
        """
        ...


@frozen(kw_only=True)
class Patience:
    """How long a peer may take, in seconds."""

    write: float = 30.0
    """To take something of what is written, each time."""
    silence: float = 40.0
    """To give a sign of life, for which it is asked at half of that."""
    linger: float = 2.0
    """To part, once it was said good-bye to."""


@asynccontextmanager
async def open_websocket(
    transport: Transport, frames: Frames, *, patience: Patience | None = None, first: bytes = b""
) -> AsyncIterator[WebSocket]:
    """Speak WebSocket over a transport; the end of the context closes it.

    Args:
        transport: The connection, which belongs to this context.
        frames: This side of the WebSocket.
        patience: How long the peer may take.
        first: What is to be written before any frame: the answer to the handshake.
    """
    patience = patience or Patience()
    socket = WebSocket(transport, frames, patience)
    transport.deadline, transport.send_patience = None, patience.write
    socket.write_first(first)
    try:
        async with parting_from(socket, socket.keep_writing, socket.keep_asking):
            yield socket
    finally:
        await transport.aclose()


class _Parting(Protocol):
    async def part(self) -> None: ...

    async def farewell(self) -> None: ...


@asynccontextmanager
async def parting_from(
    socket: _Parting, *tasks: Callable[[], Coroutine[Any, Any, None]]
) -> AsyncIterator[None]:
    """Keep a WebSocket going; the end of the context says good-bye, however it comes.

    Args:
        socket: `part` says good-bye and waits for the peer's; `farewell` does what is left of it where all is
            cut in the middle.
        tasks: What keeps it going, until then.
    """
    try:
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(task)
            yield
            await socket.part()
            group.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(_FAREWELL, shield=True):
            await socket.farewell()


@define(eq=False)
class WebSocket:
    """A `TextSocket`; made by `open_websocket`."""

    _transport: Transport
    _frames: Frames
    _patience: Patience
    code: int | None = field(init=False, default=None)
    """Why it is closed, once it is: the peer's reason, or what it did wrong; 1006 where it was lost."""
    reason: str = field(init=False, default="")
    """The same in words."""
    _outbox: Outbox[bytes] = field(init=False, factory=Outbox)
    _closing: bool = field(init=False, default=False)
    """Good-bye was said."""
    _clean: bool = field(init=False, default=False)
    """So did the peer."""
    _part_by: float = field(init=False, default=math.inf)
    _heard: float = field(init=False, factory=anyio.current_time)

    async def receive(self) -> bytes | None:
        """Wait for the peer's next text; `None` once there will be none."""
        while self.code is None:
            match event := self._frames.next_event():
                case Text():
                    if not self._closing:
                        return event.data
                case Reply():
                    await self._write_through(event.data)
                case Closed():
                    self.code, self.reason, self._clean = event.code, event.reason, event.clean
                    self._closing = True
                    await self._write_through(event.data)
                case _:
                    await self._read()
        return None

    async def _read(self) -> None:
        try:
            data = await self._transport.receive()
        except _LOST:
            self._lose()
            return
        self._heard = anyio.current_time()
        if data:
            self._frames.receive_data(data)
        else:
            self._frames.receive_eof()

    async def send(self, *texts: bytes) -> None:
        """Send texts, and wait until they have left; see `TextSocket.send`."""
        if self._outbox.gone or self._closing:
            raise Hangup
        data = b"".join(map(self._frames.text, texts))
        if data and not await self._write_through(data):
            raise Hangup

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say good-bye behind what is on its way; see `TextSocket.close`."""
        if self._closing:
            return
        self._closing = True
        self._outbox.put(self._frames.close(code, reason))
        self._part_by = anyio.current_time() + self._patience.linger
        self._arm()

    def write_first(self, data: bytes) -> None:
        """Have bytes written before all frames."""
        self._outbox.put(data)

    async def _write_through(self, data: bytes) -> bool:
        """Have bytes written, and wait for it; whether they have left."""
        return await self._outbox.put_through(*([data] if data else ()))

    async def keep_writing(self) -> None:
        """Write what waits, until nothing can be written; a task of the context's."""
        await self._outbox.keep_writing(self._write)

    async def _write(self, pieces: list[bytes]) -> None:
        if not (data := b"".join(pieces)):
            return
        try:
            await self._transport.send(data)
        except _LOST:
            self._lose()

    async def keep_asking(self) -> None:
        """Ask a silent peer for a sign of life, and give it up without one; a task of the context's."""
        half = self._patience.silence / 2
        while True:
            await anyio.sleep(half)
            silent = anyio.current_time() - self._heard
            if silent >= 2 * half:
                self._lose()
                return
            if silent >= half:
                self._outbox.put(self._frames.ping())

    async def part(self) -> None:
        """Say good-bye, if nobody has, and let the peer read it: unread input would reset the connection."""
        self.close()
        while await self.receive() is not None:
            pass
        self._part_by = min(self._part_by, anyio.current_time() + self._patience.linger)
        self._arm()
        await self._write_through(b"")
        if self._outbox.gone or self._clean:
            return
        with suppress(*_LOST):
            await self._transport.send_eof()
            while await self._transport.receive():
                pass

    async def farewell(self) -> None:
        """Say what was still to be said where all is cut in the middle, the good-bye at last."""
        last = b"".join(self._outbox.take()) + self._frames.close(GOING_AWAY)
        if not last or self._outbox.gone:
            return
        self._part_by = anyio.current_time() + _FAREWELL
        self._arm()
        with suppress(*_LOST):
            await self._transport.send(last)

    def _arm(self) -> None:
        self._transport.deadline = None if self._part_by == math.inf else self._part_by

    def _lose(self) -> None:
        """Give the connection up: whoever waits for it is woken."""
        if self.code is None:
            self.code, self.reason = ABNORMAL, "the connection was lost"
        self._outbox.give_up()
        self._transport.deadline = 0.0
