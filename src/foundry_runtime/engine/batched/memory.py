"""The memory of keys and values: a row for each running sequence, and slots for kept blocks.

Knows: how both lie in memory, how tokens are copied between them, and that memory is taken for tokens, not
for rows: address space is reserved for every row's whole length, pages come as they are written, and go back
when a row or slot is left. Some stay for the next row: to get a page costs five times what filling it does.
Refuses to know: what the numbers mean, who a row belongs to, and which blocks are kept.

All layers' keys and values lie in one array, so that tokens move between rows and slots by one copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from mmap import PAGESIZE
from typing import Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

from foundry_runtime.engine.batched.layout import Layout
from foundry_runtime.platform import LazyMemory

__all__ = ["WARM_IDLE", "RowMemory", "SlotMemory"]

_Floats: TypeAlias = npt.NDArray[np.float32]
_FLOAT: Final = 4
_WARM: Final = 4096
"""Tokens in rows that were left, whose memory stays while jobs run."""
WARM_IDLE: Final = 1024
"""The same, when none does: a conversation's next turn."""


@final
class RowMemory:
    """Rows of keys and values, each of a fixed greatest length, as the attention operator wants them.

    Args:
        layout: The model's sizes.
        rows: How many sequences can be in it.
        length: Tokens that a row can hold.

    Raises:
        MemoryError: The system gives no address space for that many.
    """

    def __init__(self, layout: Layout, rows: int, length: int) -> None:
        self.rows = rows
        self.length = length
        self._kinds = 2 * layout.layers
        self._heads, self._head_size = layout.kv_heads, layout.head_size
        shape = (self._kinds, rows, layout.kv_heads, length, layout.head_size)
        self._memory = LazyMemory(math.prod(shape) * _FLOAT)
        self._array: _Floats = np.frombuffer(self._memory.buffer, dtype=np.float32).reshape(shape)
        self._base = self._array.ctypes.data
        self._warm = [0] * rows
        """For how many tokens each row had memory when it was left last."""

    def address(self, kind: int, row: int) -> int:
        """Where a row's keys (even kinds) or values (odd ones) of a layer begin; the next rows follow."""
        return self._base + kind * self._array.strides[0] + row * self._array.strides[1]

    def shape(self, rows: int) -> list[int]:
        """The shape of one layer's keys, or values, for so many rows."""
        return [rows, self._heads, self.length, self._head_size]

    def tokens(self, row: int, begin: int, end: int) -> _Floats:
        """A row's keys and values from one token to another: (2 x layers, heads, tokens, head size)."""
        return self._array[:, row, :, begin:end]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of one row to another, and leave the first."""
        self._array[:, target, :, :tokens] = self._array[:, source, :, :tokens]
        self.leave(source, tokens)

    def leave(self, row: int, tokens: int) -> None:
        """Say that a row's first tokens are needed no more; what it holds is undefined afterwards.

        Their memory goes back but for what may stay for the next one.
        """
        touched = max(tokens, self._warm[row])
        self._warm[row] = 0
        stays = min(touched, max(_WARM - sum(self._warm), 0))
        self._give_back(row, stays, touched)
        self._warm[row] = stays

    def shrink(self, rows: Iterable[int], warm: int = WARM_IDLE) -> None:
        """Give back what stayed of rows that were left, for times when nothing runs.

        Args:
            rows: All that are not in use.
            warm: For how many tokens there may be memory still.
        """
        for row in rows:
            tokens, stays = self._warm[row], min(self._warm[row], warm)
            if stays < tokens:
                self._give_back(row, stays, tokens)
            self._warm[row] = stays
            warm -= stays

    def _give_back(self, row: int, begin: int, end: int) -> None:
        _, per_row, per_head = self._array.strides[:3]
        token = self._head_size * _FLOAT
        # The last page, too, which is not full: there is nothing behind these tokens.
        last = min(-(-end * token // PAGESIZE) * PAGESIZE, per_head)
        for kind in range(self._kinds):
            for head in range(self._heads):
                address = kind * self._array.strides[0] + row * per_row + head * per_head
                self._memory.give_back(address + begin * token, last - begin * token)

    def close(self) -> None:
        """Give everything back. No address is valid afterwards."""
        del self._array
        self._memory.close()


@final
class SlotMemory:
    """Slots that each hold the keys and values of one block of tokens.

    Args:
        layout: The model's sizes.
        slots: How many blocks can be kept.
        length: Tokens of a block.

    Raises:
        MemoryError: The system gives no address space for that many.
    """

    def __init__(self, layout: Layout, slots: int, length: int) -> None:
        shape = (slots, 2 * layout.layers, layout.kv_heads, length, layout.head_size)
        numbers = math.prod(shape)
        self._memory = LazyMemory(max(numbers * _FLOAT, 1))  # there is no mapping of nothing
        array = np.frombuffer(self._memory.buffer, dtype=np.float32, count=numbers)
        self._array: _Floats = array.reshape(shape)

    def __getitem__(self, slot: int) -> _Floats:
        """A block's keys and values: (2 x layers, heads, tokens, head size)."""
        block: _Floats = self._array[slot]
        return block

    def leave_all(self) -> None:
        """Give back what the blocks took."""
        self._memory.give_back(0, self._array.nbytes)

    def close(self) -> None:
        """Give everything back."""
        del self._array
        self._memory.close()
