"""What a transport is: two streams of bytes, one each way, and a moment at which patience ends.

Knows: the promises that every implementation keeps (`check_transport` holds them) and the four errors that
cross this border, whatever the event loop or the operating system called them:

| what happened | raised |
|---|---|
| the deadline passed, or a reader took nothing for too long | `TimeoutError` |
| the peer reset the connection, or it is gone | `TransportBroken`, a `ConnectionError` |
| this side was closed, or has said that it sends no more | `TransportClosed` |
| two tasks receive, or two tasks send, at once | `TransportBusy` |

Refuses to know: sockets, event loops, what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

__all__ = ["Handler", "Transport", "TransportBroken", "TransportBusy", "TransportClosed"]

BROKEN: Final = "the connection is broken: the peer reset it or is gone"
CLOSED: Final = "the transport is closed"
ENDED: Final = "nothing can be sent after send_eof"
CUT_SHORT: Final = "nothing can be sent after a send that was cut short"
LATE_RECEIVE: Final = "the deadline passed while receiving"
LATE_SEND: Final = "the deadline passed while sending"
BUSY_RECEIVE: Final = "another task is receiving from this transport"
BUSY_SEND: Final = "another task is sending on this transport"


class TransportBroken(ConnectionError):
    """The peer reset the connection, or it is gone: nothing more leaves, and no more comes than has come."""


class TransportClosed(Exception):
    """This side may no longer do that: it was closed (perhaps by another task), or sends no more."""


class TransportBusy(RuntimeError):
    """Misuse: each direction serves one task at a time. The operation under way is not disturbed."""


class Transport(Protocol):
    """A connection: bytes in order, each way on its own, so that one task may receive while another sends."""

    # Choice: what begins too late fails even where it need not wait, so that a peer who always has a byte
    # ready cannot outlast a deadline, and every implementation behaves alike.
    deadline: float | None
    """When patience ends, on the loop's clock (`anyio.current_time()`); `None` waits for ever.

    It may be changed at any time, in both directions, also while operations wait: they go by the newest
    value. An operation that waits when it passes, and one that begins afterwards, raises `TimeoutError`.
    """

    send_patience: float | None
    """Seconds that a send may wait without anything of it being taken; `None` sets no such limit.

    A reader that takes something in that time is slow, and one that takes nothing is gone: its send raises
    `TimeoutError`, up to a quarter of the time later where a system does not say when it takes what. What a
    reader takes is seen as its system tells of it, which may be in portions of 64 KiB and more.

    Set once, it costs nothing where sends need not wait: a deadline for each would cost a look at the clock.
    """

    @property
    def peer(self) -> str | None:
        """The other side's address, such as `127.0.0.1:5272`, or `None` where it has none."""

    async def receive(self) -> bytes:
        """Wait for bytes from the peer.

        A receive that was cancelled or timed out has taken nothing: the next one gets all that came.

        Returns:
            At least one byte, as many as there are; `b""` once the peer has ended its stream, ever after.

        Raises:
            TimeoutError: The deadline passed.
            TransportBroken: The peer reset the connection; what had come before was handed out first.
            TransportClosed: This side was closed.
            TransportBusy: Another task is receiving.
        """
        ...

    async def send(self, data: bytes) -> None:
        """Hand bytes over for the peer; waits while it reads too slowly, so that memory stays bounded.

        When this returns, the operating system (or the other end, in memory) has all of them: `aclose` does
        not lose them. A send that is cut short while under way (cancelled, timed out) has sent an unknown
        part; the stream cannot be continued, and a later send raises `TransportClosed`.

        Args:
            data: Of any length; an empty piece changes nothing.

        Raises:
            TimeoutError: The deadline passed, or the reader took nothing for as long as patience lasts.
            TransportBroken: The peer reset the connection.
            TransportClosed: This side was closed, `send_eof` was called, or an earlier send was cut short.
            TransportBusy: Another task is sending.
        """
        ...

    async def send_eof(self) -> None:
        """End the stream to the peer; receiving goes on. A second call does nothing.

        Where the stream cannot be closed by half (TLS), the peer learns of the end at `aclose`.

        Raises:
            TransportBroken: The peer reset the connection.
            TransportClosed: This side was closed, or an earlier send was cut short.
            TransportBusy: Another task is sending.
        """
        ...

    async def aclose(self) -> None:
        """Close both directions, whatever the peer does, and even if cancelled: at once or (TLS) in a second.

        Operations of other tasks that wait end with `TransportClosed`. A second call does nothing. No errors
        are raised: closing a broken connection is no misfortune.
        """
        ...


Handler = Callable[[Transport], Awaitable[None]]
"""Serves one connection; the transport is closed when it ends."""
