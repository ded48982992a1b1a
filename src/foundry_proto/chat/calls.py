"""What a model wrote between its tool-call markers, read as calls.

Knows: the forms in which models write calls: JSON objects and arrays, and names with arguments behind them.
Refuses to know: where the markers were, which functions there are, and whether arguments fit a schema.

All or nothing: a text that is not wholly calls is none. Arguments are always the JSON text of an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from attrs import frozen

from foundry_proto.jsontext import ContentError, dump_json, load_json

__all__ = [
    "DEEPSEEK_BEGIN",
    "DEEPSEEK_END",
    "DEEPSEEK_SEPARATOR",
    "Call",
    "CallStyle",
    "call_id",
    "read_calls",
]

CallStyle = Literal["json", "named", "deepseek"]
"""How calls are written: `json`, `{"name": …, "arguments": …}`, several in an array or one behind the other;
`named`, the same or `name[ARGS]{…}`; `deepseek`, its own inner markers around a name and JSON."""


@frozen(kw_only=True)
class Call:
    """A call of a function."""

    name: str
    arguments: str
    """The JSON text of an object."""


def read_calls(text: str, style: CallStyle) -> tuple[Call, ...]:
    """Read calls.

    Args:
        text: What stood between the markers.
        style: How it is written.

    Returns:
        The calls in their order; none when the text, or any part of it, is no call.
    """
    try:
        return tuple(_READERS[style](text))
    except _NoCallError:
        return ()


class _NoCallError(Exception):
    """The text is not what a call looks like."""


# Objects, arrays, and what may stand between them.

_STRING_OR_BRACKET: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_BETWEEN: Final = re.compile(r"[\s,;]*")


def _json_calls(text: str) -> Iterator[Call]:
    for value in _values(text):
        for item in value if isinstance(value, list) else (value,):
            yield _call(item)


def _values(text: str) -> Iterator[object]:
    """The JSON objects and arrays that a text consists of."""
    depth = start = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            if not depth:
                _nothing_but_separators(text, start, match.start())
                start = match.start()
            depth += 1
        elif match[0] in "]}":
            depth -= 1
            if not depth:
                yield _load(text[start : match.end()])
                start = match.end()
    _nothing_but_separators(text, start, len(text))


def _nothing_but_separators(text: str, start: int, end: int) -> None:
    if _BETWEEN.fullmatch(text, start, end) is None:
        raise _NoCallError


def _load(text: str) -> object:
    try:
        return load_json(text.encode("utf-8", "surrogatepass"))
    except ContentError:
        raise _NoCallError from None


def _call(value: object) -> Call:
    """`{"name": …, "arguments": …}`, also within `{"type": "function", "function": …}`."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        raise _NoCallError
    name = value.get("name")
    if not isinstance(name, str) or not name:
        raise _NoCallError
    return Call(name=name, arguments=_arguments(value.get("arguments", value.get("parameters"))))


def _arguments(value: object) -> str:
    if value is None:
        return "{}"
    # Some models write the arguments as JSON text within JSON.
    plain = _load(value) if isinstance(value, str) else value
    if not isinstance(plain, dict):
        raise _NoCallError
    return dump_json(plain).decode()


# Names with arguments behind them.

_NAME: Final = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\s*\w*\s*)?(?:\[ARGS\])?\s*(\{.*)", re.DOTALL)


def _named_calls(text: str) -> Iterator[Call]:
    named = _NAME.fullmatch(text)
    if named is None:
        yield from _json_calls(text)
        return
    yield _pair(named[1], named[2])


def _pair(name: str, arguments: str) -> Call:
    return Call(name=name, arguments=_arguments(_load(arguments)))


# Their bars are those of East Asian width.
DEEPSEEK_BEGIN: Final = "<\uff5ctool▁call▁begin\uff5c>"
DEEPSEEK_SEPARATOR: Final = "<\uff5ctool▁sep\uff5c>"
DEEPSEEK_END: Final = "<\uff5ctool▁call▁end\uff5c>"
_FENCED: Final = re.compile(r"\s*(?P<name>\S+)\s*```json\s(?P<arguments>.*)```\s*", re.DOTALL)


def _deepseek_calls(text: str) -> Iterator[Call]:
    before, *blocks = text.split(DEEPSEEK_BEGIN)
    if before.strip():
        raise _NoCallError
    for block in blocks:
        inside, _, rest = block.partition(DEEPSEEK_END)
        first, _, second = inside.partition(DEEPSEEK_SEPARATOR)
        if rest.strip():
            raise _NoCallError
        # Older models write `function`, then the name with fenced arguments; newer ones name and arguments.
        fenced = _FENCED.fullmatch(second)
        yield _pair(fenced["name"], fenced["arguments"]) if fenced else _pair(first.strip(), second)


_READERS: Final[Mapping[CallStyle, Callable[[str], Iterator[Call]]]] = {
    "json": _json_calls,
    "named": _named_calls,
    "deepseek": _deepseek_calls,
}


_ID_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH: Final = 9


def call_id(number: int) -> str:
    """Make a call's id: `call_` and nine letters or digits, which some templates insist on.

    Args:
        number: At random; all numbers below 62⁹, some 53 bits, give different ids.
    """
    letters = []
    for _ in range(_ID_LENGTH):
        number, rest = divmod(number, len(_ID_LETTERS))
        letters.append(_ID_LETTERS[rest])
    return f"call_{''.join(letters)}"
