"""JSON Schemas on their way to the grammar engine: what is supported, and what is refused with its place.

Knows: the keywords of JSON Schema's drafts, which of them can be enforced token by token, and how a schema is
written so that a small model comes to an end: for fewer values, never for more, so that each answer is valid
for the schema that was given.
Refuses to know: the engine, tokens, requests.

Source: JSON Schema 2020-12, core and validation; older drafts where they only write something otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, final

from foundry_proto.jsontext import show
from foundry_runtime.engine.text.guidance import _operands as operands
from foundry_runtime.engine.text.guidance._documents import Document, Path, fail
from foundry_runtime.engine.text.guidance._operands import MAX_PROPERTIES

__all__ = ["ANNOTATIONS", "APPLIED", "MAX_DEPTH", "MAX_PROPERTIES", "MAX_SIZE", "REFUSED", "written_schema"]

_Written: TypeAlias = "dict[str, Any] | bool"

MAX_DEPTH: Final = 40
"""Deepest nesting of schemas within schemas."""
MAX_SIZE: Final = 5000
"""Most schemas and constants together."""

ANNOTATIONS: Final = frozenset({
    "$anchor", "$comment", "$defs", "$id", "$schema", "$vocabulary", "contentEncoding", "contentMediaType",
    "contentSchema", "default", "definitions", "deprecated", "description", "examples", "id", "readOnly",
    "title", "writeOnly",
})  # fmt: skip
"""What says nothing about which values are valid; nor does what JSON Schema does not know, by its rules."""

REFUSED: Final = frozenset({
    "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "contains", "dependencies",
    "dependentRequired", "dependentSchemas", "else", "if", "maxContains", "minContains", "not",
    "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties", "uniqueItems",
})  # fmt: skip
"""What cannot be enforced."""

_NEUTRAL: Final[Mapping[str, Callable[[object], bool]]] = {
    "uniqueItems": lambda operand: operand is False,
    "unevaluatedItems": lambda operand: operand is True,
    "unevaluatedProperties": lambda operand: operand is True,
}
"""The values of these that ask for nothing."""

_TYPE_OF: Final[Mapping[str, str]] = {
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), "string"),
    **dict.fromkeys((*operands.NUMBER_LIMITS, "multipleOf"), "number"),
    **dict.fromkeys(("items", "prefixItems", "additionalItems", "minItems", "maxItems"), "array"),
    **dict.fromkeys(("properties", "patternProperties", "additionalProperties"), "object"),
    **dict.fromkeys(("required", "minProperties", "maxProperties"), "object"),
}
"""The keywords that limit values of one type, and the type."""

_COMBINING: Final = ("allOf", "anyOf", "oneOf", "$ref", "enum", "const")

APPLIED: Final = frozenset({"type", *_TYPE_OF, *_COMBINING})
"""What is enforced."""


def written_schema(schema: object, path: Path = ()) -> dict[str, Any]:
    """Write a schema for the grammar engine.

    Args:
        schema: As it came: an object, or true for any value.
        path: Where it stands in the request, for errors.

    Returns:
        A schema of the same or of fewer values, with no keyword that is not in `APPLIED`, and with references
        to its own definitions alone.

    Raises:
        ContentError: Something in it is not supported, or is no JSON Schema; the path leads to the keyword.
    """
    writer = _Writer(Document(schema, path))
    root = writer.schema(schema, path, combined=False)
    definitions = writer.definitions()
    if isinstance(root, bool):
        root = {} if root else fail(path, "expected a schema that something matches, got false")
    return {**root, "$defs": definitions} if definitions else root


@final
class _Writer:
    """Writes one document's schemas, each definition once.

    A schema is `combined` where the engine intersects it with another. It is then left as open as it came:
    what one of the two does not list, the other may.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._names: dict[tuple[str, bool], str] = {}
        self._waiting: list[tuple[str, str, bool]] = []
        self._size = 0
        self._depth = 0

    def definitions(self) -> dict[str, Any]:
        """Write what was referred to, and what that refers to."""
        written: dict[str, Any] = {}
        places: dict[str, Path] = {}
        while self._waiting:
            name, reference, combined = self._waiting.pop()
            target, places[name] = self._document.find(reference)
            written[name] = self.schema(target, places[name], combined=combined)
        _check_ends(written, places)
        return written

    def schema(self, value: object, path: Path, *, combined: bool) -> _Written:
        """Write one schema."""
        self._count(1, path)
        if isinstance(value, bool):
            return value
        if not isinstance(value, Mapping):
            fail(path, f"expected a schema: an object, true or false, got {show(value)}")
        if self._depth == MAX_DEPTH:
            fail(path, f"expected at most {MAX_DEPTH} schemas within each other")
        self._depth += 1
        try:
            return self._keywords(_applied(value, path), path, combined=combined)
        finally:
            self._depth -= 1

    def _keywords(self, found: Mapping[str, Any], path: Path, *, combined: bool) -> _Written:
        limits = {keyword: operand for keyword, operand in found.items() if keyword not in _COMBINING}
        combining = {keyword: operand for keyword, operand in found.items() if keyword in _COMBINING}
        if "allOf" in combining and len(found) == 1:
            schemas = operands.items_of(found["allOf"], (*path, "allOf"), "schemas")
            if len(schemas) == 1:
                return self.schema(schemas[0], (*path, "allOf", 0), combined=combined)
        combined = combined or "allOf" in combining or len(combining) + bool(limits) > 1
        written = self._limits(limits, path, combined=combined)
        for keyword, operand in combining.items():
            if keyword == "oneOf" and "anyOf" in combining:
                fail((*path, keyword), "not supported beside anyOf")
            self._combine(keyword, operand, written, (*path, keyword), combined=combined)
        return written

    def _combine(
        self, keyword: str, operand: Any, written: dict[str, Any], path: Path, *, combined: bool
    ) -> None:
        match keyword:
            case "$ref":
                written[keyword] = f"#/$defs/{self._reference(operand, path, combined=combined)}"
            case "const":
                self._count(operands.check_constant(operand, path), path)
                written[keyword] = operand
            case "enum":
                values = operands.items_of(operand, path, "values")
                self._count(operands.check_constant(values, path), path)
                written[keyword] = list(values)
            case "oneOf":
                # Choice: where no value can match two of the schemas, one of them is any of them.
                self._document.check_apart(operands.items_of(operand, path, "schemas"), path)
                written["anyOf"] = self._schemas(operand, path, combined=combined)
            case _:
                schemas = self._schemas(operand, path, combined=combined)
                written[keyword] = [*written.get(keyword, ()), *schemas]  # a second pattern is there already

    def _reference(self, reference: object, path: Path, *, combined: bool) -> str:
        if not isinstance(reference, str):
            fail(path, f"expected a string, got {show(reference)}")
        self._document.find(reference, path)
        key = (reference, combined)
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"d{len(self._names)}"
            self._waiting.append((name, *key))
        return name

    def _schemas(self, operand: object, path: Path, *, combined: bool) -> list[_Written]:
        schemas = operands.items_of(operand, path, "schemas")
        return [self.schema(one, (*path, index), combined=combined) for index, one in enumerate(schemas)]

    def _limits(self, limits: Mapping[str, Any], path: Path, *, combined: bool) -> dict[str, Any]:
        """Write what limits values by their type, and the types."""
        if not limits:
            return {}
        written: dict[str, Any] = {}
        if "type" in limits:
            types = operands.types_of(limits["type"], (*path, "type"))
        elif combined:
            types = list(operands.TYPES)
        else:
            # Choice: who limits lengths means strings. By the letter all other values are valid too, and a
            # small model would rather write those.
            types = list(dict.fromkeys(_TYPE_OF[keyword] for keyword in limits))
        if "type" in limits or not combined:
            written["type"] = types[0] if len(types) == 1 else types
        used = {"number" if name == "integer" else name for name in types}
        if "number" in used:
            written |= operands.number_limits(limits, path, whole="number" not in types)
        for keyword, operand in limits.items():
            if _TYPE_OF.get(keyword) in used:
                self._limit(keyword, operand, written, (*path, keyword), combined=combined)
        if "object" in used:
            _finish_object(written, path, combined=combined)
        if "prefixItems" in written and not combined:
            # Choice: an array that lists its items has no others unless the schema says what they are.
            written.setdefault("items", False)
        return written

    def _limit(
        self, keyword: str, operand: Any, written: dict[str, Any], path: Path, *, combined: bool
    ) -> None:
        match keyword:
            case "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties":
                written[keyword] = operands.count(operand, path)
            case "pattern":
                _add_pattern(written, operands.pattern(operand, path))
            case "format":
                _add_pattern(written, operands.format_pattern(operand, path))
            case "multipleOf":
                if combined:
                    fail(path, "not supported in a schema that is combined with another one")
                written[keyword] = operands.multiple(operand, path)
            case "items" if isinstance(operand, list | tuple):  # as drafts before 2020 have it
                written["prefixItems"] = self._schemas(operand, path, combined=combined)
            case "prefixItems":
                written[keyword] = self._schemas(operand, path, combined=combined)
            case "additionalItems":
                written["items"] = self.schema(operand, path, combined=combined)
            case "items" | "additionalProperties":
                written[keyword] = self.schema(operand, path, combined=combined)
            case "properties" | "patternProperties":
                written[keyword] = self._properties(keyword, operand, path, combined=combined)
            case "required":
                written[keyword] = operands.names(operand, path)

    def _properties(
        self, keyword: str, operand: object, path: Path, *, combined: bool
    ) -> dict[str, _Written]:
        if not isinstance(operand, Mapping):
            fail(path, f"expected an object, got {show(operand)}")
        if len(operand) > MAX_PROPERTIES:
            fail(path, f"expected at most {MAX_PROPERTIES} properties, got {len(operand)}")
        named = keyword == "properties"
        return {
            name if named else operands.pattern(name, (*path, name)): self.schema(
                schema, (*path, name), combined=combined
            )
            for name, schema in operand.items()
        }

    def _count(self, values: int, path: Path) -> None:
        self._size += values
        if self._size > MAX_SIZE:
            fail(path, f"expected at most {MAX_SIZE} schemas and constants together")


def _applied(schema: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The keywords that are enforced."""
    for keyword, operand in schema.items():
        if keyword in REFUSED and not (keyword in _NEUTRAL and _NEUTRAL[keyword](operand)):
            fail((*path, keyword), "not supported: it cannot be enforced while an answer is written")
    found = {keyword: operand for keyword, operand in schema.items() if keyword in APPLIED}
    if not isinstance(found.get("items"), list | tuple):
        found.pop("additionalItems", None)  # says nothing beside one schema for all items, or none
    return found


def _finish_object(written: dict[str, Any], path: Path, *, combined: bool) -> None:
    listed, required = written.get("properties", {}), written.get("required", ())
    unlisted = [name for name in required if name not in listed]
    lists = "properties" in written or "patternProperties" in written
    # Choice: an object that lists its properties has no others unless the schema says so. By the letter it
    # may, and a small model would go on with further ones until its tokens are spent.
    if lists and not combined and "additionalProperties" not in written:
        written["additionalProperties"] = False
        if unlisted:
            written["properties"] = {**listed, **dict.fromkeys(unlisted, True)}
    least = written.get("minProperties", 0)
    free = written.get("additionalProperties") is not False or "patternProperties" in written
    if free and least > len(required) + 1:
        # A name could come twice, and would count as two.
        most = f"expected at most one more than the {len(required)} required properties"
        fail((*path, "minProperties"), f"{most}, got {least}")


def _add_pattern(written: dict[str, Any], pattern: str) -> None:
    if "pattern" in written:  # beside a format
        written["allOf"] = [{"type": "string", "pattern": pattern}]
    else:
        written["pattern"] = pattern


def _check_ends(written: Mapping[str, Any], places: Mapping[str, Path]) -> None:
    """Definitions that are references to definitions, and so on, have to end somewhere."""
    ends: set[str] = set()
    for name in written:
        way: dict[str, None] = {}
        while name not in ends:
            if name in way:
                fail((*places[name], "$ref"), "it refers to itself, and says nothing else")
            way[name] = None
            schema = written[name]
            if not isinstance(schema, Mapping) or schema.keys() != {"$ref"}:
                break
            name = schema["$ref"].removeprefix("#/$defs/")  # noqa: PLW2901 - the next on the way
        ends.update(way)
