"""JSON text to plain values and back, stricter than the standard library's defaults.

Knows: which JSON is refused before anyone looks at its meaning: other encodings than UTF-8, a byte order
mark, numbers that are not finite or absurdly long, doubled keys, lone surrogates, deep nesting.
Refuses to know: classes and fields (that is `codec.py`).

Every refusal is a `ContentError` that carries the JSON path of the offending value, since the path becomes
the `param` of an OpenAI error object. The checks cost little on good input: what is wrong is located by a
second, slower pass that only bad input pays for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from attrs import frozen

__all__ = ["MAX_DEPTH", "MAX_DIGITS", "ContentError", "dump_json", "load_json", "replace_member", "show"]

MAX_DEPTH: Final = 100
"""Deepest nesting of arrays and objects; a JSON Schema within a tool definition reaches about 40."""

MAX_DIGITS: Final = 400
"""Longest integer literal; the largest finite double has 309 digits."""


class ContentError(ValueError):
    """A value that the protocol does not allow, and where it stands.

    Args:
        message: What was expected, and what came.
        path: Keys and indexes from the body's root; empty for the body itself.
    """

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.path = path

    def under(self, key: str | int) -> ContentError:
        """The same error, seen from one level further out.

        Args:
            key: The property, or the index from 0, at which the value stands there.
        """
        return ContentError(self.message, (key, *self.path))

    @property
    def param(self) -> str | None:
        """The path as OpenAI writes it, `messages[0].content`; `None` for the body itself."""
        text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.path)
        return text.removeprefix(".")[:200] or None

    def __str__(self) -> str:
        return f"{self.param or 'body'}: {self.message}"


@frozen
class _Refused:
    """Stands in the parsed tree where the text held something unacceptable."""

    message: str


class _RefusedLiteral(Exception):
    """Ends the quick pass: the slow one will find where."""


def show(value: object) -> str:
    """Name a JSON value in an error message, briefly, whatever its size."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(
                value if len(value) <= 40 else value[:40] + "…", ensure_ascii=not value.isprintable()
            )
        case int() | float():
            return repr(value)[:40]
        case list() | tuple():
            return "an array"
        case _:
            return "an object"


def _digits(literal: str) -> int:
    return len(literal) - literal.startswith("-")


def _integer(literal: str) -> int:
    if _digits(literal) > MAX_DIGITS:
        raise _RefusedLiteral
    return int(literal)


def _number(literal: str) -> float:
    if not math.isfinite(number := float(literal)):
        raise _RefusedLiteral
    return number


def _constant(_: str) -> object:
    raise _RefusedLiteral


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _RefusedLiteral
    return value


def _mark_integer(literal: str) -> object:
    if (digits := _digits(literal)) > MAX_DIGITS:
        return _Refused(f"expected at most {MAX_DIGITS} digits, got {digits}")
    return int(literal)


def _mark_number(literal: str) -> object:
    number = float(literal)
    return number if math.isfinite(number) else _mark_constant(literal)


def _mark_constant(literal: str) -> _Refused:
    return _Refused(f"expected a finite number, got {literal[:40]}")


def _mark_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value: dict[str, object] = {}
    for key, item in pairs:
        value[key] = _Refused("expected this key once, got it twice") if key in value else item
    return value


_quick = json.JSONDecoder(
    parse_int=_integer, parse_float=_number, parse_constant=_constant, object_pairs_hook=_object
)
_slow = json.JSONDecoder(
    parse_int=_mark_integer,
    parse_float=_mark_number,
    parse_constant=_mark_constant,
    object_pairs_hook=_mark_object,
)

# An unterminated string runs to the end: tried again from each quote inside it, it would be quadratic.
_STRING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)).difference(b"[]{}"))
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def _nests_deeper(text: str, most: int) -> bool:
    """Whether arrays and objects nest deeper, brackets within strings left out."""
    if text.count("[") + text.count("{") <= most:
        return False
    brackets = _STRING.sub("", text).encode().translate(None, delete=_NO_BRACKETS)
    return any(depth > most for depth in accumulate(map(_STEP.__getitem__, brackets)))


def _walk(root: object) -> Iterator[tuple[list[str | int], object]]:
    """All values of a tree in the text's order, each key before its value.

    The path is one list that changes as the walk goes on: each step costs the same, however deep it stands.
    """
    path: list[str | int] = []
    yield path, root
    levels = [_children(root)]
    while levels:
        for key, item in levels[-1]:
            path[len(levels) - 1 :] = [key]
            if isinstance(key, str):
                yield path, key
            yield path, item
            if isinstance(item, dict | list):
                levels.append(_children(item))
                break
        else:
            levels.pop()


def _children(value: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(value, dict):
        return iter(value.items())
    return iter(enumerate(value)) if isinstance(value, list) else iter(())


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(path: Iterable[str | int]) -> tuple[str | int, ...]:
    """The path as it can be written; a lone surrogate in a key shows as a question mark."""
    return tuple(key if isinstance(key, int) else key.encode("utf-8", "replace").decode() for key in path)


def load_json(data: bytes | bytearray, *, depth: int = MAX_DEPTH) -> object:
    """Parse a whole JSON text.

    Args:
        data: The text's bytes, UTF-8 without a byte order mark (RFC 8259, section 8.1).
        depth: The most levels of nesting, at most `MAX_DEPTH`.

    Returns:
        `dict`, `list`, `str`, `int`, `float`, `bool` and `None`; no other types.

    Raises:
        ContentError: Naming where the text is broken or which value is unacceptable.
    """
    if not data or data.isspace():
        raise ContentError("expected a JSON value, got nothing")
    if data.startswith(b"\xef\xbb\xbf"):
        raise ContentError("expected UTF-8 without a byte order mark")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ContentError(f"expected UTF-8, got an invalid byte at offset {error.start}") from None
    if _nests_deeper(text, depth):
        raise ContentError(f"expected at most {depth} levels of nesting, got more")
    try:
        value: object = _quick.decode(text)
    except _RefusedLiteral:
        raise _locate(text) from None
    except json.JSONDecodeError as error:
        raise _broken(error) from None
    if _SURROGATE.search(text):
        for path, item in _walk(value):
            if isinstance(item, str) and not _is_unicode(item):
                raise ContentError("expected Unicode text, got a lone surrogate", _printable(path))
    return value


def _locate(text: str) -> ContentError:
    """Say where the slow pass finds what the quick one stumbled over."""
    try:
        tree: object = _slow.decode(text)
    except json.JSONDecodeError as error:
        return _broken(error)
    refused = ((item.message, _printable(path)) for path, item in _walk(tree) if isinstance(item, _Refused))
    return ContentError(*next(refused))


def _broken(error: json.JSONDecodeError) -> ContentError:
    what = error.msg[0].lower() + error.msg[1:].rstrip(": ").removesuffix(" at").removesuffix(" starting")
    return ContentError(
        f"expected JSON, got a syntax error at line {error.lineno}, column {error.colno}: {what}"
    )


def dump_json(value: object) -> bytes:
    """Write plain values as compact UTF-8 JSON.

    Raises:
        ValueError: For a number that is not finite, or a lone surrogate (`UnicodeEncodeError`).
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


_MEMBER: Final = re.compile(r'[\s{,]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*+:\s*+', re.DOTALL)
"""A key with all before it that no value is part of, and all up to its value."""


def replace_member(data: bytes, key: str, value: object) -> bytes:
    """Change one member of an object's JSON text, and not a byte of the others.

    Args:
        data: The text of an object, as `load_json` accepts it.
        key: Which member.
        value: What it is now, as plain values.

    Raises:
        KeyError: The object has no such member.
        ValueError: As from `dump_json`.
    """
    text = data.decode()
    end = 0
    while member := _MEMBER.match(text, end):
        _, end = _quick.raw_decode(text, member.end())
        if json.loads(member[1]) == key:
            return text[: member.end()].encode() + dump_json(value) + text[end:].encode()
    raise KeyError(key)
