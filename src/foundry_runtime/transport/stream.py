"""A transport over any anyio byte stream: sockets on trio, TLS, memory.

Knows: how anyio's errors are called here, and that a cancel scope's deadline can be moved while it waits.
Refuses to know: what lies under the stream.
"""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from typing import Final, final

import anyio
from anyio.abc import ByteStream

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

__all__ = ["EagerStream", "StreamTransport"]

CLOSE_PATIENCE: Final = 1.0
"""Seconds that a stream may take to close gracefully (TLS says good-bye) before it is cut."""

AT_ONCE_LIMIT: Final = 16
"""How many operations of an eager stream may complete at once before one lets the other tasks run."""

PIECE: Final = 16 * 1024
"""Bytes that a stream which is not eager is given at once, to see that its reader takes something. A record
of TLS has as many (RFC 8446, section 5.1)."""

_GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""What streams raise when the connection is no more. `ssl.SSLError` is an `OSError`; so is the system's own
`ETIMEDOUT`, which must not be mistaken for the deadline."""

_UNCLOSABLE: Final = (*_GONE, anyio.BusyResourceError, anyio.EndOfStream)
"""What a good-bye may meet on a connection that is no more, or that another task still holds."""


class EagerStream(ByteStream):
    """A byte stream that can be asked without waiting: who need not wait is spared a cancel scope.

    A scope costs more than the system call under it: an echo server on trio was half as fast without this.
    """

    @abstractmethod
    def receive_nowait(self, max_bytes: int = 65536) -> bytes:
        """Take at least one byte; raises `anyio.WouldBlock` where `receive` would wait."""

    @abstractmethod
    def send_nowait(self, data: bytes | memoryview) -> int:
        """Give bytes; returns how many were taken, 0 if none is now."""

    @abstractmethod
    async def wait_receivable(self) -> None:
        """Return when `receive_nowait` is worth a try."""

    @abstractmethod
    async def wait_sendable(self) -> None:
        """Return when `send_nowait` is worth a try."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for at least one byte."""
        while True:
            await self.wait_receivable()
            try:
                return self.receive_nowait(max_bytes)
            except anyio.WouldBlock:  # Woken for nothing.
                continue

    async def send(self, item: bytes) -> None:
        """Wait until all bytes are taken."""
        rest = memoryview(item)
        while rest:
            await self.wait_sendable()
            rest = rest[self.send_nowait(rest) :]


@final
class StreamTransport:
    """A `Transport` that moves the bytes of an anyio `ByteStream`, on any loop.

    Args:
        stream: Belongs to the transport from now on: `aclose` closes it.
        peer: The other side's address.
    """

    __slots__ = (
        "_at_once",
        "_closed",
        "_deadline",
        "_eager",
        "_eof",
        "_no_more_sends",
        "_peer",
        "_receive_error",
        "_receive_scope",
        "_send_error",
        "_send_limit",
        "_send_scope",
        "_stream",
        "send_patience",
    )

    def __init__(self, stream: ByteStream, *, peer: str | None = None) -> None:
        self._stream = stream
        self._peer = peer
        self._deadline: float | None = None
        self.send_patience: float | None = None
        self._send_limit = math.inf
        self._eager = stream if isinstance(stream, EagerStream) else None
        self._at_once = 0
        self._receive_scope: anyio.CancelScope | None = None
        self._send_scope: anyio.CancelScope | None = None
        self._eof = False
        self._receive_error: Exception | None = None
        self._send_error: Exception | None = None
        self._no_more_sends: str | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<StreamTransport {self._peer or 'without address'}, {state}>"

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
        if self._receive_scope is not None:
            self._receive_scope.deadline = self._moment()
        if self._send_scope is not None:
            self._send_scope.deadline = min(self._moment(), self._send_limit)

    async def receive(self) -> bytes:
        """Wait for bytes; see `Transport.receive`."""
        if self._eager is not None:
            await self._take_turn()
        if self._receive_scope is not None:
            raise TransportBusy(BUSY_RECEIVE)
        if self._closed:
            raise TransportClosed(CLOSED)
        if self._is_late():
            raise TimeoutError(LATE_RECEIVE)
        if self._receive_error is not None:  # A socket tells of a reset once, and of an end ever after.
            raise TransportBroken(BROKEN) from self._receive_error
        if self._eof:
            return b""
        try:
            data = self._receive_at_once() or await self._receive_waiting()
        except anyio.EndOfStream:
            self._eof = True
            return b""
        except _GONE as error:
            self._receive_error = error
            raise self._gone(error) from error
        if not data:
            raise self._interrupted(LATE_RECEIVE)
        return data

    async def send(self, data: bytes) -> None:
        """Hand bytes over; see `Transport.send`."""
        if self._eager is not None:
            self._at_once += 1
            if self._at_once > AT_ONCE_LIMIT:
                self._at_once = 0
                await anyio.lowlevel.checkpoint()
        if self._send_scope is not None or self._closed or self._send_error is not None:
            self._check_connected()
        if self._no_more_sends is not None:
            raise TransportClosed(self._no_more_sends)
        if self._deadline is not None and self._is_late():
            raise TimeoutError(LATE_SEND)
        # Until the stream has taken all, this send counts as cut short, however it is left.
        self._no_more_sends = CUT_SHORT
        try:
            sent = 0 if self._eager is None else self._eager.send_nowait(data)
            complete = sent == len(data) or await self._send_waiting(data[sent:])
        except _GONE as error:
            raise self._gone(error) from error
        if not complete:
            raise self._interrupted(LATE_SEND)
        self._no_more_sends = None

    async def send_eof(self) -> None:
        """End the stream to the peer; see `Transport.send_eof`."""
        self._check_connected()
        if self._no_more_sends is ENDED:
            return
        if self._no_more_sends is not None:
            raise TransportClosed(self._no_more_sends)
        self._no_more_sends = ENDED
        try:
            await self._stream.send_eof()
        except NotImplementedError:
            # Choice: TLS in anyio cannot end one direction; the end is told by `aclose`, as the promise says.
            pass
        except _GONE as error:
            raise self._gone(error) from error

    async def aclose(self) -> None:
        """Close both directions, now; see `Transport.aclose`."""
        if self._closed:
            return
        self._closed = True
        try:
            with anyio.move_on_after(CLOSE_PATIENCE):
                await self._close_stream()
        finally:
            # Most streams wake who waits for them; none must be relied on for it.
            for scope in (self._receive_scope, self._send_scope):
                if scope is not None:
                    scope.cancel()

    async def _take_turn(self) -> None:
        """Let the other tasks run once in a while, if a stream never waits."""
        if self._eager is None:
            return
        self._at_once += 1
        if self._at_once > AT_ONCE_LIMIT:
            self._at_once = 0
            await anyio.lowlevel.checkpoint()

    def _receive_at_once(self) -> bytes:
        """What an eager stream has; nothing if it would wait, or is not eager."""
        if self._eager is None:
            return b""
        try:
            return self._eager.receive_nowait()
        except anyio.WouldBlock:
            return b""

    async def _receive_waiting(self) -> bytes:
        """At least one byte; nothing if the scope was cancelled."""
        with anyio.CancelScope(deadline=self._moment()) as scope:
            self._receive_scope = scope
            try:
                return await self._stream.receive()
            finally:
                self._receive_scope = None
        return b""

    async def _send_waiting(self, data: bytes) -> bool:
        """Whether all was sent; not if the scope was cancelled, as when nothing is taken for too long."""
        rest = memoryview(data)
        self._renew_patience()
        with anyio.CancelScope(deadline=min(self._moment(), self._send_limit)) as scope:
            self._send_scope = scope
            try:
                rest = rest[await self._send_some(rest) :]
                while rest:
                    self._renew_patience()
                    scope.deadline = min(self._moment(), self._send_limit)
                    rest = rest[await self._send_some(rest) :]
                return True
            finally:
                self._send_scope = None
        return False

    async def _send_some(self, data: memoryview) -> int:
        """Wait until something was taken, and say how much: it shows that there is a reader."""
        if self._eager is None:
            piece = data[:PIECE]
            await self._stream.send(bytes(piece))
            return len(piece)
        sent = 0
        while not sent:  # It may be woken for nothing.
            await self._eager.wait_sendable()
            sent = self._eager.send_nowait(data)
        return sent

    def _renew_patience(self) -> None:
        patience = self.send_patience
        self._send_limit = math.inf if patience is None else anyio.current_time() + patience

    async def _close_stream(self) -> None:
        try:
            await self._stream.aclose()
        except _UNCLOSABLE:
            with contextlib.suppress(*_UNCLOSABLE):
                await anyio.aclose_forcefully(self._stream)

    def _check_connected(self) -> None:
        if self._send_scope is not None:
            raise TransportBusy(BUSY_SEND)
        if self._closed:
            raise TransportClosed(CLOSED)
        if self._send_error is not None:
            raise TransportBroken(BROKEN) from self._send_error

    def _interrupted(self, late: str) -> TimeoutError | TransportClosed:
        """What ended a wait: `aclose` cancels the scope, and so does the deadline."""
        return TransportClosed(CLOSED) if self._closed else TimeoutError(late)

    def _gone(self, error: Exception) -> TransportBroken | TransportClosed:
        if self._closed:
            return TransportClosed(CLOSED)
        self._send_error = error
        return TransportBroken(BROKEN)

    def _is_late(self) -> bool:
        return self._deadline is not None and anyio.current_time() >= self._deadline

    def _moment(self) -> float:
        return math.inf if self._deadline is None else self._deadline
