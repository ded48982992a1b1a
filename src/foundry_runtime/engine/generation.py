"""The reader's end of jobs: deliveries received in an event loop, and the way to stop them.

Knows: that a job's last delivery is a `Done` or a `Broken`, and that nothing is received after it.
Refuses to know: who generates, and how a cancel reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import anyio

from foundry_runtime.engine.driver import Broken, Delivery, Done
from foundry_runtime.wakeup import Inbox

__all__ = ["Generation", "Generations"]


@final
class Generation:
    """The reader's end of one job: what came of it, in order."""

    def __init__(self, inbox: Inbox[Delivery], cancel: Callable[[], None]) -> None:
        self._inbox = inbox
        self._cancel = cancel
        self._over = False

    async def receive(self) -> Sequence[Delivery]:
        """Wait for deliveries.

        Returns:
            All that are waiting, at least one; the last of all is a `Done` or a `Broken`.

        Raises:
            anyio.EndOfStream: The last delivery was received before.
            anyio.ClosedResourceError: `cancel` was called, before or meanwhile.
        """
        if self._over:
            raise anyio.EndOfStream
        deliveries = await self._inbox.receive()
        self._over = isinstance(deliveries[-1], Done | Broken)
        return deliveries

    def cancel(self) -> None:
        """Stop generating, effective at the next step; nothing is received any more.

        It neither waits nor raises, may be called again and after the end, and so belongs into a `finally`.
        """
        if not self._over:
            self._inbox.close()
            self._cancel()


@final
class Generations:
    """The reader's end of several jobs, such as the choices of one answer: what came of any, in order."""

    def __init__(self, inbox: Inbox[tuple[int, Delivery]], cancels: Sequence[Callable[[], None]]) -> None:
        self._inbox = inbox
        self._open = dict(enumerate(cancels))

    async def receive(self) -> Sequence[tuple[int, Delivery]]:
        """Wait for deliveries.

        Returns:
            All that are waiting, at least one, each with its job's number; the last of each job is a `Done`
            or a `Broken`.

        Raises:
            anyio.EndOfStream: The last delivery of the last job was received before.
            anyio.ClosedResourceError: `cancel` was called, before or meanwhile.
        """
        if not self._open:
            raise anyio.EndOfStream
        deliveries = await self._inbox.receive()
        for number, delivery in deliveries:
            if isinstance(delivery, Done | Broken):
                del self._open[number]
        return deliveries

    def cancel(self) -> None:
        """Stop what is still being generated, as `Generation.cancel` does."""
        if self._open:
            self._inbox.close()
            for cancel in self._open.values():
                cancel()
