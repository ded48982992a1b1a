"""How a message class says what its JSON looks like: names, casings, limits, and all of it in words.

Knows: the small language of annotations that messages are written in, which kinds of JSON value an
annotation allows, and how an error message names them.
Refuses to know: any value; `codec.py` applies what stands here.

`Annotated[float, Between(0, 2)]` limits a number, `Annotated[tuple[str, ...], Items(most=4)]` an array;
`X | Absent` may be left out; a union of classes is told apart by the field whose type is a `Literal` in each;
`WIRE = Wire(...)` on a class gives its noun and casing, `field(metadata={"wire": ...})` one field's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import attrs
from attrs import frozen

from foundry_proto.jsontext import show
from foundry_proto.sentinels import Absent

__all__ = [
    "Between",
    "Casing",
    "Items",
    "Wire",
    "describe",
    "field_name",
    "fields_of",
    "folded",
    "is_union",
    "join_words",
    "json_kinds",
    "may_be_absent",
    "members",
    "wire_name",
    "wire_of",
]

Casing = Literal["snake", "camel", "pascal"]


@frozen(kw_only=True)
class Wire:
    """A class's wire form, set as its `WIRE` class variable."""

    noun: str = "an object"
    """What the class is called where another value came: `a message`."""
    nouns: str = "objects"
    """The same for several: `messages`."""
    writes: tuple[Casing, ...] = ("snake",)
    """The casings in which names are written, each in turn; the first is the one that is read."""
    schema: str = ""
    """Its name in an OpenAPI document; by default the class's own."""
    any_case: bool = False
    """Whether names are read in any casing, as clients of the older service write them."""


@frozen
class Between:
    """A number's limits, both allowed."""

    least: float
    most: float


@frozen(kw_only=True)
class Items:
    """An array's limits, both allowed."""

    least: int = 0
    most: int


def wire_name(name: str, casing: Casing) -> str:
    """Give a field's name in one casing: `error_message`, `errorMessage`, `ErrorMessage`."""
    if casing == "snake":
        return name
    pascal = "".join(word[:1].upper() + word[1:] for word in name.split("_"))
    return pascal if casing == "pascal" else pascal[:1].lower() + pascal[1:]


def wire_of(cls: type) -> Wire:
    """Give a class's wire form; one that sets none is written in snake case."""
    return getattr(cls, "WIRE", Wire())


def field_name(field: attrs.Attribute[Any], casing: Casing) -> str:
    """Give a field's key in one casing, or the name that it sets for itself."""
    return str(field.metadata.get("wire") or wire_name(field.name, casing))


def fields_of(cls: Any) -> tuple[attrs.Attribute[Any], ...]:
    """A class's fields, their types no longer strings."""
    return tuple(attrs.fields(attrs.resolve_types(cls, include_extras=True)))


def folded(name: str) -> str:
    """What is the same in all casings of a name."""
    return name.lower().replace("_", "")


def is_union(tp: Any) -> bool:
    """Whether the type is `X | Y`."""
    return get_origin(tp) in (Union, UnionType)


def may_be_absent(tp: Any) -> bool:
    """Whether a field of this type may be left out."""
    return is_union(tp) and Absent in get_args(tp)


def members(tp: Any) -> tuple[Any, ...]:
    """A union's members without `Absent`; any other type alone."""
    if is_union(tp):
        return tuple(member for member in get_args(tp) if member is not Absent)
    return (tp,)


def join_words(words: Iterable[str]) -> str:
    """Write alternatives as a sentence does: `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _number_text(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def describe(tp: Any, *, several: bool = False) -> str:
    """Say which values a type allows: `a number from 0 to 2`, `a string or an array of parts`."""
    # Null is named only where nothing else is allowed: it is no help to who sent a value.
    named = [member for member in members(tp) if member is not NoneType] or members(tp)
    return join_words(dict.fromkeys(text for member in named for text in _alternatives(member, several)))


def _alternatives(tp: Any, several: bool) -> Iterable[str]:
    if get_origin(tp) is Literal:
        return [show(value) for value in get_args(tp)]
    return [_describe_one(tp, several)]


def _describe_one(tp: Any, several: bool) -> str:
    origin, args = get_origin(tp), get_args(tp)
    if origin is Annotated:
        text, limit = describe(args[0], several=several), args[1]
        if isinstance(limit, Between):
            return f"{text} from {_number_text(limit.least)} to {_number_text(limit.most)}"
        least = "one" if limit.least == 1 else limit.least
        how_many = f"{least} or more" if least else f"at most {limit.most}"
        return text.replace(" of ", f" of {how_many} ", 1)
    if origin is tuple:
        return f"{'arrays' if several else 'an array'} of {describe(args[0], several=True)}"
    if attrs.has(tp):
        return wire_of(tp).nouns if several else wire_of(tp).noun
    singular, plural = _NOUNS.get(origin or tp, ("a JSON value", "JSON values"))
    return plural if several else singular


_NOUNS: Final[dict[Any, tuple[str, str]]] = {
    str: ("a string", "strings"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "booleans"),
    Mapping: ("an object", "objects"),
    NoneType: ("null", "nulls"),
}


_KINDS: Final[dict[Any, tuple[type, ...]]] = {
    str: (str,),
    int: (int, float),
    float: (int, float),
    bool: (bool,),
    NoneType: (NoneType,),
    tuple: (list,),
    Mapping: (dict,),
    object: (str, int, float, bool, NoneType, list, dict),
}


def json_kinds(tp: Any) -> tuple[type, ...]:
    """Which of the `json` module's own types can stand for this type."""
    if is_union(tp):
        return tuple(dict.fromkeys(kind for member in members(tp) for kind in json_kinds(member)))
    if get_origin(tp) is Annotated:
        return json_kinds(get_args(tp)[0])
    if get_origin(tp) is Literal:
        return tuple(dict.fromkeys(type(value) for value in get_args(tp)))
    return _KINDS.get(get_origin(tp) or tp, (dict,))
