"""Generators of jobs that have ended, kept for prompts that begin like theirs.

Knows: how long a beginning two sequences share, which generator serves a prompt best, and which one goes when
there is no room for another.
Refuses to know: what is generated, and when.

A generator's KV cache is as long as it was made. So generators are made longer than their own job needs: the
next turn of a conversation is longer than this one.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import numpy.typing as npt
from attrs import frozen

from foundry_runtime.engine.genai.binding import GenaiError, Generator
from foundry_runtime.engine.prefill import SLICE_UNIT

__all__ = ["KeptGenerators"]

_Ids = npt.NDArray[np.int32]

_FRESH: Final = 2
"""So many of a prompt's tokens are always computed: one alone runs other kernels, which round otherwise."""
_LEAST: Final = 64
"""A shorter beginning is not worth a generator that another prompt may need."""


@frozen(eq=False)
class _Kept:
    generator: Generator
    tokens: _Ids
    """Those whose keys and values it has."""
    room: int


@final
class KeptGenerators:
    """A few generators, the one that was used longest ago first.

    Args:
        most: How many; 0 keeps none.
        context_length: Most tokens of a sequence; together they have room for no more.
    """

    def __init__(self, most: int, *, context_length: int) -> None:
        self._most = most
        self._context_length = context_length
        self._kept: list[_Kept] = []

    def room_for(self, length: int) -> int:
        """For how many tokens to make the generator of a job that may come to have so many."""
        if not self._most:
            return length
        return min(self._context_length, 1 << (length - 1).bit_length())

    def keep(self, generator: Generator, tokens: _Ids, room: int) -> None:
        """Keep a generator, or close it where it is not worth keeping.

        Args:
            generator: Whose job has ended.
            tokens: Those that it has computed.
            room: For how many it was made.
        """
        if len(tokens) < _LEAST or not self._most or room > self._context_length:
            generator.close()
            return
        self._kept.append(_Kept(generator, tokens, room))
        while len(self._kept) > self._most or sum(one.room for one in self._kept) > self._context_length:
            self._kept.pop(0).generator.close()

    def take(self, prompt: _Ids, length: int) -> tuple[Generator, int, int] | None:
        """Take the generator whose beginning serves a prompt best.

        Args:
            prompt: What is to be computed.
            length: How many tokens the whole sequence may come to have.

        Returns:
            The generator, how many of the prompt's tokens it has, and for how many it was made. Those
            tokens end where slices end, so that what follows is computed as if all were.
        """
        fitting = [one for one in self._kept if one.room >= length]
        best = max(fitting, key=lambda one: _common(one.tokens, prompt), default=None)
        if best is None:
            return None
        computed = min(_common(best.tokens, prompt), len(prompt) - _FRESH) // SLICE_UNIT * SLICE_UNIT
        if computed < _LEAST:
            return None
        self._kept.remove(best)
        try:
            best.generator.rewind_to(computed)
        except GenaiError:  # as some kinds of models
            best.generator.close()
            return None
        return best.generator, computed, best.room

    def close(self) -> None:
        """Close all."""
        while self._kept:
            self._kept.pop().generator.close()


def _common(one: _Ids, other: _Ids) -> int:
    """How many tokens two sequences have in common from the first on."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length
