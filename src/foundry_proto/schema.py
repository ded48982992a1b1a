"""JSON Schemas of messages, from the annotations that the codec follows.

Knows: which schema stands for which annotation, and that a class may need two of them: what may be left out
of a request is always there in an answer.
Refuses to know: operations (`openapi.py`), and any particular message.

A schema says no more than what is held. Of names that are read in any casing it has the first, and what
several fields demand of each other it does not say.

Source: JSON Schema, draft 2020-12, which OpenAPI 3.1 uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import attrs

from foundry_proto.errors import LocalProtocolError
from foundry_proto.sentinels import ABSENT
from foundry_proto.wire import (
    Between,
    Items,
    field_name,
    fields_of,
    is_union,
    may_be_absent,
    members,
    wire_of,
)

__all__ = ["Direction", "Schema", "Schemas"]

Schema = dict[str, Any]
Direction = Literal["read", "written"]
"""What a server does with values of a schema."""

_SCALARS: Final[Mapping[Any, Schema]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    object: {},
}


class Schemas:
    """The schemas of all messages that a document speaks of; classes refer to each other by name.

    A class that is read and written has one schema where both are the same; where they differ, `NAME` is what
    is written and `NAMEInput` what is read.

    Args:
        read: Types whose values a server reads.
        written: Types whose values it writes.
    """

    def __init__(self, *, read: Iterable[Any], written: Iterable[Any]) -> None:
        self._read = dict.fromkeys(cls for tp in read for cls in _classes(tp))
        self._written = dict.fromkeys(cls for tp in written for cls in _classes(tp))
        self._two = {
            cls
            for cls in self._read
            if cls in self._written and any(_differs(inner) for inner in _classes(cls))
        }

    def of(self, tp: Any, direction: Direction) -> Schema:
        """Give the schema of a type.

        Raises:
            LocalProtocolError: The annotation is none that messages are written in.
        """
        if is_union(tp):
            return _either([self.of(member, direction) for member in members(tp)])
        origin, args = get_origin(tp), get_args(tp)
        if origin is Annotated:
            return {**self.of(args[0], direction), **_limits(args[1])}
        if origin is Literal:
            return {**_SCALARS[type(args[0])], "enum": list(args)}
        if origin is tuple:
            return {"type": "array", "items": self.of(args[0], direction)}
        if origin is Mapping:
            return {"type": "object", "additionalProperties": self.of(args[1], direction)}
        if attrs.has(tp):
            return {"$ref": f"#/components/schemas/{self._name(tp, direction)}"}
        if tp not in _SCALARS:
            raise LocalProtocolError(f"schema: expected an annotation that messages have, got {tp!r}")
        return dict(_SCALARS[tp])

    def components(self) -> dict[str, Schema]:
        """Give every class's own schema, by its name."""
        found: dict[str, Schema] = {}
        for classes, direction in ((self._read, _READ), (self._written, _WRITTEN)):
            for cls in classes:
                found.setdefault(self._name(cls, direction), self._object(cls, direction))
        return found

    def _name(self, cls: type, direction: Direction) -> str:
        name = wire_of(cls).schema or cls.__name__
        return f"{name}Input" if direction == "read" and cls in self._two else name

    def _object(self, cls: type, direction: Direction) -> Schema:
        rows = list(_rows(cls, direction))
        schema: Schema = {
            "type": "object",
            "description": (cls.__doc__ or "").partition("\n\n")[0],
            "properties": {name: self.of(tp, direction) for name, tp, _ in rows},
        }
        required = [name for name, _, always in rows if always]
        return {**schema, "required": required} if required else schema


_READ: Final[Direction] = "read"
_WRITTEN: Final[Direction] = "written"


def _rows(cls: Any, direction: Direction) -> Iterator[tuple[str, Any, bool]]:
    """A class's keys as they stand in JSON, each with its type and whether it is always there."""
    casings = wire_of(cls).writes
    found: dict[str, tuple[str, Any, bool]] = {}
    for casing in casings if direction == "written" else casings[:1]:
        for one in fields_of(cls):
            always = one.default is attrs.NOTHING or (direction == "written" and one.default is not ABSENT)
            name = field_name(one, casing)
            found.setdefault(name, (name, one.type, always and not may_be_absent(one.type)))
    yield from found.values()


def _differs(cls: type) -> bool:
    """Whether what is written of a class differs from what is read, be its fields' classes as they may."""
    return list(_rows(cls, "read")) != list(_rows(cls, "written"))


def _classes(tp: Any) -> dict[type, None]:
    """The message classes that a type is made of, itself included, in the order in which they are met."""
    found: dict[type, None] = {}
    waiting = [tp]
    while waiting:
        one = waiting.pop()
        if attrs.has(one):
            if one in found:
                continue
            found[one] = None
            waiting += [field.type for field in reversed(fields_of(one))]
        else:
            inner = get_args(one)
            waiting += inner[:1] if get_origin(one) is Annotated else reversed(inner)
    return found


def _limits(limit: Between | Items) -> Schema:
    if isinstance(limit, Between):
        return {"minimum": limit.least, "maximum": limit.most}
    least = {"minItems": limit.least} if limit.least else {}
    return {**least, "maxItems": limit.most}


def _either(schemas: list[Schema]) -> Schema:
    """A schema of any of these values; of a simple type and null it is that type's, with one word more."""
    if len(schemas) == 1:
        return schemas[0]
    first, null = schemas[0], _SCALARS[NoneType]
    if schemas[1:] == [null] and "type" in first:
        choices = {"enum": [*first["enum"], None]} if "enum" in first else {}
        return {**first, "type": [first["type"], "null"], **choices}
    return {"anyOf": schemas}
