"""Plain JSON values to attrs classes and back: the only cattrs configuration.

Knows: strictness (`"0.5"` is no number, `true` no integer, `40.0` is the integer 40), wire names, the three
states of a field (absent, null, value), and how to say what was expected.
Refuses to know: any particular message; classes carry their own names and limits as data. What JSON itself
allows is decided in `jsontext.py`, and how a word of a URL becomes a plain value in `words.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import attrs
from cattrs import Converter

from foundry_proto.errors import LocalProtocolError
from foundry_proto.jsontext import MAX_DEPTH, ContentError, dump_json, load_json, show
from foundry_proto.sentinels import ABSENT
from foundry_proto.wire import (
    Between,
    describe,
    field_name,
    fields_of,
    folded,
    is_union,
    join_words,
    json_kinds,
    may_be_absent,
    members,
    wire_of,
)

__all__ = ["ContentError", "decode", "encode", "structure"]

T = TypeVar("T")


def _unexpected(tp: Any, value: object) -> ContentError:
    return ContentError(f"expected {describe(tp)}, got {show(value)}")


_Hook = Callable[[Any, Any], Any]
"""cattrs' form: (plain value, wanted type) -> value of that type."""


def _str(value: Any, tp: Any) -> str:
    if type(value) is not str:
        raise _unexpected(tp, value)
    return value


def _bool(value: Any, tp: Any) -> bool:
    if type(value) is not bool:
        raise _unexpected(tp, value)
    return value


def _int(value: Any, tp: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise _unexpected(tp, value)


def _float(value: Any, tp: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ContentError("expected a finite number, got one beyond the range of a double") from None
    raise _unexpected(tp, value)


def _none(value: Any, tp: Any) -> None:
    if value is not None:
        raise _unexpected(tp, value)


def _pass(value: Any, _: Any) -> Any:
    return value


def _literal_hook(tp: Any) -> _Hook:
    kinds, allowed = json_kinds(tp), frozenset(get_args(tp))

    def literal(value: Any, _: Any) -> Any:
        if type(value) not in kinds or value not in allowed:
            raise _unexpected(tp, value)
        return value

    return literal


def _annotated_hook(tp: Any) -> _Hook:
    inner, limit = get_args(tp)
    hook = _converter.get_structure_hook(inner)

    def between(value: Any, _: Any) -> Any:
        try:
            number = hook(value, inner)
        except ContentError:
            raise _unexpected(tp, value) from None
        if not limit.least <= number <= limit.most:
            raise _unexpected(tp, value)
        return number

    def items(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise _unexpected(tp, value)
        if not limit.least <= len(value) <= limit.most:
            expected = f"at least {limit.least}" if len(value) < limit.least else f"at most {limit.most}"
            what = "item" if expected.endswith(" 1") else "items"
            raise ContentError(f"expected {expected} {what}, got {len(value)}")
        return hook(value, inner)

    return between if isinstance(limit, Between) else items


def _tuple_hook(tp: Any) -> _Hook:
    inner = get_args(tp)[0]
    hook = _converter.get_structure_hook(inner)

    def array(value: Any, _: Any) -> Any:
        if type(value) is not list:
            raise _unexpected(tp, value)
        # Token ids come by the hundred thousand: one pass in C instead of a call for each.
        if inner is int and set(map(type, value)) == {int}:
            return tuple(value)
        done: list[Any] = []
        try:
            for item in value:
                done.append(hook(item, inner))  # noqa: PERF401 - the index of the failing item is needed below
        except ContentError as error:
            raise error.under(len(done)) from None
        return tuple(done)

    return array


def _mapping_hook(tp: Any) -> _Hook:
    inner = get_args(tp)[1]
    hook = _converter.get_structure_hook(inner)

    def mapping(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise _unexpected(tp, value)
        done: dict[str, Any] = {}
        for key, item in value.items():
            try:
                done[key] = hook(item, inner)
            except ContentError as error:
                raise error.under(key) from None
        return done

    return mapping


def _union_hook(tp: Any) -> _Hook:
    by_kind: dict[type, list[Any]] = {}
    for member in members(tp):
        for kind in json_kinds(member):
            by_kind.setdefault(kind, []).append(member)
    hooks = {
        kind: _converter.get_structure_hook(types[0])
        if len(types) == 1
        else _arrays_hook(types)
        if kind is list
        else _tagged_hook(types)
        for kind, types in by_kind.items()
    }
    wanted = {kind: types[0] for kind, types in by_kind.items()}

    def union(value: Any, _: Any) -> Any:
        kind = type(value)
        hook = hooks.get(kind)
        if hook is None:
            raise _unexpected(tp, value)
        return hook(value, wanted[kind])

    return union


def _arrays_hook(arrays: list[Any]) -> _Hook:
    """Tell arrays apart by their first item; an empty one is the first kind of array."""
    by_kind: dict[type, Any] = {}
    for array in arrays:
        for kind in json_kinds(_item_type(array)):
            by_kind.setdefault(kind, array)
    hooks = {array: _converter.get_structure_hook(array) for array in arrays}
    expected = join_words(describe(_item_type(array)) for array in arrays)

    def told_apart(value: Any, _: Any) -> Any:
        array = by_kind.get(type(value[0])) if value else arrays[0]
        if array is None:
            raise ContentError(f"expected {expected}, got {show(value[0])}", (0,))
        return hooks[array](value, array)

    return told_apart


def _item_type(array: Any) -> Any:
    return get_args(get_args(array)[0] if get_origin(array) is Annotated else array)[0]


def _tagged_hook(classes: list[Any]) -> _Hook:
    """Tell classes apart by the field that is a `Literal` in each of them."""
    tags: dict[str, dict[str, Any]] = {}
    for cls in classes:
        for field in fields_of(cls):
            if get_origin(field.type) is Literal:
                tags.setdefault(field.name, {}).update(dict.fromkeys(get_args(field.type), cls))
    tag, by_value = max(tags.items(), key=lambda item: len(item[1]))
    hooks = {name: _converter.get_structure_hook(cls) for name, cls in by_value.items()}
    expected = join_words(show(name) for name in by_value)

    def tagged(value: Any, _: Any) -> Any:
        name = value.get(tag, ABSENT)
        if type(name) is not str or name not in hooks:
            got = "nothing" if name is ABSENT else show(name)
            raise ContentError(f"expected {expected}, got {got}", (tag,))
        return hooks[name](value, by_value[name])

    return tagged


def _class_hook(cls: Any) -> _Hook:
    wire = wire_of(cls)
    fields = [
        (
            field_name(field, wire.writes[0]),
            field.name,
            field.type,
            _converter.get_structure_hook(field.type),
            may_be_absent(field.type),
            field.default is attrs.NOTHING,
        )
        for field in fields_of(cls)
    ]
    spelling = {folded(row[0]): row[0] for row in fields}

    def instance(value: Any, tp: Any) -> Any:
        if type(value) is not dict:
            raise _unexpected(tp, value)
        if wire.any_case:
            value = _respelled(value, spelling)
        given: dict[str, Any] = {}
        for key, name, field_type, hook, optional, required in fields:
            if key in value:
                try:
                    given[name] = hook(value[key], field_type)
                except ContentError as error:
                    raise error.under(key) from None
            elif optional:
                # Not the field's default: that is for who makes an instance, and may be a null to be written.
                given[name] = ABSENT
            elif required:
                raise ContentError(f"expected {describe(field_type)}, got nothing", (key,))
        return cls(**given)

    return instance


def _respelled(value: Mapping[str, Any], spelling: Mapping[str, str]) -> dict[str, Any]:
    """The object with its keys in the class's own spelling; of several spellings the exact one counts."""
    plain: dict[str, Any] = {}
    for key, item in value.items():
        name = spelling.get(folded(key), key)
        if name == key or name not in plain:
            plain[name] = item
    return plain


def _class_writer(cls: Any) -> Callable[[Any], dict[str, Any]]:
    casings = wire_of(cls).writes
    rows = [
        (field.name, tuple(dict.fromkeys(field_name(field, casing) for casing in casings)))
        for field in fields_of(cls)
    ]

    def write(instance: Any) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for position in range(len(casings)):
            for name, keys in rows:
                value = getattr(instance, name)
                if value is not ABSENT and position < len(keys):
                    plain[keys[position]] = _converter.unstructure(value)
        return plain

    return write


def _generic(origin: Any) -> Callable[[Any], bool]:
    return lambda wanted: get_origin(wanted) is origin


_PLAIN: Final[tuple[tuple[Any, _Hook], ...]] = ((str, _str), (bool, _bool), (int, _int), (float, _float))

_COMPOSED: Final[tuple[tuple[Callable[[Any], bool], Callable[[Any], _Hook]], ...]] = (
    (attrs.has, _class_hook),
    (_generic(Literal), _literal_hook),
    (_generic(tuple), _tuple_hook),
    (_generic(Mapping), _mapping_hook),
    (is_union, _union_hook),
    (_generic(Annotated), _annotated_hook),
)


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    for tp, hook in _PLAIN:
        converter.register_structure_hook(tp, hook)
    converter.register_structure_hook_func(lambda wanted: wanted is NoneType, _none)
    converter.register_structure_hook_func(lambda wanted: wanted is object, _pass)
    for predicate, factory in _COMPOSED:
        converter.register_structure_hook_factory(predicate, factory)
    converter.register_unstructure_hook_factory(attrs.has, _class_writer)
    return converter


_converter: Final = _make_converter()


def structure(cls: type[T], value: object) -> T:
    """Make an instance of a message class from plain JSON values.

    Args:
        cls: As for `decode`.
        value: What `json.loads` gives: dictionaries, lists, strings, numbers, booleans, `None`.

    Raises:
        ContentError: Naming the field, what was expected, and what came.
    """
    made: T = _converter.get_structure_hook(cls)(value, cls)
    return made


def decode(cls: type[T], data: bytes | bytearray, *, depth: int = MAX_DEPTH) -> T:
    """Read one message from its JSON text.

    Args:
        cls: An attrs class of `foundry_proto.messages`, or any type that its fields may have.
        data: The whole JSON text, UTF-8.
        depth: The most levels of nesting, at most `MAX_DEPTH`.

    Raises:
        ContentError: Naming the field, what was expected, and what came; any other exception is a bug.

    Source: RFC 8259, and stricter where it leaves something open: no name twice in an object (section 4), no
    number that is not finite or has more than 400 digits (section 6), no lone surrogate (section 8.2).
    """
    return structure(cls, load_json(data, depth=depth))


def encode(value: object) -> bytes:
    """Write one message as compact UTF-8 JSON; fields that are `ABSENT` are left out, `None` is written.

    `decode` is the inverse.

    Args:
        value: An instance of a message class, or any value that its fields may have.

    Returns:
        The JSON text, without white space between its tokens.

    Raises:
        LocalProtocolError: JSON cannot carry the value: a number that is not finite, a lone surrogate, an
            object of another kind.
    """
    try:
        return dump_json(_converter.unstructure(value))
    except (TypeError, ValueError) as error:
        raise LocalProtocolError(f"encode: expected a value that JSON can carry: {error}") from error
