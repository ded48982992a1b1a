"""The values of JSON Schema's keywords: what each must be, and how it is written for the grammar engine.

Knows: types and ranges of the keywords that hold no schemas.
Refuses to know: how keywords work together, but for the four limits of a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, Final, TypeGuard

from foundry_proto.jsontext import show
from foundry_proto.wire import join_words
from foundry_runtime.engine.text.guidance._documents import Path, fail
from foundry_runtime.engine.text.guidance.patterns import FORMATS, pattern_fault, pattern_in_json

__all__ = [
    "MAX_PROPERTIES",
    "NUMBER_LIMITS",
    "TYPES",
    "check_constant",
    "count",
    "format_pattern",
    "items_of",
    "multiple",
    "names",
    "number_limits",
    "pattern",
    "types_of",
]

TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
NUMBER_LIMITS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
MAX_PROPERTIES: Final = 500
"""Most properties of one object: the engine's time grows with their square."""

_EXACT: Final = 2**53 - 1
"""Beyond it a double does not tell one integer from the next."""
_WIDEST: Final = 1e15
_EXACT_DIGITS: Final = 15
"""A double holds, and llguidance reads, so many."""
_NEXT_TO_ZERO: Final = 1e-9
_MOST_MULTIPLE: Final = 10_000
_MOST_PLACES: Final = 4

_UNWRITABLE: Final = re.compile("[\x00-\x07\x0b\x0e-\x1f\x7f]")
"""What JSON writes only by its number, as no text here is written: see `forms.py`."""


def items_of(operand: object, path: Path, what: str) -> Sequence[Any]:
    """An array that is not empty; `what` it holds, for the error."""
    if not isinstance(operand, list | tuple) or not operand:
        fail(path, f"expected an array of one or more {what}, got {show(operand)}")
    return operand


def types_of(operand: object, path: Path) -> list[str]:
    """The value of `type` as a list."""
    named = [operand] if isinstance(operand, str) else operand
    if not isinstance(named, list | tuple) or not named or not all(one in TYPES for one in named):
        fail(path, f"expected {join_words(map(show, TYPES))}, or an array of these, got {show(operand)}")
    return list(dict.fromkeys(named))


def count(operand: object, path: Path) -> int:
    """The value of `minLength` and its like."""
    if not _is_number(operand) or operand < 0 or operand != int(operand):
        fail(path, f"expected an integer of at least 0, got {show(operand)}")
    return min(int(operand), 2**31 - 1)


def names(operand: object, path: Path) -> list[str]:
    """The value of `required`."""
    if not isinstance(operand, list | tuple):
        fail(path, f"expected an array of strings, got {show(operand)}")
    for index, name in enumerate(operand):
        if not isinstance(name, str):
            fail((*path, index), f"expected a string, got {show(name)}")
    if len(operand) > MAX_PROPERTIES:
        fail(path, f"expected at most {MAX_PROPERTIES} names, got {len(operand)}")
    return list(operand)


def pattern(operand: object, path: Path) -> str:
    """The value of `pattern`, or a name of `patternProperties`."""
    if not isinstance(operand, str):
        fail(path, f"expected a string, got {show(operand)}")
    fault = pattern_fault(operand)
    return pattern_in_json(operand) if fault is None else fail(path, fault)


def format_pattern(operand: object, path: Path) -> str:
    """The value of `format` as a pattern."""
    found = FORMATS.get(operand) if isinstance(operand, str) else None
    if found is None:
        fail(path, f"expected {join_words(map(show, FORMATS))}, got {show(operand)}")
    return f"^(?:{found})$"


def multiple(operand: object, path: Path) -> float:
    """The value of `multipleOf`."""
    if not _is_number(operand) or operand <= 0:
        fail(path, f"expected a number greater than 0, got {show(operand)}")
    _, digits, exponent = Decimal(repr(operand)).normalize().as_tuple()
    assert isinstance(exponent, int)
    whole = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
    if whole > _MOST_MULTIPLE or exponent < -_MOST_PLACES:
        limits = f"at most {_MOST_MULTIPLE} and at most {_MOST_PLACES} digits after the point"
        fail(path, f"expected a number with {limits}, got {show(operand)}")
    return operand


def number_limits(keywords: Mapping[str, Any], path: Path, *, whole: bool) -> dict[str, float]:
    """The four limits of a number as two, both allowed.

    llguidance 1.9 takes 10 itself for more than 10 and less than 11, and what is a little more than 10 as it
    is written may be 10 as it is read, a double. So an excluded limit becomes the next number of 15 digits:
    a double can hold that, and llguidance reads no more of them exactly. The one next to zero has too many
    places, and 1e-9 stands for it.

    Args:
        keywords: All keywords of a schema.
        path: Where it stands.
        whole: Whether only integers are valid.
    """
    limits: dict[str, float] = {}
    for name, inwards, narrowest in (("minimum", _UP, max), ("maximum", _DOWN, min)):
        allowed = _number_limit(keywords.get(name), (*path, name), whole=whole)
        keyword = f"exclusive{name.capitalize()}"
        excluded = keywords.get(keyword)
        if isinstance(excluded, bool):  # as Draft 4 has it
            excluded = allowed if excluded else None
        excluded = _number_limit(excluded, (*path, keyword), whole=whole)
        found = [] if allowed is None else [_rounded(allowed, inwards)]
        found += [] if excluded is None else [_beyond(excluded, inwards, whole=whole)]
        if found:
            limits[name] = narrowest(found)
    return limits


_UP: Final = Context(prec=_EXACT_DIGITS, rounding=ROUND_CEILING)
_DOWN: Final = Context(prec=_EXACT_DIGITS, rounding=ROUND_FLOOR)


def _number_limit(operand: object, path: Path, *, whole: bool) -> float | None:
    most = _EXACT if whole else _WIDEST
    if operand is not None and not (_is_number(operand) and abs(operand) <= most):
        fail(path, f"expected a number from {-most:.0f} to {most:.0f}, got {show(operand)}")
    return operand


def _rounded(limit: float, inwards: Context) -> float:
    return limit if isinstance(limit, int) else float(inwards.plus(Decimal(repr(limit))))


def _beyond(limit: float, inwards: Context, *, whole: bool) -> float:
    step = 1 if inwards is _UP else -1
    if whole and limit == int(limit):
        return int(limit) + step
    if limit == 0:
        return step * _NEXT_TO_ZERO
    exact = Decimal(repr(limit))
    return float(inwards.next_plus(exact) if step > 0 else inwards.next_minus(exact))


def check_constant(value: object, path: Path) -> int:
    """Refuse a constant that cannot be written.

    Returns:
        How many values it is, with all that are in it.
    """
    match value:
        case str():
            if (found := _UNWRITABLE.search(value)) is not None:
                allowed = r"no control characters but \b \f \n \r \t"
                fail(path, f"expected a constant with {allowed}, got {show(found[0])}")
        case int() if not isinstance(value, bool) and abs(value) > _EXACT:
            fail(path, f"expected an integer of at most {_EXACT} either way, got {show(value)}")
        case float() if len(Decimal(repr(value)).normalize().as_tuple().digits) > _EXACT_DIGITS:
            fail(path, f"expected a number of at most {_EXACT_DIGITS} digits, got {show(value)}")
        case Mapping():
            return 1 + sum(check_constant(item, (*path, name)) for name, item in value.items())
        case list() | tuple():
            return 1 + sum(check_constant(item, (*path, index)) for index, item in enumerate(value))
    return 1


def _is_number(operand: object) -> TypeGuard[float]:
    return isinstance(operand, int | float) and not isinstance(operand, bool)
