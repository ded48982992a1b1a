"""Whose turn it is to compute, when the engines of several models share the machine's cores.

Knows: an order of asking. Refuses to know: what is done in a turn, and any event loop.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import final

__all__ = ["Turns"]


@final
class Turns:
    """Lets one worker at a time be inside `step()`, in the order of asking.

    Threads beyond the cores made decoding up to five times slower: workers of several models share one
    `Turns`. A plain lock would not do: who steps in a loop takes it again before anyone else wakes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()  # released by the predecessor, who leaves `_taken` standing for us

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
