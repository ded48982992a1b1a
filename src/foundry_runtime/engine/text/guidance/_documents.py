"""One JSON Schema document: what a reference leads to, and which of its schemas no value can match twice.

Knows: JSON Pointers as `$ref` writes them; when two schemas are apart: by their types, their constants, or a
property that both require.
Refuses to know: the grammar engine, and which keywords are supported.

Source: RFC 6901, "URI Fragment Identifier Representation"; JSON Schema 2020-12 core, "$ref".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final, NoReturn, TypeAlias, final
from urllib.parse import unquote

from foundry_proto.jsontext import ContentError, show

__all__ = ["Document", "Path", "fail"]

Path: TypeAlias = tuple[str | int, ...]

_ALL: Final = frozenset({"null", "boolean", "number", "string", "array", "object"})
_FAR: Final = 16
"""How many references are followed to find out what a schema is."""


def fail(path: Path, message: str) -> NoReturn:
    """Refuse what stands at a place."""
    raise ContentError(message, path)


@final
class Document:
    """A schema with all that is in it.

    Args:
        root: The schema.
        path: Where it stands in the request, for errors.
    """

    def __init__(self, root: object, path: Path) -> None:
        self._root = root
        self._path = path

    def find(self, reference: str, path: Path | None = None) -> tuple[object, Path]:
        """Follow a reference.

        Args:
            reference: The value of a `$ref`.
            path: Where it stands.

        Returns:
            What it leads to, and where that stands.

        Raises:
            ContentError: It leads out of this document, or to nothing.
        """
        place = self._path if path is None else path
        if reference not in {"#", "#/"} and not reference.startswith("#/"):
            fail(place, f'expected "#" or a pointer within this schema, "#/…", got {show(reference)}')
        value, found = self._root, self._path
        for word in unquote(reference[2:]).split("/") if len(reference) > 2 else ():
            key: str | int = word.replace("~1", "/").replace("~0", "~")
            match value:
                case Mapping() if key in value:
                    value = value[key]
                case [*_] if word.isdecimal() and int(word) < len(value):
                    key = int(word)
                    value = value[key]
                case _:
                    fail(place, f"{show(reference)} leads to nothing")
            found = (*found, key)
        return value, found

    def check_apart(self, schemas: Sequence[object], path: Path) -> None:
        """Refuse schemas of which a value may match several.

        Raises:
            ContentError: Two of them may have a value in common.
        """
        for (first, one), (second, other) in combinations(enumerate(schemas), 2):
            if not self._apart(one, other):
                fail(
                    path,
                    "supported only where no value can match two of the schemas, by their types or by "
                    f"other constants of a property that both require: {first} and {second} may share one",
                )

    def _apart(self, one: object, other: object) -> bool:
        one, other = self._resolved(one), self._resolved(other)
        kinds = self._kinds(one) & self._kinds(other)
        if not kinds:
            return True
        values, others = self._values(one), self._values(other)
        if values is not None and others is not None and not values & others:
            return True
        return kinds == {"object"} and self._differ(one, other)

    def _differ(self, one: object, other: object) -> bool:
        """Whether both require a property that has other constants in one than in the other."""
        if not isinstance(one, Mapping) or not isinstance(other, Mapping):
            return False
        for name in set(one.get("required", ())) & set(other.get("required", ())):
            properties = [schema.get("properties", {}).get(name) for schema in (one, other)]
            values, others = (self._values(self._resolved(schema)) for schema in properties)
            if values is not None and others is not None and not values & others:
                return True
        return False

    def _resolved(self, schema: object) -> object:
        for _ in range(_FAR):
            reference = schema.get("$ref") if isinstance(schema, Mapping) else None
            if not isinstance(reference, str):
                break
            schema, _ = self.find(reference)
        return schema

    def _kinds(self, schema: object) -> frozenset[str]:
        """The types that values of a schema may have, no fewer."""
        if not isinstance(schema, Mapping):
            return frozenset() if schema is False else _ALL
        constants = self._constants(schema)
        if constants is not None:
            return frozenset(map(_kind, constants))
        types = schema.get("type", _ALL)
        named = [types] if isinstance(types, str) else types
        return frozenset("number" if one == "integer" else one for one in named)

    def _values(self, schema: object) -> frozenset[str] | None:
        """The only values of a schema, as JSON; `None` where they are not listed."""
        constants = self._constants(schema)
        return None if constants is None else frozenset(map(_json, constants))

    def _constants(self, schema: object) -> Sequence[Any] | None:
        if not isinstance(schema, Mapping):
            return None
        if "const" in schema:
            return [schema["const"]]
        values = schema.get("enum")
        return values if isinstance(values, list | tuple) else None


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case _:
            return "array"


def _json(value: Any) -> str:
    """Equal for values that are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)
