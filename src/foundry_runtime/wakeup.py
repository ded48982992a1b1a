"""Thread → loop: hand something over, and wake the loop only when there was nothing waiting.

Knows: how each event loop is woken from another thread (asyncio's `call_soon_threadsafe`, trio's
`run_sync_soon`), and that a loop which is closed has nobody left to wake.
Refuses to know: what is handed over.

A hand-over costs the giving thread a lock and an append; it never waits for the reader. Calling into the
loop for each item instead (`anyio.from_thread.run`) costs a hundred times that and makes the giver wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar, cast, final

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    import asyncio

    import trio

__all__ = ["Doorbell", "Inbox", "Latch"]

T = TypeVar("T")


def _scheduler() -> Callable[[Callable[[], object]], object]:
    """How to run a plain function in the current event loop, from any thread."""
    token = anyio.lowlevel.current_token()
    loop = getattr(token, "native_token", token)  # anyio before 4.11 gave the loop's own object
    # Told apart by what they can do: importing asyncio to ask would load it for programs that run trio.
    if hasattr(loop, "call_soon_threadsafe"):
        return cast("asyncio.AbstractEventLoop", loop).call_soon_threadsafe
    return cast("trio.lowlevel.TrioToken", loop).run_sync_soon


@final
class Doorbell:
    """Rung in any thread, heard by one task of the event loop in which it was made."""

    def __init__(self) -> None:
        self._schedule = _scheduler()
        self._rung = anyio.Event()

    def ring(self) -> None:
        """Wake the waiting task, or the next that waits; any thread may call. A closed loop does no harm."""
        try:
            self._schedule(self._hear)
        except RuntimeError:
            # "Event loop is closed", and trio's RunFinishedError: nobody is left to hear.
            pass

    def _hear(self) -> None:
        self._rung.set()

    async def wait(self) -> None:
        """Wait until the bell was rung since the last wait. Rings that nobody heard count once."""
        await self._rung.wait()
        self._rung = anyio.Event()


@final
class Inbox(Generic[T]):
    """Items given by any thread and received, all that wait at once, by one task.

    Make it in the event loop that receives. It has no limit of its own: the giver's output is bounded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: list[T] = []
        self._closed = False
        self._receiving = False
        self._bell = Doorbell()

    def put(self, item: T) -> None:
        """Add an item; any thread may call. It never waits, and after `close` the item is dropped."""
        with self._lock:
            if self._closed:
                return
            was_empty = not self._items
            self._items.append(item)
        if was_empty:
            self._bell.ring()

    def receive_nowait(self) -> list[T]:
        """All that is waiting, in order; empty when nothing is.

        Raises:
            anyio.ClosedResourceError: After `close`.
        """
        with self._lock:
            if self._closed:
                raise anyio.ClosedResourceError
            items, self._items = self._items, []
        return items

    async def receive(self) -> list[T]:
        """Wait for items.

        Returns:
            All that are waiting, in order, at least one.

        Raises:
            anyio.ClosedResourceError: `close` was called, before or meanwhile.
            anyio.BusyResourceError: Another task is receiving.
        """
        if self._receiving:
            raise anyio.BusyResourceError("receiving from")
        self._receiving = True
        try:
            if self._items:
                await (
                    anyio.lowlevel.checkpoint()
                )  # before anything is taken: a cancelled receiver loses nothing
            while not (items := self.receive_nowait()):
                await self._bell.wait()
        finally:
            self._receiving = False
        return items

    def close(self) -> None:
        """Drop what waits and all that will come; any thread may call."""
        with self._lock:
            self._closed = True
            self._items = []
        self._bell.ring()


@final
class Latch:
    """Set once, in any thread; waited for by any number of tasks of any loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._bells: list[Doorbell] = []

    @property
    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._set

    def set(self) -> None:
        """Let all that wait go on. Setting it again does nothing."""
        with self._lock:
            self._set = True
            bells, self._bells = self._bells, []
        for bell in bells:
            bell.ring()

    async def wait(self) -> None:
        """Wait until `set` was called."""
        bell = Doorbell()
        with self._lock:
            if not self._set:
                self._bells.append(bell)
        while not self._set:
            await bell.wait()
