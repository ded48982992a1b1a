"""Weights on their way from the GGUF file into the model's data file, a few rows at a time.

Knows: the order of rows that the graph needs, the blocks of 8-bit numbers that `MatMulNBits` and
`GatherBlockQuantized` read, and ONNX's external data. Holds a few megabytes of one tensor in float32, never
a whole model. Refuses to know: which operator reads what.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Self

import numpy as np
import numpy.typing as npt
import onnx
from attrs import frozen

from foundry_runtime.importers._reader import FloatArray, GgufFile, Tensor
from foundry_runtime.importers.errors import UnsupportedModel

__all__ = ["BLOCK_SIZE", "DataFile", "Rows", "half_split", "iter_rows", "quantise"]

BLOCK_SIZE: Final = 32
"""How many weights of a row share one scale."""

_ZERO_POINT: Final = 128
_LARGEST: Final = 127

# About 8 MB of float32 at a time: small beside the model, large beside numpy's cost per call.
_CHUNK_VALUES: Final = 2**21

# What onnxruntime maps from the data file, it maps by whole pages.
_ALIGNMENT: Final = 4096


@frozen(kw_only=True)
class Rows:
    """Rows of one tensor as the graph needs them."""

    tensor: Tensor
    rotary_head_size: int | None = None
    """Set for queries and keys: their rows lie in the order of GGUF's rotary embedding, head by head."""


def half_split(rows: FloatArray, head_size: int) -> FloatArray:
    """Put a head's rows into the order that onnxruntime rotates: first halves of all pairs, then second ones.

    GGUF keeps the two rows that are rotated together side by side: the converter permuted them so.

    Args:
        rows: Whole heads, of shape (heads * head_size, n).
        head_size: Rows per head.

    Returns:
        The same rows, reordered within each head.
    """
    heads = rows.reshape(-1, head_size // 2, 2, rows.shape[-1])
    return heads.transpose(0, 2, 1, 3).reshape(rows.shape)


def iter_rows(file: GgufFile, parts: Sequence[Rows]) -> Iterator[FloatArray]:
    """Yield the rows of all parts, in order, in pieces of a few megabytes.

    Raises:
        UnsupportedModel: A weight is not a finite number.
    """
    for part in parts:
        tensor = part.tensor
        unit = part.rotary_head_size or 1
        step = max(1, _CHUNK_VALUES // (tensor.shape[-1] * unit)) * unit
        for start in range(0, tensor.n_rows, step):
            rows = file.rows(tensor, start, min(start + step, tensor.n_rows))
            if not np.isfinite(rows).all():
                raise UnsupportedModel(f"tensor {tensor.name}: not all of its weights are finite numbers")
            yield rows if part.rotary_head_size is None else half_split(rows, part.rotary_head_size)


def quantise(rows: FloatArray) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """Round each block of a row to 8-bit numbers around 128, times one scale.

    A block's largest weight becomes 127 steps: weights that were so quantised before (GGUF's Q8_0) keep
    their numbers exactly.

    Args:
        rows: float32 of shape (n, k), k a multiple of `BLOCK_SIZE`.

    Returns:
        The numbers, of shape (n, k / BLOCK_SIZE, BLOCK_SIZE), and the scales, of shape (n, k / BLOCK_SIZE).
    """
    blocks = rows.reshape(rows.shape[0], -1, BLOCK_SIZE)
    scales = np.maximum(blocks.max(axis=2), -blocks.min(axis=2)) / np.float32(_LARGEST)
    # A block so near to zero that dividing by its scale would overflow becomes zero.
    steps = np.divide(1, scales, out=np.zeros_like(scales), where=scales >= np.finfo(np.float32).tiny)
    numbers = blocks * steps[:, :, None]
    np.rint(numbers, out=numbers)
    numbers += _ZERO_POINT
    return numbers.astype(np.uint8), scales


class DataFile:
    """The file beside `model.onnx` that holds its weights, written in one pass.

    Args:
        path: Where to create it; a context manager that closes it.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._file: BinaryIO = path.open("xb")
        self._offset = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(
        self, name: str, shape: Sequence[int], pieces: Iterable[npt.NDArray[np.generic]]
    ) -> onnx.TensorProto:
        """Append a tensor, piece by piece.

        Args:
            name: The name of the graph's initializer.
            shape: The whole tensor's shape.
            pieces: Its values in order, all of one type; together as many as the shape says.

        Returns:
            The initializer, which points into this file.
        """
        padding = -self._offset % _ALIGNMENT
        self._file.write(bytes(padding))
        start = self._offset + padding
        length = 0
        kind: int = onnx.TensorProto.UNDEFINED
        for piece in pieces:
            kind = onnx.helper.np_dtype_to_tensor_dtype(piece.dtype)
            length += self._file.write(np.ascontiguousarray(piece).data.cast("B"))
        self._offset = start + length
        proto = onnx.TensorProto(
            name=name,
            dims=shape,
            data_type=kind,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for key, value in (("location", self._name), ("offset", str(start)), ("length", str(length))):
            proto.external_data.add(key=key, value=value)
        return proto

    @staticmethod
    def alias(proto: onnx.TensorProto, name: str, shape: Sequence[int]) -> onnx.TensorProto:
        """The same bytes of the file under another name and shape, so that two operators can share them."""
        twin = onnx.TensorProto()
        twin.CopyFrom(proto)
        twin.name = name
        del twin.dims[:]
        twin.dims.extend(shape)
        return twin
