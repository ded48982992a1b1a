"""A transport on asyncio's own protocol callbacks: no stream object, no cancel scope, a future only to wait.

Knows: which callbacks asyncio makes, when they wake the waiting task, and the one lazy timer.
Refuses to know: how the socket was made.

The timer: a deadline that moves with every request must not cost a timer each. One is armed when an
operation waits and none is armed early enough; when it fires it looks at the newest deadline, and is armed
again if that is later. A timer that finds nobody waiting is not armed again.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Final, cast, final

from foundry_runtime.transport.api import (
    BROKEN,
    BUSY_RECEIVE,
    BUSY_SEND,
    CLOSED,
    CUT_SHORT,
    ENDED,
    LATE_RECEIVE,
    LATE_SEND,
    TransportBroken,
    TransportBusy,
    TransportClosed,
)

__all__ = ["AsyncioTransport", "wrap_socket"]

LOOKS: Final = 4
"""How often, within its patience, a send that waits looks whether the reader takes something: asyncio tells
only when all is taken. So a reader is given up to a quarter more time, and never less."""

READ_SIZE: Final = 64 * 1024
"""Bytes that one read of the socket may bring."""

UNREAD_LIMIT: Final = 64 * 1024
"""Bytes that may lie unread before the socket is left alone; one read may come on top."""

SENDS_PER_TURN: Final = 16
"""How many sends may complete at once before one lets the other tasks run. A receive needs no such limit: it
takes all that is there, and more comes only when the loop runs."""


_scratch = threading.local()
"""Where every socket of a thread's loop is read into: asyncio asks for the buffer, fills it and says so
within one callback. (Its other kind of protocol allocates 256 KiB a read: two thirds of an echo's time.)"""


@final
class AsyncioTransport(asyncio.BufferedProtocol):
    """A `Transport` and the `asyncio.BufferedProtocol` under it, in one object: made by `wrap_socket`."""

    __slots__ = (
        "_closed",
        "_deadline",
        "_eof",
        "_error",
        "_loop",
        "_lost",
        "_no_more_sends",
        "_peer",
        "_reading_paused",
        "_receiver",
        "_scratch",
        "_sender",
        "_sends_at_once",
        "_socket",
        "_timer",
        "_transport",
        "_unread",
        "_writing_paused",
        "send_patience",
    )

    _transport: asyncio.Transport

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scratch: memoryview,
        peer: str | None,
        sock: socket.socket | None,
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._scratch = scratch
        self._peer = peer
        self._deadline: float | None = None
        self.send_patience: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The two that may wait. A result of True says that the deadline passed.
        self._receiver: asyncio.Future[bool] | None = None
        self._sender: asyncio.Future[bool] | None = None
        self._unread = bytearray()  # No list of pieces: a peer may send them byte by byte.
        self._reading_paused = False
        self._writing_paused = False
        self._sends_at_once = 0
        self._no_more_sends: str | None = None
        self._eof = False
        self._lost = False
        self._error: Exception | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "broken" if self._lost else "open"
        return f"<AsyncioTransport {self._peer or 'without address'}, {state}>"

    # What the user calls

    @property
    def peer(self) -> str | None:
        """The other side's address, if it has one."""
        return self._peer

    @property
    def deadline(self) -> float | None:
        """When patience ends; see `Transport.deadline`."""
        return self._deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        self._deadline = value
        if self._receiver is not None or self._sender is not None:
            self._arm()

    async def receive(self) -> bytes:
        """Wait for bytes; see `Transport.receive`."""
        if self._receiver is not None:
            raise TransportBusy(BUSY_RECEIVE)
        if self._closed:
            raise TransportClosed(CLOSED)
        if self._deadline is not None and self._loop.time() >= self._deadline:
            raise TimeoutError(LATE_RECEIVE)
        if not self._unread and not self._eof and not self._lost:
            receiver = self._receiver = self._loop.create_future()
            self._arm()
            try:
                late = await receiver
            finally:
                self._receiver = None
            if self._closed:
                raise TransportClosed(CLOSED)
            if late and not self._unread and not self._eof:
                raise TimeoutError(LATE_RECEIVE)
        # Bytes stay in `_unread` until this line, which nothing can cancel: none is ever lost.
        if self._unread:
            return self._take()
        if self._eof:
            return b""
        raise TransportBroken(BROKEN) from self._error

    async def send(self, data: bytes) -> None:
        """Hand bytes over; see `Transport.send`."""
        if self._sends_at_once >= SENDS_PER_TURN:
            self._sends_at_once = 0
            await asyncio.sleep(0)
        if self._sender is not None or self._closed or self._lost:
            self._check_connected()
        if self._no_more_sends is not None:
            raise TransportClosed(self._no_more_sends)
        if self._deadline is not None and self._loop.time() >= self._deadline:
            raise TimeoutError(LATE_SEND)
        # Nothing of an earlier send waits in asyncio: the socket can be asked without its ado.
        if self._socket is not None and not self._writing_paused:
            try:
                sent = self._socket.send(data)
            except OSError:  # asyncio meets the same, and does what is to be done.
                sent = 0
            if sent == len(data):
                self._sends_at_once += 1
                return
            data = data[sent:]
        self._transport.write(data)
        # A failed write is reported to `connection_lost` in the next turn, and closes the transport at once.
        if not self._writing_paused and not self._transport.is_closing():
            self._sends_at_once += 1
            return
        self._sends_at_once = 0
        try:
            in_time = await self._taken()
        except asyncio.CancelledError:
            self._no_more_sends = CUT_SHORT
            raise
        finally:
            self._sender = None
        if self._closed:
            raise TransportClosed(CLOSED)
        if self._lost:
            raise TransportBroken(BROKEN) from self._error
        if not in_time:
            self._no_more_sends = CUT_SHORT
            raise TimeoutError(LATE_SEND)

    async def send_eof(self) -> None:
        """End the stream to the peer; see `Transport.send_eof`."""
        self._check_connected()
        if self._no_more_sends is ENDED:
            return
        if self._no_more_sends is not None:
            raise TransportClosed(self._no_more_sends)
        self._no_more_sends = ENDED
        try:
            self._transport.write_eof()
        except OSError as error:  # The peer's reset is known to the system, and not yet to asyncio.
            raise TransportBroken(BROKEN) from error

    async def aclose(self) -> None:
        """Close both directions, now; see `Transport.aclose`."""
        if not self._closed:
            self._closed = True
            # Nothing that a send has handed over is lost: such a send returned when the system had it all.
            self._transport.abort()
            self._unread.clear()
            self._release()
        # The socket is closed in the loop's next turn.
        await asyncio.sleep(0)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's callback."""
        self._transport = cast("asyncio.Transport", transport)
        # Choice: no bytes of a completed send stay in this process, so that closing can be immediate.
        self._transport.set_write_buffer_limits(high=0)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (asyncio never knows the size)
        """Asyncio's callback."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Asyncio's callback."""
        self._unread += self._scratch[:nbytes]
        if len(self._unread) >= UNREAD_LIMIT and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        if self._receiver is not None:
            _wake(self._receiver)

    def eof_received(self) -> bool:
        """Asyncio's callback; the answer keeps the other direction open."""
        self._eof = True
        if self._receiver is not None:
            _wake(self._receiver)
        return True

    def pause_writing(self) -> None:
        """Asyncio's callback."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Asyncio's callback."""
        self._writing_paused = False
        if self._sender is not None:
            _wake(self._sender)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's callback: the last one."""
        self._lost = True
        self._error = exc
        self._release()

    # Inside

    def _check_connected(self) -> None:
        if self._sender is not None:
            raise TransportBusy(BUSY_SEND)
        if self._closed:
            raise TransportClosed(CLOSED)
        if self._lost:
            raise TransportBroken(BROKEN) from self._error

    async def _taken(self) -> bool:
        """Wait until the system has all, or the connection is no more; not for ever, says `False`."""
        patience, left, looks = self.send_patience, self._transport.get_write_buffer_size(), 0
        while True:
            sender = self._sender = self._loop.create_future()
            self._arm()
            # A timer of its own: few sends wait.
            look = None if patience is None else self._loop.call_later(patience / LOOKS, _wake, sender)
            try:
                late = await sender
            finally:
                if look is not None:
                    look.cancel()
            if self._closed or self._lost or not self._writing_paused:
                return True
            before, left = left, self._transport.get_write_buffer_size()
            looks = looks + 1 if left == before else 0
            if late or looks == LOOKS:
                return False

    def _take(self) -> bytes:
        data = bytes(self._unread)
        self._unread.clear()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    def _release(self) -> None:
        """Let go of the timer and of whoever waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for waiter in (self._receiver, self._sender):
            if waiter is not None:
                _wake(waiter)

    def _arm(self) -> None:
        """See that a timer fires at the deadline or before."""
        if self._deadline is None:
            return
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._on_timer, self._deadline)

    def _on_timer(self, armed_for: float) -> None:
        self._timer = None
        if self._receiver is None and self._sender is None:
            return
        # Not compared with the clock: a loop may fire a timer early, by as much as its clock's resolution.
        if self._deadline is None or self._deadline > armed_for:
            self._arm()
            return
        for waiter in (self._receiver, self._sender):
            if waiter is not None:
                _wake_late(waiter)


def _wake(waiter: asyncio.Future[bool], *, late: bool = False) -> None:
    if not waiter.done():
        waiter.set_result(late)


def _wake_late(waiter: asyncio.Future[bool]) -> None:
    _wake(waiter, late=True)


async def wrap_socket(sock: socket.socket, peer: str | None) -> AsyncioTransport:
    """Put a transport on a connected, non-blocking stream socket, which belongs to it from now on."""
    loop = asyncio.get_running_loop()
    if not hasattr(_scratch, "view"):
        _scratch.view = memoryview(bytearray(READ_SIZE))
    # Where the loop asks the system when a socket is ready, writing needs no help of the loop's.
    own = sock if isinstance(loop, asyncio.SelectorEventLoop) else None
    _, transport = await loop.connect_accepted_socket(
        lambda: AsyncioTransport(loop, _scratch.view, peer, own), sock
    )
    return transport
