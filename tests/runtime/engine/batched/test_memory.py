"""Rows and slots: what is copied arrives, and what is left costs nothing."""

from __future__ import annotations

import ctypes
import sys
from mmap import PAGESIZE
from pathlib import Path

import numpy as np
import pytest

from foundry_runtime.engine.batched.layout import Layout
from foundry_runtime.engine.batched.memory import WARM_IDLE, RowMemory, SlotMemory


@pytest.fixture
def layout() -> Layout:
    """As large as a small model's: 8 KB a token."""
    names = tuple((f"{layer}.key", f"{layer}.value") for layer in range(8))
    return Layout(
        path=Path("model.onnx"),
        layers=8,
        kv_heads=2,
        head_size=64,
        input_ids="ids",
        attention_mask="mask",
        logits="logits",
        past=names,
        present=names,
    )


def resident(*memories: RowMemory | SlotMemory) -> int:
    """Bytes of these alone that are in memory, whatever else the process takes and frees."""
    mincore = ctypes.CDLL(None, use_errno=True).mincore
    mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    pages = 0
    for memory in memories:
        array = memory._array
        found = np.zeros(-(-array.nbytes // PAGESIZE), dtype=np.uint8)
        assert mincore(array.ctypes.data, array.nbytes, found.ctypes.data) == 0
        pages += int((found & 1).sum())
    return pages * PAGESIZE


def fill(memory: RowMemory, row: int, tokens: int) -> np.ndarray:
    values = np.random.default_rng(row).random(memory.tokens(row, 0, tokens).shape, dtype=np.float32)
    memory.tokens(row, 0, tokens)[:] = values
    return values


def test_a_row_moves_with_its_tokens(layout: Layout) -> None:
    memory = RowMemory(layout, 3, 100)
    values, other = fill(memory, 0, 70), fill(memory, 1, 50)
    memory.move(0, 2, 70)
    assert (memory.tokens(2, 0, 70) == values).all()
    assert (memory.tokens(1, 0, 50) == other).all()
    del values
    memory.close()


def test_a_block_is_copied_to_a_slot_and_back(layout: Layout) -> None:
    memory, slots = RowMemory(layout, 2, 64), SlotMemory(layout, 3, 16)
    values = fill(memory, 0, 64)
    slots[2][:] = memory.tokens(0, 16, 32)
    memory.tokens(1, 0, 16)[:] = slots[2]
    assert (memory.tokens(1, 0, 16) == values[:, :, 16:32]).all()
    memory.close()
    slots.close()


def test_an_address_is_where_the_operator_finds_a_row_s_keys(layout: Layout) -> None:
    memory = RowMemory(layout, 3, 64)
    values = fill(memory, 1, 64)
    place = (ctypes.c_float * (2 * 64 * 64)).from_address(memory.address(5, 1))
    assert (np.ctypeslib.as_array(place).reshape(2, 64, 64) == values[5]).all()
    assert memory.shape(2) == [2, 2, 64, 64]
    del place
    memory.close()


def test_no_slots_take_no_memory(layout: Layout) -> None:
    slots = SlotMemory(layout, 0, 16)
    slots.leave_all()
    slots.close()


linux = pytest.mark.skipif(sys.platform != "linux", reason="where it can be asked which pages are in memory")


@linux
def test_memory_follows_the_tokens_and_not_the_rows(layout: Layout) -> None:
    memory = RowMemory(layout, 17, 128 * 1024)  # 17 GB of addresses
    slots = SlotMemory(layout, 4096, 16)
    assert resident(memory, slots) == 0
    for row in range(16):
        memory.tokens(row, 0, 256)[:] = 1.0
    used = 16 * 256 * layout.bytes_per_token
    assert resident(memory) == used
    memory.move(3, 16, 256)
    assert resident(memory) == used + 256 * layout.bytes_per_token  # what was left stays for the next one
    for row in range(17):
        memory.leave(row, 256)
    memory.shrink(range(17), 0)
    assert resident(memory) == 0
    for slot in range(64):
        slots[slot][:] = 1.0
    assert resident(slots) == 64 * 16 * layout.bytes_per_token
    slots.leave_all()
    assert resident(slots) == 0
    memory.close()
    slots.close()


@linux
def test_a_row_that_is_left_keeps_no_page_of_those_that_its_tokens_did_not_fill(layout: Layout) -> None:
    memory = RowMemory(layout, 17, 128 * 1024)
    for row in range(17):
        memory.tokens(row, 0, 17)[:] = 1.0  # a page and a sixteenth
    for row in range(17):
        memory.leave(row, 17)
    memory.shrink(range(17), 0)
    assert resident(memory) == 0
    memory.close()


@linux
def test_of_rows_that_were_left_some_memory_stays_and_of_rows_in_use_all(layout: Layout) -> None:
    memory = RowMemory(layout, 17, 128 * 1024)
    token = layout.bytes_per_token
    for row in range(17):
        memory.tokens(row, 0, 512)[:] = row
    for row in range(16):
        memory.leave(row, 512)
    assert resident(memory) == (4096 + 512) * token
    memory.shrink(range(16))
    assert resident(memory) == (WARM_IDLE + 512) * token
    # What stayed is known, also when the row had fewer tokens since.
    memory.leave(0, 16)
    memory.shrink(range(16), 0)
    assert resident(memory) == 512 * token
    assert (memory.tokens(16, 0, 512) == 16).all()
    memory.close()


def test_to_leave_a_row_spares_its_neighbours(layout: Layout) -> None:
    memory = RowMemory(layout, 3, 17)  # heads begin within pages
    values = [fill(memory, row, 17) for row in range(3)]
    memory.leave(1, 17)
    for row in (0, 2):
        assert (memory.tokens(row, 0, 17) == values[row]).all()
    memory.close()
