"""Which bytes of a file: a set of positions, kept as spans that neither touch nor overlap.

Knows: how spans are joined, cut and complemented, in time that grows with their number, not with the file.
Refuses to know: what the positions are of.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

__all__ = ["Span", "Spans"]

Span = tuple[int, int]
"""From a position on, up to another that is no part of it."""


class Spans:
    """A set of bytes.

    Args:
        spans: Those that are in it from the beginning.
    """

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.size = 0
        """How many bytes are in it."""
        for start, stop in spans:
            self.add(start, stop)

    def __iter__(self) -> Iterator[Span]:
        return zip(self._starts, self._stops, strict=True)

    def add(self, start: int, stop: int) -> int:
        """Put bytes in; says how many of them were not in it."""
        if start >= stop:
            return 0
        # The spans from `first` up to `last` overlap or touch the new one, and become one with it.
        first = bisect_left(self._stops, start)
        last = first
        old = 0
        while last < len(self._starts) and self._starts[last] <= stop:
            start, stop = min(start, self._starts[last]), max(stop, self._stops[last])
            old += self._stops[last] - self._starts[last]
            last += 1
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        self.size += (added := stop - start - old)
        return added

    def take(self, most: int) -> Span | None:
        """Take the first bytes out, at most so many and without a gap; `None` when there are none."""
        if not self._starts:
            return None
        start = self._starts[0]
        stop = min(self._stops[0], start + most)
        if stop == self._stops[0]:
            del self._starts[0], self._stops[0]
        else:
            self._starts[0] = stop
        self.size -= stop - start
        return start, stop

    def gaps(self, size: int) -> Spans:
        """The bytes of a file of this size that are not in it."""
        missing, position = Spans(), 0
        for start, stop in self:
            missing.add(position, start)
            position = stop
        missing.add(position, size)
        return missing
