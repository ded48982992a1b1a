"""Linear time without a clock: a buffer that counts the bytes which searches look at."""

from __future__ import annotations

from typing import SupportsIndex

__all__ = ["Searched"]


class Searched(bytearray):
    """Stands in for a parser's buffer; `searched` is the sum over all calls of `find`."""

    searched = 0

    def find(self, sub: object, start: SupportsIndex | None = 0, end: SupportsIndex | None = None, /) -> int:
        assert isinstance(sub, bytes)
        assert isinstance(start, int)
        assert end is None
        found = super().find(sub, start)
        self.searched += (found if found >= 0 else len(self)) - start
        return found
