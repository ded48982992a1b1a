"""A loaded decoder: ids in, logits out, for any rows that lie beside each other.

Knows: onnxruntime's session and bindings, and what a graph must do to be driven this way (it is tried when
the model is loaded).
Refuses to know: jobs, sampling, and why these tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt
from attrs import define

from foundry_runtime.engine.api import ModelLoadError
from foundry_runtime.engine.batched.layout import Layout, NotBatchable
from foundry_runtime.engine.batched.memory import RowMemory
from foundry_runtime.engine.session import open_session

__all__ = ["POSITIONS_INPUT", "BatchedModel"]

_Floats: TypeAlias = npt.NDArray[np.float32]
_Ids: TypeAlias = npt.NDArray[np.int64]

POSITIONS_INPUT: Final = "logit_positions"
"""An input that a rewritten graph has: int64, which of the computed positions have logits, from 0 on."""
_TOLERANCE: Final = 0.1
"""Of the logits' range: more than 8-bit rounding makes, less than keys and values in the wrong place do."""


@define(eq=False)
class _Bound:
    """A binding of some rows, and what else is bound in it."""

    binding: Any
    shape: tuple[int, int] = (0, 0)
    """How many tokens of each row, and behind how many of them there are logits."""
    logits: _Floats | None = None
    """Where these come to, if that can serve again."""


@final
class BatchedModel:
    """A session over a plain decoder, and the rows that it computes in.

    Args:
        layout: How the model is driven.
        vocabulary: How many logits a position has.
        threads: Threads that compute.
        memory: The rows, at least two; the model closes it.
        rewritten: The graph, if it takes the positions whose logits are wanted.

    Raises:
        NotBatchable: The graph does not do what this engine needs; another engine may know it.
        ModelLoadError: It cannot be loaded at all.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        vocabulary: int,
        threads: int,
        memory: RowMemory,
        rewritten: bytes | None = None,
    ) -> None:
        self._layout = layout
        self._gives: Literal["last", "wanted", "all"] = "last" if rewritten is None else "wanted"
        self._vocabulary = vocabulary
        self.memory = memory
        self._bindings: dict[tuple[int, int], _Bound] = {}
        try:
            self._session: Any = open_session(layout.path, threads=threads, arena=True, rewritten=rewritten)
            self._check_shapes()
            self._ids: _Ids = np.empty(memory.length, dtype=np.int64)
            self._mask: _Ids = np.empty(memory.rows * memory.length, dtype=np.int64)
            self._mask_address: int = self._mask.ctypes.data
            self._ones: _Ids = np.ones(memory.length, dtype=np.int64)
            self._ones_address: int = self._ones.ctypes.data
            self._positions = np.arange(memory.length, dtype=np.int64)
            self._logits: _Floats = np.empty((memory.rows, 1, vocabulary), dtype=np.float32)
            self._check_itself()
        except BaseException:
            self.close()
            raise

    @property
    def can_check(self) -> bool:
        """Whether there can be logits behind several tokens of one pass."""
        return self._gives != "last"

    def compute(self, row: int, ids: Sequence[int] | _Ids, computed: int) -> _Floats:
        """Compute further tokens of one row.

        Args:
            row: Which row.
            ids: The tokens that follow those computed.
            computed: How many tokens of the row are computed.

        Returns:
            The logits behind the last of them, one a token id; valid until the next call.
        """
        count = len(ids)
        self._ids[:count] = ids
        logits: _Floats = self._run(row, count, [computed + count])[0, 0]
        return logits

    def decode(self, ids: Sequence[int], lengths: Sequence[int]) -> _Floats:
        """Compute one token in each of the first rows.

        Args:
            ids: A token for each of the rows from 0 on.
            lengths: How many tokens each row has, this one included.

        Returns:
            The logits behind each: (rows, vocabulary); valid until the next call.
        """
        self._ids[: len(ids)] = ids
        return self._run(0, 1, lengths)[:, 0]

    def check(self, row: int, ids: Sequence[int], computed: int) -> _Floats:
        """Compute further tokens of one row, for the logits behind each of them.

        Args:
            row: Which row.
            ids: The tokens that follow those computed.
            computed: How many tokens of the row are computed.

        Returns:
            (tokens, vocabulary); valid until the next call. Only where the model `can_check`.
        """
        count = len(ids)
        self._ids[:count] = ids
        logits: _Floats = self._run(row, count, [computed + count], every=True)[0]
        return logits

    def close(self) -> None:
        """Free the model and its rows."""
        self._bindings.clear()
        self._session = None
        self.memory.close()

    def _run(self, row: int, count: int, lengths: Sequence[int], *, every: bool = False) -> _Floats:
        """Compute `count` tokens in each row from this one on; the lengths are with them.

        Returns:
            The logits behind the last token of each, or behind every one: (rows, 1 or count, vocabulary).
        """
        layout, rows, total = self._layout, len(lengths), max(lengths)
        bound = self._bound(row, rows)
        binding = bound.binding
        # What a pass leaves of the cache makes each step of Python slow: a single row's mask is there.
        mask = self._ones_address if rows == 1 else self._write_mask(lengths, total)
        binding.bind_input(layout.attention_mask, "cpu", 0, np.int64, [rows, total], mask)
        given = count if every or self._gives == "all" else 1
        logits = bound.logits
        if logits is None or bound.shape != (count, given):
            binding.bind_input(layout.input_ids, "cpu", 0, np.int64, [rows, count], self._ids.ctypes.data)
            shape = (rows, given, self._vocabulary)
            logits = self._logits[:rows] if given == 1 else np.empty(shape, dtype=np.float32)
            binding.bind_output(layout.logits, "cpu", 0, np.float32, list(shape), logits.ctypes.data)
            if self._gives == "wanted":
                wanted = self._positions[count - given : count]
                binding.bind_input(POSITIONS_INPUT, "cpu", 0, np.int64, [given], wanted.ctypes.data)
            # What is large is not held until these rows are next computed.
            bound.shape, bound.logits = (count, given), logits if given == 1 else None
        self._session.run_with_iobinding(binding)
        return logits if every else logits[:, -1:]

    def _write_mask(self, lengths: Sequence[int], total: int) -> int:
        """Which tokens each row has, as (rows, total); gives its address."""
        mask = self._mask[: len(lengths) * total].reshape(len(lengths), total)
        np.copyto(mask, self._positions[:total] < np.array(lengths)[:, None])
        return self._mask_address

    def _bound(self, row: int, rows: int) -> _Bound:
        """The binding of these rows' keys and values: to make one takes half a millisecond, so it is kept."""
        bound = self._bindings.get((row, rows))
        if bound is None:
            binding = self._session.io_binding()
            shape = self.memory.shape(rows)
            for layer in range(self._layout.layers):
                for kind in (0, 1):
                    address = self.memory.address(2 * layer + kind, row)
                    binding.bind_input(self._layout.past[layer][kind], "cpu", 0, np.float32, shape, address)
                    binding.bind_output(
                        self._layout.present[layer][kind], "cpu", 0, np.float32, shape, address
                    )
            bound = self._bindings[row, rows] = _Bound(binding)
        return bound

    def _check_shapes(self) -> None:
        """Hold the graph's inputs and outputs against what `genai_config.json` says of them."""
        layout, session = self._layout, self._session
        inputs = {one.name: one for one in session.get_inputs()}
        outputs = {one.name: one for one in session.get_outputs()}
        caches = [name for pair in layout.past for name in pair]
        more = {POSITIONS_INPUT} if self._gives == "wanted" else set()
        if set(inputs) != {layout.input_ids, layout.attention_mask, *caches, *more}:
            raise NotBatchable(f"{layout.path.name}: its inputs are not those of a plain decoder")
        if not {layout.logits, *(name for pair in layout.present for name in pair)} <= set(outputs):
            raise NotBatchable(f"{layout.path.name}: its outputs are not those of a plain decoder")
        for name in (layout.input_ids, layout.attention_mask):
            if inputs[name].type != "tensor(int64)":
                raise NotBatchable(f"{layout.path.name}: {name}: expected int64, got {inputs[name].type}")
        for name in caches:
            if inputs[name].type != "tensor(float)":
                raise NotBatchable(f"{layout.path.name}: {name}: expected float32, got {inputs[name].type}")
        shape = outputs[layout.logits].shape
        if outputs[layout.logits].type != "tensor(float)" or len(shape) != 3:
            raise NotBatchable(f"{layout.path.name}: {layout.logits}: expected float32 of three dimensions")
        if isinstance(shape[2], int) and shape[2] != self._vocabulary:
            raise ModelLoadError(
                f"{layout.path}: the model gives {shape[2]} logits, but its vocab_size is {self._vocabulary}"
            )
        if self._gives == "last" and shape[1] != 1:
            self._gives = "all"

    def _check_itself(self) -> None:
        """Try what everything rests on: that rows keep what is computed in them, alone and side by side."""
        try:
            fault = self._fault()
        except Exception as error:  # the library's own classes have no common base
            raise NotBatchable(f"{self._layout.path.name}: cannot be run in batches: {error}") from error
        if fault is not None:
            raise NotBatchable(f"{self._layout.path.name}: {fault}")

    def _fault(self) -> str | None:
        tokens = [token % self._vocabulary for token in (1, 2, 3)]
        whole = self.compute(0, tokens, 0).copy()
        if not np.isfinite(whole).all():
            return "its logits are not finite"
        for row in (0, 1):
            self.compute(row, tokens[:2], 0)
        difference = np.abs(self.decode(tokens[2:] * 2, [3, 3]) - whole).max()
        for row in (0, 1):
            self.memory.leave(row, 3)
        if difference > _TOLERANCE * np.ptp(whole):
            return "tokens that are computed one by one, in two rows, do not give the logits of the whole"
        return None
