"""Weights lose no more than half a step when they become 8-bit numbers, and rows keep their order."""

from __future__ import annotations

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from foundry_runtime.importers._weights import BLOCK_SIZE, half_split, quantise

FloatArray = npt.NDArray[np.float32]

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.sampled_from([BLOCK_SIZE, 3 * BLOCK_SIZE])),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


def dequantised(rows: FloatArray) -> FloatArray:
    numbers, scales = quantise(rows)
    values: FloatArray = (numbers.astype(np.float32) - 128) * scales[:, :, None]
    return values.reshape(rows.shape)


@settings(deadline=None)
@given(MATRICES)
def test_no_weight_moves_by_more_than_half_a_step(rows: FloatArray) -> None:
    numbers, scales = quantise(rows)
    assert numbers.shape == (len(rows), rows.shape[1] // BLOCK_SIZE, BLOCK_SIZE)
    assert scales.shape == numbers.shape[:2]
    steps = np.repeat(scales, BLOCK_SIZE, axis=1)
    smallest = 128 * np.finfo(np.float32).tiny
    assert (np.abs(dequantised(rows) - rows) <= np.maximum(steps * 0.5001, smallest)).all()


def test_a_block_of_zeros_stays_zero() -> None:
    assert not dequantised(np.zeros((1, BLOCK_SIZE), dtype=np.float32)).any()


def test_the_largest_weight_stays_exact_on_either_side() -> None:
    rows = np.linspace(-1, 0.5, BLOCK_SIZE, dtype=np.float32)[None]
    for sign in (1, -1):
        assert np.isclose(dequantised(sign * rows)[0, 0], -sign, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_weights_of_q8_0_keep_their_numbers(scale: float) -> None:
    original = np.random.default_rng(0).normal(0, scale, (64, 8 * BLOCK_SIZE)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    rows = gguf.dequantize(gguf.quantize(original, kind), kind)
    np.testing.assert_allclose(dequantised(rows), rows, rtol=1e-6)


def test_half_split_parts_the_pairs_of_each_head() -> None:
    rows = np.arange(12, dtype=np.float32)[:, None]
    assert half_split(rows, 6)[:, 0].tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
