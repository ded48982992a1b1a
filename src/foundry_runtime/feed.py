"""News for all who watch: told at once, and never waited for.

Knows: who wants what, and how much may wait for one who does not come for it: from there on he gets nothing
more, since what he missed could not be told from what did not happen.
Refuses to know: what happens, and how it is sent.

    with feed.watching(wish) as watcher:
        while True:
            await send(*await watcher.receive())
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from attrs import define, field

from foundry_proto.codec import encode
from foundry_proto.conversation import is_wanted
from foundry_proto.messages.watch import ServerEvent, WatchRequest
from foundry_runtime.application import Hangup

__all__ = ["MAX_BYTES", "MAX_EVENTS", "Feed", "TooSlow", "Watcher"]

MAX_EVENTS: Final = 1000
"""Most events that wait for one watcher."""
MAX_BYTES: Final = 256 * 1024
"""Most bytes of them."""


class TooSlow(Hangup):
    """More events would wait for a watcher than may; the text says how many that is."""


@define(eq=False)
class Watcher:
    """One who watches; made by `Feed.watching`."""

    wish: WatchRequest
    """What it wants to be told."""
    _max_events: int
    _max_bytes: int
    _waiting: list[bytes] = field(init=False, factory=list)
    _bytes: int = field(init=False, default=0)
    _missed: bool = field(init=False, default=False)
    _news: anyio.Event = field(init=False, factory=anyio.Event)

    @property
    def held(self) -> int:
        """How many bytes wait."""
        return self._bytes

    def put(self, data: bytes) -> None:
        """Have an event wait for the watcher, if there is room."""
        if len(self._waiting) >= self._max_events or self._bytes + len(data) > self._max_bytes:
            self._missed = True
            self._waiting.clear()
            self._bytes = 0
        if not self._missed:
            self._waiting.append(data)
            self._bytes += len(data)
        self._news.set()

    async def receive(self) -> list[bytes]:
        """Wait for news: all that there are, as JSON texts in their order, at least one.

        Raises:
            TooSlow: There were more than may wait.
        """
        while not self._waiting:
            if self._missed:
                raise TooSlow(
                    f"too slow: more than {self._max_events} events or {self._max_bytes} bytes were waiting"
                )
            self._news = anyio.Event()
            await self._news.wait()
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        return waiting


class Feed:
    """Tells events to those who watch.

    Args:
        max_events: The most events that wait for one watcher.
        max_bytes: The most bytes of them.
    """

    def __init__(self, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._watchers: set[Watcher] = set()

    @property
    def watchers(self) -> Collection[Watcher]:
        """All who watch."""
        return frozenset(self._watchers)

    @property
    def watched(self) -> bool:
        """Whether anybody watches: who would have to compute an event may ask first."""
        return bool(self._watchers)

    def publish(self, event: ServerEvent) -> None:
        """Tell an event; to be called in the event loop. Nothing is waited for."""
        wanting = [watcher for watcher in self._watchers if is_wanted(event, watcher.wish)]
        if wanting:
            data = encode(event)  # once for all of them
            for watcher in wanting:
                watcher.put(data)

    @contextmanager
    def watching(self, wish: WatchRequest) -> Iterator[Watcher]:
        """Watch, from here to the context's end."""
        watcher = Watcher(wish, self._max_events, self._max_bytes)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
