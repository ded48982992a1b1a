"""What waits to be written, and the loop of the one task that writes it.

Knows: that who is cancelled while it sends cuts nothing, since another task writes; that a sender waits until
its own has left, and goes on when it never will.
Refuses to know: what is written, and to whom.

Memory: as many items wait as there are senders, and one more for each that was cancelled meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from attrs import define, field

__all__ = ["Outbox"]

ItemT = TypeVar("ItemT")


@define(eq=False)
class Outbox(Generic[ItemT]):
    """Items in the order in which they were put here."""

    gone: bool = field(init=False, default=False)
    """Whether nothing can be written any more."""
    _unsent: list[ItemT] = field(init=False, factory=list)
    _wanted: anyio.Event = field(init=False, factory=anyio.Event)
    """There is something to write."""
    _written: anyio.Event = field(init=False, factory=anyio.Event)
    """What waits now has left, or never will."""
    _leaving: anyio.Event | None = field(init=False, default=None)
    """The same of what is being written."""

    def put(self, *items: ItemT) -> None:
        """Have items written, and do not wait for it."""
        self._unsent += items
        self._wanted.set()

    async def put_through(self, *items: ItemT) -> bool:
        """Have items written, and wait until they and all before them have left; whether they have."""
        if items:
            self.put(*items)
        waiting = self._written if self._unsent else self._leaving
        if waiting is not None and not self.gone:
            await waiting.wait()
        return not self.gone

    def take(self) -> list[ItemT]:
        """Take out what nobody writes yet."""
        items, self._unsent = self._unsent, []
        return items

    async def keep_writing(self, write: Callable[[list[ItemT]], Awaitable[None]]) -> None:
        """Write what waits, until nothing can be written.

        Args:
            write: Writes items; calls `give_up` when it cannot.
        """
        while True:
            await self._wanted.wait()
            if self.gone:
                return
            self._wanted = anyio.Event()
            if not (items := self.take()):
                continue
            written = self._leaving = self._written
            self._written = anyio.Event()
            await write(items)
            self._leaving = None
            written.set()

    def give_up(self) -> None:
        """Nothing can be written any more: whoever waits is woken."""
        self.gone = True
        self._written.set()
        self._wanted.set()
