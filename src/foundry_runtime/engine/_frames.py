"""Messages as frames: how an engine's process and its owner's write and read what they say to each other.

Knows: that a frame is a length, a kind and a body; that a message's fields follow one another as its class
lists them; how large a frame may be.
Refuses to know: pipes, processes, engines, and when which message may come.

Choice: no pickle, though both ends are ours: what reads it does whatever a broken child writes, and two
releases could not even tell each other that they are two. No JSON: a job that is to be refused may hold a
number that JSON has no word for, and half of each token would be names. A token takes eighteen bytes here.

All numbers are little-endian; integers have 64 bits, a length 32, a flag and a kind 8. Texts are UTF-8.
"""

from __future__ import annotations

import struct
import sys
import typing
from array import array
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any, BinaryIO, Final, TypeVar

import attrs
from attrs import define, frozen

from foundry_runtime.engine._messages import Message

__all__ = ["FrameError", "read_message", "write_message"]


MOST_BYTES: Final = 256 * 1024 * 1024
"""In one frame: sixteen times the longest prompt that anybody has a model for."""


class FrameError(Exception):
    """What came is no message: the other side is broken, or is not what it should be."""


@define
class _Source:
    """A frame's body, read from the front."""

    data: bytes
    at: int = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise FrameError(f"expected {count} more bytes in a frame, got {len(self.data) - self.at}")
        self.at, begin = end, self.at
        return self.data[begin:end]

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.take(form.size))[0]


@frozen
class _Form:
    """How values of one type are written and read."""

    write: Callable[[bytearray, Any], object]
    read: Callable[[_Source], Any]


_LENGTH: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<IB")


def _number(code: str) -> _Form:
    form = struct.Struct(f"<{code}")
    return _Form(lambda out, value: out.extend(form.pack(value)), lambda source: source.number(form))


_INTEGER: Final = _number("q")
_FLAG: Final = _number("?")
_KIND: Final = _number("B")


def _write_bytes(out: bytearray, value: bytes) -> None:
    out += _LENGTH.pack(len(value))
    out += value


def _read_bytes(source: _Source) -> bytes:
    return source.take(source.number(_LENGTH))


def _read_text(source: _Source) -> str:
    try:
        return _read_bytes(source).decode()
    except UnicodeDecodeError as error:
        raise FrameError(f"a text is no UTF-8: {error}") from error


_TEXT: Final = _Form(lambda out, value: _write_bytes(out, value.encode(errors="replace")), _read_text)


def _numbers(code: str) -> _Form:
    """Many numbers, as one block of memory."""

    def write(out: bytearray, value: Sequence[int] | Sequence[float]) -> None:
        block = array(code, value)
        _swap(block)
        _write_bytes(out, block.tobytes())

    def read(source: _Source) -> tuple[int, ...] | tuple[float, ...]:
        block, data = array(code), _read_bytes(source)
        if len(data) % block.itemsize:
            raise FrameError(f"expected whole numbers of {block.itemsize} bytes, got {len(data)} bytes")
        block.frombytes(data)
        _swap(block)
        return tuple(block)

    return _Form(write, read)


def _swap(block: array[Any]) -> None:
    if sys.byteorder == "big":
        block.byteswap()


def _optional(form: _Form) -> _Form:
    def write(out: bytearray, value: object) -> None:
        _FLAG.write(out, value is not None)
        if value is not None:
            form.write(out, value)

    return _Form(write, lambda source: form.read(source) if _FLAG.read(source) else None)


def _list_of(kinds: Sequence[type[Any]]) -> _Form:
    forms = [_message(kind) for kind in kinds]
    numbers = {kind: number for number, kind in enumerate(kinds)}

    def write(out: bytearray, values: Sequence[object]) -> None:
        out += _LENGTH.pack(len(values))
        for value in values:
            number = numbers[type(value)]
            _KIND.write(out, number)
            forms[number].write(out, value)

    def read(source: _Source) -> tuple[object, ...]:
        return tuple([_pick(forms, source).read(source) for _ in range(source.number(_LENGTH))])

    return _Form(write, read)


def _pick(forms: Sequence[_Form], source: _Source) -> _Form:
    number: int = _KIND.read(source)
    if number >= len(forms):
        raise FrameError(f"expected a kind below {len(forms)}, got {number}")
    return forms[number]


def _message(kind: type[Any]) -> _Form:
    """The fields of a class, one after the other."""
    hints = typing.get_type_hints(kind)
    fields = [(one.name, _form_of(hints[one.name])) for one in attrs.fields(kind)]

    def write(out: bytearray, value: object) -> None:
        for name, form in fields:
            form.write(out, getattr(value, name))

    def read(source: _Source) -> object:
        return kind(*[form.read(source) for _, form in fields])

    return _Form(write, read)


_PLAIN: Final[Mapping[object, _Form]] = {
    int: _INTEGER,
    float: _number("d"),
    bool: _FLAG,
    str: _TEXT,
    bytes: _Form(_write_bytes, _read_bytes),
    tuple[int, ...]: _numbers("q"),
    tuple[float, ...]: _numbers("d"),
}


def _form_of(hint: Any) -> _Form:
    """How a field of this type is written."""
    if (plain := _PLAIN.get(hint)) is not None:
        return plain
    arguments = typing.get_args(hint)
    if NoneType in arguments:
        (value,) = (one for one in arguments if one is not NoneType)
        return _optional(_form_of(value))
    if arguments:  # a tuple of several kinds of message
        return _list_of(typing.get_args(arguments[0]))
    return _message(hint)


_KINDS: Final[Sequence[type[Any]]] = typing.get_args(Message)
_FORMS: Final = [_message(kind) for kind in _KINDS]
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}

T = TypeVar("T")


def write_message(file: BinaryIO, message: Message) -> None:
    """Write a message as one frame, and have it leave.

    Raises:
        OSError: Nobody reads.
        OverflowError: A number does not fit.
    """
    number = _NUMBERS[type(message)]
    frame = bytearray(_HEAD.size)
    _FORMS[number].write(frame, message)
    _HEAD.pack_into(frame, 0, len(frame) - _HEAD.size, number)
    view = memoryview(frame)
    while view:
        view = view[file.write(view) :]
    file.flush()


def read_message(file: BinaryIO) -> Message | None:
    """Read the next message; `None` at the end, where the last frame may be cut.

    Raises:
        FrameError: What came is none.
        OSError: The pipe is broken.
    """
    head = _read(file, _HEAD.size)
    if head is None:
        return None
    length, number = _HEAD.unpack(head)
    if length > MOST_BYTES:
        raise FrameError(f"expected a frame of at most {MOST_BYTES} bytes, got one of {length}")
    if number >= len(_FORMS):
        raise FrameError(f"expected a message's kind below {len(_FORMS)}, got {number}")
    body = _read(file, length)
    if body is None:
        return None
    source = _Source(body)
    message: Message = _FORMS[number].read(source)
    if source.at != length:
        raise FrameError(f"expected the end of {_KINDS[number].__name__}, got {length - source.at} bytes")
    return message


def _read(file: BinaryIO, count: int) -> bytes | None:
    data = file.read(count)
    return data if len(data) == count else None
