"""Which running job has which row, and what is kept of jobs for prompts that begin like theirs.

Knows: that jobs whose prompts are computed have the first rows, side by side, since the model computes rows
that lie beside each other; that prompts are computed in rows behind them; who moves when one joins or leaves;
and when a block of keys and values is kept, and taken again.
Refuses to know: what comes next, how tokens are computed and chosen, and what is told of it.

Keys and values that a prompt's computation wrote are exact: the same bits however the prompt was cut. Those
that were written token by token, while an answer was generated, are not, nor is what stands behind them.
"""

from __future__ import annotations

from typing import Final, final

from attrs import define, field

from foundry_runtime.engine.api import Job
from foundry_runtime.engine.batched.layout import Layout
from foundry_runtime.engine.batched.memory import RowMemory, SlotMemory
from foundry_runtime.engine.batched.prefixes import Block, PrefixIndex
from foundry_runtime.engine.batched.speculation import Speculation
from foundry_runtime.engine.prefill import SLICE_UNIT
from foundry_runtime.engine.text.choosing import Chooser

__all__ = ["Rows", "Running"]

_BLOCK: Final = SLICE_UNIT
"""Tokens of a kept block: slices of prefill end where blocks end."""
_FRESH: Final = 2
"""So many of a prompt's tokens are always computed: one alone runs other kernels, which round otherwise."""


@define(eq=False)
class Running:
    """A job and how far it is."""

    job: Job
    arrived: float
    tokens: list[int]
    """The prompt, and what was generated behind it."""
    chooser: Chooser | None = None
    """Chooses its tokens, where that is more than taking the largest logit's."""
    started: bool = False
    """Whether it was told that it has begun."""
    row: int = -1
    """Where its keys and values are; -1 before it begins."""
    computed: int = 0
    """Of how many tokens there are keys and values."""
    speculation: Speculation | None = None
    """Guesses what comes next, where that is wanted."""
    kept: Block | None = None
    """The last of its blocks that are kept."""
    kept_tokens: int = 0
    """How many of its tokens are in kept blocks; -1 when no more of them shall be kept."""
    prompt_length: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.prompt_length = len(self.tokens)

    @property
    def remaining(self) -> int:
        """How many of its prompt's tokens are not computed."""
        return self.prompt_length - self.computed

    @property
    def reserved(self) -> int:
        """The most tokens that it will have keys and values of."""
        return self.prompt_length + self.job.max_tokens


@final
class Rows:
    """The rows, and who is in them.

    Args:
        layout: The model's sizes.
        memory: The rows' memory; one row is always free, as a place to move to. Who made it closes it.
        kept: Tokens of ended jobs whose keys and values are kept.
    """

    def __init__(self, layout: Layout, memory: RowMemory, *, kept: int) -> None:
        self._memory = memory
        self._free = list(range(memory.rows))
        self._index = PrefixIndex(kept // _BLOCK, length=_BLOCK)
        self._slots = SlotMemory(layout, kept // _BLOCK, _BLOCK)
        self.filling: dict[Job, Running] = {}
        """Jobs whose prompts are being computed."""
        self.decoding: list[Running] = []
        """Jobs whose tokens are being generated; each one's place is its row."""

    @property
    def room(self) -> int:
        """How many more jobs can begin."""
        return len(self._free) - 1

    @property
    def reserved(self) -> int:
        """How many tokens the running jobs may come to have, together."""
        return sum(one.reserved for one in (*self.filling.values(), *self.decoding))

    @property
    def kept_tokens(self) -> int:
        """How many tokens' keys and values are kept."""
        return len(self._index) * _BLOCK

    def find(self, job: Job) -> Running | None:
        """The job, if it is running."""
        return self.filling.get(job) or next((one for one in self.decoding if one.job is job), None)

    def begin(self, one: Running) -> None:
        """Give a job a row, and what is kept of its prompt's beginning.

        It is the first that is free: the one that it joins the others in, if nothing changes meanwhile.
        """
        one.row = self._first_free()
        self.filling[one.job] = one
        path = self._index.match(one.tokens, most=one.prompt_length - _FRESH)
        for number, block in enumerate(path):
            begin = number * _BLOCK
            self._memory.tokens(one.row, begin, begin + _BLOCK)[:] = self._slots[block.slot]
        if path:
            one.kept = path[-1]
            one.computed = one.kept_tokens = len(path) * _BLOCK

    def keep(self, one: Running, *, exact: bool) -> None:
        """Keep those of a job's blocks that are computed and not kept yet.

        Args:
            one: The job.
            exact: Whether what was computed since the last call comes from its prompt.
        """
        while 0 <= one.kept_tokens <= one.computed - _BLOCK:
            begin, end = one.kept_tokens, one.kept_tokens + _BLOCK
            block = self._kept_block(one, tuple(one.tokens[begin:end]), exact=exact)
            if block is None:
                one.kept_tokens = -1
                return
            one.kept, one.kept_tokens = block, end

    def _kept_block(self, one: Running, tokens: tuple[int, ...], *, exact: bool) -> Block | None:
        """The block that holds these tokens, which may be there already; `None` where none can be kept."""
        parent, begin = one.kept, one.kept_tokens
        if parent is not None and not self._index.is_kept(parent):
            return None  # what stands before has been given up meanwhile
        block = self._index.find(parent, tokens)
        if block is None:
            block = self._index.insert(parent, tokens, exact=exact)
        elif exact and not block.exact and (parent is None or parent.exact):
            block.exact = True
        else:
            return block
        if block is not None:
            self._slots[block.slot][:] = self._memory.tokens(one.row, begin, begin + _BLOCK)
        return block

    def join(self, one: Running) -> None:
        """Let a job whose prompt is computed run with the others: in the row behind theirs."""
        target = len(self.decoding)
        if one.row != target:
            for other in self.filling.values():
                if other.row == target:
                    self._move(other, self._first_free())
            self._free.remove(target)
            self._move(one, target)
        del self.filling[one.job]
        self.decoding.append(one)

    def leave(self, one: Running) -> None:
        """Free a job's row; among those that generate, the last takes its place."""
        row, one.row = one.row, -1
        self._memory.leave(row, one.computed)
        if self.filling.pop(one.job, None) is not None:
            self._free.append(row)
            return
        last = self.decoding.pop()
        if last is one:
            self._free.append(row)
            return
        self.decoding[row] = last
        self._move(last, row)

    def _first_free(self) -> int:
        row = min(self._free)
        self._free.remove(row)
        return row

    def _move(self, one: Running, row: int) -> None:
        self._memory.move(one.row, row, one.computed)
        self._free.append(one.row)
        one.row = row

    def forget(self) -> None:
        """Keep nothing of ended jobs any more, nor of those that run now, and give the memory back."""
        for one in (*self.filling.values(), *self.decoding):
            one.kept, one.kept_tokens = None, -1
        self._index.clear()
        self._slots.leave_all()
        self._memory.shrink(self._free, 0)

    def shrink(self) -> None:
        """Give back most of what ended jobs had; for times when nothing runs."""
        self._memory.shrink(sorted(self._free))

    def close(self) -> None:
        """Forget all jobs, and give the kept blocks' memory back."""
        self.filling.clear()
        self.decoding.clear()
        self._slots.close()
