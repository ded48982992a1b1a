"""A GGUF file: its header, read and checked in full, and its tensors, read in pieces as float32.

Knows: the container (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3, little
endian, and that every length in it is a stranger's claim, to be compared with the bytes that are left.
The `gguf` package gives the table of tensor types and undoes their quantisation. Its reader is not used:
every refusal here has to name the field, and it spends two seconds on an array view for each token.
Refuses to know: what any field or tensor is for.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import gguf
import numpy as np
import numpy.typing as npt
from attrs import frozen

from foundry_runtime.importers.errors import UnsupportedModel

__all__ = ["FloatArray", "GgufFile", "Metadata", "Tensor"]

FloatArray = npt.NDArray[np.float32]
"""Weights as they are computed with; a matrix is (output features, input features)."""

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_MAX_DIMENSIONS: Final = 4
_DEFAULT_ALIGNMENT: Final = 32

# Value types of the header, by number: the scalar ones with their little-endian layout.
_SCALARS: Final[Mapping[int, np.dtype[np.generic]]] = {
    0: np.dtype("u1"),
    1: np.dtype("i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("?"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
_STRING: Final = 8
_ARRAY: Final = 9

_Value = bool | int | float | bytes | list[bytes] | npt.NDArray[np.generic]


class Metadata:
    """The header's fields by name; each getter refuses, by the field's name, what is not of its kind.

    Strings stay bytes until someone asks: a broken one in a field that nobody needs stops no import.
    """

    def __init__(self, fields: Mapping[str, _Value]) -> None:
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def names(self) -> list[str]:
        """All field names, in the file's order."""
        return list(self._fields)

    def string(self, name: str, default: str | None = None) -> str:
        """The string of this name; without a default, a missing one is refused."""
        value = self._get(name, default)
        if isinstance(value, str):
            return value
        if not isinstance(value, bytes):
            raise _wrong(name, "a string", value)
        return _decode(name, value)

    def integer(
        self, name: str, default: int | None = None, *, minimum: int = 0, maximum: int = 2**31 - 1
    ) -> int:
        """The whole number of this name, within the bounds."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(name, "a whole number", value)
        if not minimum <= value <= maximum:
            raise UnsupportedModel(f"{name}: expected a number from {minimum} to {maximum}, got {value}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """The finite number of this name."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(name, "a number", value)
        if not np.isfinite(value):
            raise UnsupportedModel(f"{name}: expected a finite number, got {value}")
        return float(value)

    def boolean(self, name: str, default: bool | None = None) -> bool:
        """The truth value of this name."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise _wrong(name, "true or false", value)
        return value

    def strings(self, name: str) -> list[str]:
        """The array of strings of this name."""
        value = self._get(name, None)
        if not isinstance(value, list):
            raise _wrong(name, "an array of strings", value)
        return [_decode(f"{name}[{index}]", item) for index, item in enumerate(value)]

    def numbers(self, name: str) -> npt.NDArray[np.generic]:
        """The array of numbers of this name, in the file's own number type."""
        value = self._get(name, None)
        if not isinstance(value, np.ndarray):
            raise _wrong(name, "an array of numbers", value)
        return value

    def _get(self, name: str, default: str | float | None) -> _Value | str:
        value = self._fields.get(name, default)
        if value is None:
            raise UnsupportedModel(f"{name}: the file has no such field")
        return value


@frozen(kw_only=True)
class Tensor:
    """One entry of the file's tensor list."""

    name: str
    shape: tuple[int, ...]
    """Rows first, as numpy counts; the file itself writes the row length first."""
    type: gguf.GGMLQuantizationType
    offset: int
    """In bytes, from the beginning of the file."""

    @property
    def row_bytes(self) -> int:
        """The size of one row (the last dimension) in the file."""
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return self.shape[-1] // block * size

    @property
    def n_rows(self) -> int:
        """How many rows there are, over all leading dimensions."""
        return math.prod(self.shape[:-1])


class GgufFile:
    """An open GGUF file; a context manager.

    Raises:
        UnsupportedModel: It is no GGUF file, is cut short, or its header contradicts itself.
        OSError: It cannot be read.
    """

    metadata: Metadata
    tensors: Mapping[str, Tensor]

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self.metadata, self.tensors = _read_header(self._file)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def rows(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> FloatArray:
        """Read and dequantise some rows of a tensor.

        Args:
            tensor: One of `tensors`.
            start: The first row.
            stop: The row after the last one; all rows when left out.

        Returns:
            float32 of shape (stop - start, row length); the caller's own copy.
        """
        count = (tensor.n_rows if stop is None else stop) - start
        self._file.seek(tensor.offset + start * tensor.row_bytes)
        raw = np.empty((count, tensor.row_bytes), dtype=np.uint8)
        got = self._file.readinto(raw.data.cast("B"))
        if got != raw.nbytes:
            raise UnsupportedModel(f"tensor {tensor.name}: the file ended while it was read")
        # Dequantising overflows in float16 arithmetic where weights do; what came out is checked later.
        with np.errstate(all="ignore"):
            values = gguf.dequantize(raw, tensor.type)
        return values.reshape(count, tensor.shape[-1]).astype(np.float32, copy=False)


class _Cursor:
    """The header's bytes, handed out in order; never more than there are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)
        self.offset = 0
        file.seek(0)

    def take(self, count: int) -> bytes:
        if count > self.size - self.offset:
            raise UnsupportedModel(
                f"the file is cut short: its header needs {count} more bytes at byte {self.offset},"
                f" and the file ends at byte {self.size}"
            )
        self.offset += count
        return self._file.read(count)

    def uint32(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def uint64(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def string(self) -> bytes:
        return self.take(self.uint64())


def _read_header(file: BinaryIO) -> tuple[Metadata, dict[str, Tensor]]:
    cursor = _Cursor(file)
    magic = file.read(4)
    if magic != _MAGIC:
        raise UnsupportedModel(f"not a GGUF file: it begins with {magic!r}, not with {_MAGIC!r}")
    cursor.offset = 4
    version = cursor.uint32()
    if version not in _VERSIONS:
        if int.from_bytes(version.to_bytes(4, "big"), "little") in _VERSIONS:
            raise UnsupportedModel("a big-endian GGUF file is not supported")
        raise UnsupportedModel(f"GGUF version {version} is not supported: expected 2 or 3")
    n_tensors, n_fields = cursor.uint64(), cursor.uint64()

    fields: dict[str, _Value] = {}
    for _ in range(n_fields):
        name = _decode("a field's name", cursor.string())
        if name in fields:
            raise UnsupportedModel(f"{name}: the field stands in the file twice")
        fields[name] = _read_value(cursor, name, cursor.uint32())
    metadata = Metadata(fields)

    entries = [_read_tensor_entry(cursor) for _ in range(n_tensors)]
    alignment = metadata.integer("general.alignment", _DEFAULT_ALIGNMENT, minimum=1)
    data_start = -(-cursor.offset // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for name, shape, type_number, offset in entries:
        if name in tensors:
            raise UnsupportedModel(f"tensor {name}: stands in the file twice")
        tensors[name] = _checked_tensor(name, shape, type_number, data_start + offset, cursor.size)
    return metadata, tensors


def _read_value(cursor: _Cursor, name: str, kind: int) -> _Value:
    if kind == _STRING:
        return cursor.string()
    if kind == _ARRAY:
        return _read_array(cursor, name, cursor.uint32(), cursor.uint64())
    if kind not in _SCALARS:
        raise UnsupportedModel(f"{name}: unknown value type {kind}")
    layout = _SCALARS[kind]
    value: bool | int | float = np.frombuffer(cursor.take(layout.itemsize), layout)[0].item()
    return value


def _read_array(cursor: _Cursor, name: str, kind: int, count: int) -> _Value:
    if kind == _STRING:
        return [cursor.string() for _ in range(count)]
    if kind not in _SCALARS:
        raise UnsupportedModel(f"{name}: arrays of value type {kind} are not supported")
    layout = _SCALARS[kind]
    return np.frombuffer(cursor.take(count * layout.itemsize), layout)


def _read_tensor_entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = _decode("a tensor's name", cursor.string())
    n_dimensions = cursor.uint32()
    if not 1 <= n_dimensions <= _MAX_DIMENSIONS:
        raise UnsupportedModel(
            f"tensor {name}: expected 1 to {_MAX_DIMENSIONS} dimensions, got {n_dimensions}"
        )
    shape = tuple(cursor.uint64() for _ in range(n_dimensions))[::-1]
    if 0 in shape:
        raise UnsupportedModel(f"tensor {name}: has no values")
    return name, shape, cursor.uint32(), cursor.uint64()


def _checked_tensor(name: str, shape: tuple[int, ...], type_number: int, offset: int, size: int) -> Tensor:
    try:
        kind = gguf.GGMLQuantizationType(type_number)
    except ValueError:
        raise UnsupportedModel(f"tensor {name}: unknown tensor type {type_number}") from None
    if not _can_dequantise(kind):
        raise UnsupportedModel(f"tensor {name}: the tensor type {kind.name} is not supported")
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if shape[-1] % block:
        raise UnsupportedModel(
            f"tensor {name}: a row of {shape[-1]} values does not divide into {kind.name}'s blocks of {block}"
        )
    # Python's whole numbers: a hostile shape overflows nothing.
    end = offset + math.prod(shape) // block * block_bytes
    if end > size:
        raise UnsupportedModel(
            f"the file is cut short: tensor {name} ends at byte {end}, and the file at byte {size}"
        )
    return Tensor(name=name, shape=shape, type=kind, offset=offset)


@functools.cache
def _can_dequantise(kind: gguf.GGMLQuantizationType) -> bool:
    """Whether the `gguf` package knows the type: asked by trying one block, as it keeps no public list."""
    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    try:
        with np.errstate(all="ignore"):
            gguf.dequantize(np.zeros((1, block_bytes), dtype=np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _decode(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UnsupportedModel(f"{name}: expected UTF-8, got {value[:40]!r}") from None


def _wrong(name: str, expected: str, value: object) -> UnsupportedModel:
    if isinstance(value, np.ndarray | list):
        return UnsupportedModel(f"{name}: expected {expected}, got an array of {len(value)}")
    shown = value.decode(errors="replace") if isinstance(value, bytes) else value
    return UnsupportedModel(f"{name}: expected {expected}, got {shown!r:.60}")
