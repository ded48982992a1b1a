"""What a template's operations cost, known before they run.

Knows: a meter of work and of text, how to weigh a value, and the price of every method, filter, test and
operator that a template may use. What has no price here cannot be used.
Refuses to know: jinja2.

One unit of work is a node of the template's syntax tree, an item looked at, or 64 characters passed over:
about 50 ns. Text counts characters made, also those that are thrown away at once: it bounds the memory.
An operation that can make much out of little (repeat, join, replace, format, indent, power) pays for what it
will make; all others pay for what they are given.
"""

from __future__ import annotations

import operator
import re
import string
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sized, ValuesView
from itertools import chain
from typing import Any, Final

from attrs import define

__all__ = [
    "FILTER_PRICES",
    "METHOD_PRICES",
    "OPERATORS",
    "TEST_PRICES",
    "Meter",
    "Price",
    "TooMuch",
    "pay_arguments",
]

_BYTES_OF_ITEM: Final = 8
_LARGEST_INTEGER_ARGUMENT: Final = 100_000
_LARGEST_WIDTH: Final = 1_000
_MOST_BITS: Final = 4_096


class TooMuch(Exception):
    """The template asked for more than it may have; the message says of what."""


@define(eq=False)
class Meter:
    """What one rendering may still use."""

    work_left: int
    text_left: int

    def work(self, units: int) -> None:
        """Pay for time.

        Raises:
            TooMuch: There is not so much left.
        """
        self.work_left -= units
        if self.work_left < 0:
            raise TooMuch("the template takes too many steps")

    def text(self, characters: int) -> None:
        """Pay for text to be made, and for the time it takes.

        Raises:
            TooMuch: There is not so much left.
        """
        self.text_left -= characters
        if self.text_left < 0:
            raise TooMuch("the template makes too much text")
        self.work(characters >> 6)

    def weigh(self, value: object, *, each: int = 0, each_level: int = 0) -> int:
        """How many characters a value's text has, about, whatever its nesting; pays for looking.

        Lists that hold one list many times weigh what they print, not what they take: printing and
        comparing walk the tree, and so does this, until the meter ends it.

        Args:
            value: Anything that a template can hold.
            each: Added for each value inside.
            each_level: Added for each value inside, times its depth.

        Raises:
            TooMuch: Looking alone costs more than is left.
        """
        if isinstance(value, str) and not each and not each_level:
            self.work(1 + (len(value) >> 6))
            return len(value)
        total = 0
        levels: list[Iterator[object]] = [iter((value,))]
        while levels:
            for item in levels[-1]:
                total += each + each_level * len(levels)
                if isinstance(item, str):
                    self.work(1 + (len(item) >> 6))
                    total += len(item)
                elif isinstance(item, _CONTAINERS):
                    self.work(4 + len(item))
                    total += _BYTES_OF_ITEM * len(item)
                    levels.append(chain.from_iterable(item.items()) if isinstance(item, dict) else iter(item))
                    break
                else:
                    self.work(2)
                    total += item.bit_length() // 3 + 1 if isinstance(item, int) else 32
            else:
                levels.pop()
        return total


_CONTAINERS: Final = (list, tuple, dict, set, frozenset, range, KeysView, ValuesView, ItemsView)

Price = Callable[[Meter, Any, tuple[Any, ...], Mapping[str, Any]], None]
"""Pays for an operation on a value with arguments, before it runs."""


def pay_arguments(meter: Meter, args: tuple[Any, ...], named: Mapping[str, Any]) -> int:
    """The weight of an operation's arguments. A whole number may be a width: it weighs as many characters.

    Raises:
        TooMuch: A number is larger than any template needs.
    """
    total = 0
    for value in (*args, *named.values()):
        if isinstance(value, int):
            if abs(value) > _LARGEST_INTEGER_ARGUMENT:
                raise TooMuch(f"the argument {_shown(value)} is too large")
            total += abs(value)
        else:
            total += meter.weigh(value)
    return total


def _shown(number: int) -> str:
    return str(number) if number.bit_length() < 64 else f"of {number.bit_length()} bits"


# Prices: of the value, its arguments and its named arguments.


def _nothing(_meter: Meter, _value: Any, _args: tuple[Any, ...], _named: Mapping[str, Any]) -> None:
    """A fixed cost, paid by the tick of the body that it stands in."""


def _asking(meter: Meter, _value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Looks at its arguments alone."""
    pay_arguments(meter, args, named)


def _looking(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Compares or searches, and makes nothing."""
    for item in (value, *args, *named.values()):
        meter.weigh(item)


def _copying(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Makes about as much text as it is given."""
    meter.text(meter.weigh(value) + pay_arguments(meter, args, named))


def _cutting(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Makes a list that has an item for each character at most."""
    meter.text(_BYTES_OF_ITEM * (meter.weigh(value) + pay_arguments(meter, args, named)))


def _backwards(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Searches each place for all of its argument: from the end, or for any of some characters."""
    weight = meter.weigh(value)
    meter.work((weight * pay_arguments(meter, args, named)) >> 6)
    meter.text(weight)


def _cutting_backwards(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    _backwards(meter, value, args, named)
    _cutting(meter, value, args, named)


def _listing(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Makes a list of the items as they are, and looks at each by the path or test that it is given."""
    items = len(value) if isinstance(value, Sized) else 1
    given = pay_arguments(meter, args, named)
    meter.work(items * (1 + given))
    meter.text(_BYTES_OF_ITEM * (items + given))


def _sorting(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    weight = meter.weigh(value)
    meter.work(weight * weight.bit_length() >> 6)
    _listing(meter, value, args, named)


def _summing(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Adds numbers: lists would be copied once for each that follows."""
    start = named.get("start", args[1] if len(args) > 1 else 0)
    if not isinstance(start, int | float):
        raise TooMuch("sum adds numbers only")
    _sorting(meter, value, args, named)


def _joining(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """`items|join(separator, attribute)`."""
    items = len(value) if isinstance(value, Sized) else 1
    meter.text(meter.weigh(value) + items * pay_arguments(meter, args, named))


def _joining_by(meter: Meter, value: Any, args: tuple[Any, ...], _named: Mapping[str, Any]) -> None:
    """`separator.join(items)`."""
    for items in args:
        _joining(meter, items, (value,), {})


def _replacing(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    weight = meter.weigh(value)
    old = args[0] if args else named.get("old", "")
    new = args[1] if len(args) > 1 else named.get("new", "")
    known = isinstance(value, str) and isinstance(old, str)
    places = value.count(old) if known else weight + 1
    meter.text(weight + meter.weigh(old) + places * meter.weigh(new))


def _indenting(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    _cutting(meter, value, (), {})
    lines = len(value.splitlines()) if isinstance(value, str) else 1
    meter.text((1 + lines) * (4 + pay_arguments(meter, args, named)))


def _writing_json(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Each value may begin a line with its depth's blanks, and ends with a separator."""
    options = pay_arguments(meter, args, named)
    meter.text(meter.weigh(value, each=2 + options, each_level=options))


_CONVERSION: Final = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?")


def _formatting(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """`text % values`, and the filter of the same meaning."""
    total = len(value) if isinstance(value, str) else meter.weigh(value)
    given = 320 + pay_arguments(meter, args, named)  # 1e308 with all its digits
    for conversion in _CONVERSION.finditer(value if isinstance(value, str) else ""):
        total += given + _widths(*conversion.groups(default=""))
    meter.text(total)


def _formatting_fields(meter: Meter, value: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """`text.format(values)` and `text.format_map(values)`."""
    total = len(value)
    given = 320 + pay_arguments(meter, args, named)
    for _, field, form, _ in string.Formatter().parse(value):
        if field is not None:
            total += given + _widths(*re.findall(r"\d+|[{]", form or ""))
    meter.text(total)


def _widths(*widths: str) -> int:
    """Widths and precisions of a format, which must be written in it and small."""
    total = 0
    for width in widths:
        if width and (not width.isdecimal() or len(width) > 9 or int(width) > _LARGEST_WIDTH):
            raise TooMuch(f"a format has the width {width[:20]}: expected a number up to {_LARGEST_WIDTH}")
        total += int(width or 0)
    return total


def _adding(meter: Meter, left: Any, right: Any) -> None:
    for side in (left, right):
        if isinstance(side, str):
            meter.text(len(side))
        elif isinstance(side, list | tuple):
            meter.text(_BYTES_OF_ITEM * len(side))
    _calculating(meter, left, right)


def _multiplying(meter: Meter, left: Any, right: Any) -> None:
    for side, times in ((left, right), (right, left)):
        if isinstance(times, int):
            if isinstance(side, str):
                meter.text(len(side) * max(times, 0))
            elif isinstance(side, list | tuple):
                meter.text(_BYTES_OF_ITEM * len(side) * max(times, 0))
            elif isinstance(side, int):
                _fits(side.bit_length() + times.bit_length())


def _powering(_meter: Meter, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _fits(left.bit_length() * max(right, 0))


def _fits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise TooMuch("a number grows too large")


def _dividing(meter: Meter, left: Any, right: Any) -> None:
    if isinstance(left, str):
        _formatting(meter, left, (right,), {})
    else:
        _calculating(meter, left, right)


def _calculating(_meter: Meter, left: Any, right: Any) -> None:
    for side in (left, right):
        if isinstance(side, int):
            _fits(side.bit_length() + 1)


OPERATORS: Final[Mapping[str, tuple[Callable[[Meter, Any, Any], None], Callable[[Any, Any], Any]]]] = {
    "+": (_adding, operator.add),
    "-": (_calculating, operator.sub),
    "*": (_multiplying, operator.mul),
    "/": (_calculating, operator.truediv),
    "//": (_calculating, operator.floordiv),
    "%": (_dividing, operator.mod),
    "**": (_powering, operator.pow),
}
"""Each binary operator's price and what it does."""


def _table(prices: Mapping[Price, str]) -> dict[str, Price]:
    return {name: price for price, names in prices.items() for name in names.split()}


FILTER_PRICES: Final = _table(
    {
        _nothing: "abs count d default first last length safe",
        _looking: "float int max min round wordcount",
        _copying: "capitalize center e escape lower string title truncate upper",
        _backwards: "trim",
        _listing: "batch items list map reject rejectattr reverse select selectattr slice",
        _sorting: "dictsort groupby sort unique",
        _summing: "sum",
        _joining: "join",
        _replacing: "replace",
        _indenting: "indent",
        _formatting: "format",
        _writing_json: "tojson",
    }
)
"""The filters that a template may use. jinja2 has more: those that make HTML, draw at random, or read out
attributes by a computed name."""

TEST_PRICES: Final = _table(
    {
        _nothing: "boolean callable defined divisibleby even false float integer iterable mapping none number"
        " odd sameas sequence string true undefined",
        _looking: "== eq equalto != ne > gt greaterthan >= ge < lt lessthan <= le in lower upper",
    }
)

METHOD_PRICES: Final[Mapping[type, Mapping[str, Price]]] = {
    str: _table(
        {
            _looking: "count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric"
            " isspace istitle isupper startswith",
            _copying: "capitalize casefold center ljust lower removeprefix removesuffix rjust swapcase title"
            " upper zfill",
            _cutting: "partition split splitlines",
            _backwards: "lstrip rfind rindex rstrip strip",
            _cutting_backwards: "rpartition rsplit",
            _joining_by: "join",
            _replacing: "replace",
            _formatting_fields: "format format_map",
        }
    ),
    dict: _table({_nothing: "items keys values", _asking: "get"}),
    list: _table({_looking: "count index"}),
    tuple: _table({_looking: "count index"}),
}
"""The methods that a template may call, by the type that has them."""
