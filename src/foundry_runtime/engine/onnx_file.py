"""What an ONNX file says of its graph, read without loading a model.

Knows: protobuf's framing, and in which of ONNX's fields the names of a graph's outputs stand.
Refuses to know: nodes and weights, which are passed over unread.

Source: protobuf's encoding guide; `onnx.proto`: `ModelProto.graph` is field 7, `GraphProto.output` field 12
and `ValueInfoProto.name` field 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["output_names"]

_GRAPH: Final = 7
_OUTPUT: Final = 12
_NAME: Final = 1

_VARINT: Final = 0
_LENGTH: Final = 2
_FIXED: Final = {1: 8, 5: 4}
"""The other kinds of field, and how many bytes they have."""

_Span = tuple[int, int]
"""Where a message lies in the file: its first byte, and the byte behind its last."""


def output_names(path: Path) -> tuple[str, ...]:
    """The names of a graph's outputs, in their order.

    Reads the framing alone, which takes milliseconds for a large graph, and remembers what it found for as
    long as the file stays as it is.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no ONNX file.
    """
    status = path.stat()
    return _output_names(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _output_names(path: Path, changed: int, size: int) -> tuple[str, ...]:  # noqa: ARG001 - part of the key
    with path.open("rb") as file:
        names: list[_Span] = [(0, size)]
        for field in (_GRAPH, _OUTPUT, _NAME):
            names = [span for message in names for number, span in _fields(file, message) if number == field]
        return tuple(_text(file, span) for span in names)


def _fields(file: BinaryIO, message: _Span) -> Iterator[tuple[int, _Span]]:
    """The fields of a message that have a length, by number."""
    at, end = message
    while at < end:
        file.seek(at)
        number, kind = divmod(_varint(file), 8)
        if kind == _LENGTH:
            length = _varint(file)
            at = file.tell() + length
            if at <= end:
                yield number, (at - length, at)
        elif kind == _VARINT:
            _varint(file)
            at = file.tell()
        elif kind in _FIXED:
            at = file.tell() + _FIXED[kind]
        else:
            raise ValueError(f"expected an ONNX file, got a field of the unknown kind {kind}")
    if at > end:
        raise ValueError("expected an ONNX file, got a field that is longer than what it is part of")


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        (byte,) = file.read(1) or b"\x80"
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise ValueError("expected an ONNX file, got a number without an end")


def _text(file: BinaryIO, span: _Span) -> str:
    begin, end = span
    file.seek(begin)
    return file.read(end - begin).decode()
