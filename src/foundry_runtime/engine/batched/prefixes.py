"""Which beginnings of token sequences have their KV cache kept, and where: the index alone, pure.

Knows: that a prefix is a path of whole blocks, each of the same number of tokens; that paths with the same
tokens share their blocks; which block is given up when room is needed.
Refuses to know: what a slot holds, and how it is copied.

A block is found only by its own tokens *and* those of all blocks before it, compared one by one: nobody's
request ever meets the keys and values of other tokens than its own.

Of all blocks the one whose path was used longest ago is given up first. A use touches a path from its end to
its beginning, so a block is always newer than those that build on it, and the oldest has none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import final

from attrs import define, field

__all__ = ["Block", "PrefixIndex"]


@define(eq=False)
class Block:
    """The keys and values of one block of tokens that stand behind its parent's."""

    parent: Block | None
    tokens: tuple[int, ...]
    slot: int
    """Where they are kept: a number below the index's capacity."""
    exact: bool
    """Whether these and all before them come from prefill, which gives the same bits whatever the slices
    were; decode rounds otherwise."""
    children: dict[tuple[int, ...], Block] = field(factory=dict)


@final
class PrefixIndex:
    """A tree of blocks, bounded in number.

    Args:
        capacity: Most blocks that are kept; 0 keeps none.
        length: Tokens of a block.
    """

    def __init__(self, capacity: int, *, length: int = 16) -> None:
        self.length = length
        self._free = list(reversed(range(capacity)))
        self._roots: dict[tuple[int, ...], Block] = {}
        self._by_age: OrderedDict[int, Block] = OrderedDict()

    def __len__(self) -> int:
        """How many blocks are kept."""
        return len(self._by_age)

    def match(self, tokens: Sequence[int], *, most: int) -> list[Block]:
        """The longest kept path that these tokens begin with.

        Args:
            tokens: The prompt.
            most: How many of them may come from blocks.

        Returns:
            Its blocks, in order; they count as used now.
        """
        path: list[Block] = []
        children = self._roots
        for begin in range(0, most - self.length + 1, self.length):
            block = children.get(tuple(tokens[begin : begin + self.length]))
            if block is None:
                break
            path.append(block)
            children = block.children
        self.touch(path[-1] if path else None)
        return path

    def touch(self, block: Block | None) -> None:
        """Count a block, and all that it builds on, as used now."""
        while block is not None:
            self._by_age.move_to_end(block.slot)
            block = block.parent

    def find(self, parent: Block | None, tokens: tuple[int, ...]) -> Block | None:
        """The block of these tokens behind a parent, or at the beginning; `None` if it is not kept."""
        return (self._roots if parent is None else parent.children).get(tokens)

    def insert(self, parent: Block | None, tokens: tuple[int, ...], *, exact: bool) -> Block | None:
        """Make a place for a block that is not kept yet.

        Args:
            parent: What it stands behind; must be kept. `None` for a beginning.
            tokens: Its own tokens.
            exact: Whether it was computed by prefill; it counts as exact only behind an exact parent.

        Returns:
            The block; `None` where there is no place but those of the blocks that it builds on.
        """
        self.touch(parent)
        if not self._free and not self._give_up_oldest(parent):
            return None
        block = Block(parent, tokens, self._free.pop(), exact and (parent is None or parent.exact))
        (self._roots if parent is None else parent.children)[tokens] = block
        self._by_age[block.slot] = block
        self.touch(block)
        return block

    def clear(self) -> None:
        """Keep nothing any more."""
        self._free.extend(self._by_age)
        self._by_age.clear()
        self._roots.clear()

    def is_kept(self, block: Block) -> bool:
        """Whether a block that was once made is still there."""
        return self._by_age.get(block.slot) is block

    def _give_up_oldest(self, needed: Block | None) -> bool:
        """Free the slot that was used longest ago, unless its block is needed."""
        oldest = next(iter(self._by_age.values()), None)
        if oldest is None or oldest is needed:
            return False
        siblings = self._roots if oldest.parent is None else oldest.parent.children
        del siblings[oldest.tokens]
        del self._by_age[oldest.slot]
        self._free.append(oldest.slot)
        return True
