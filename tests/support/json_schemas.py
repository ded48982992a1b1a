"""JSON Schemas by lot, of the kinds that constrained decoding supports, and some that it does not.

Every string, array and number is bounded, so that an answer of a few hundred tokens can hold it. Names have
quotes, backslashes, control characters, blanks and letters beyond ASCII.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

__all__ = ["UNSUPPORTED", "random_schema", "wild_schema"]

Schema = dict[str, object]

_NAMES: Final = (
    *(
        "name",
        "age",
        "city",
        "tags",
        "is_active",
        "price",
        "address",
        "id",
        "notes",
        "kind",
        "e-mail",
        "size",
    ),
    *(
        "first name",
        "größe",
        "città",
        "имя",
        "日本",
        "名前",
        "émoji 😀",
        'say "hi"',
        "back\\slash",
        "a/b",
        "~tilde",
    ),
    *("tab\there", "line\nbreak", "%41", "$price", "", " ", "x.y", "{brace}", "<tag>", "é", "\u0001", "null"),
)
_WORDS: Final = (
    "red",
    "green",
    "blue",
    "small",
    "LARGE",
    "n/a",
    "größer",
    "日本語",
    'quo"te',
    "a\\b",
    "tab\t",
    "",
    "😀",
)
_PATTERNS: Final = (
    "^[A-Z]{2}[0-9]{3}$",
    "^(foo|bar)-[a-z]{1,6}$",
    "^\\d{4}$",
    '^[^"\\\\]{1,8}$',
    "^[a-zäöü]{2,9}$",
)
_FORMATS: Final = ("date", "time", "date-time", "uuid", "ipv4", "email")

_OBJECT: Final[Mapping[str, object]] = {"type": "object", "properties": {"a": {"type": "integer"}}}

UNSUPPORTED: Final[Mapping[str, tuple[Schema, str]]] = {
    "not": ({"not": {"type": "null"}}, "not"),
    "if": ({**_OBJECT, "if": {"required": ["a"]}, "then": {"required": ["b"]}}, "if"),
    "contains": ({"type": "array", "contains": {"const": 1}}, "contains"),
    "uniqueItems": (
        {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}},
        "properties.tags.uniqueItems",
    ),
    "propertyNames": ({"type": "object", "propertyNames": {"maxLength": 3}}, "propertyNames"),
    "dependentRequired": ({**_OBJECT, "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
    "dependentSchemas": ({**_OBJECT, "dependentSchemas": {"a": {}}}, "dependentSchemas"),
    "dependencies": ({**_OBJECT, "dependencies": {"a": ["b"]}}, "dependencies"),
    "unevaluatedProperties": ({**_OBJECT, "unevaluatedProperties": False}, "unevaluatedProperties"),
    "unevaluatedItems": ({"type": "array", "unevaluatedItems": {"type": "null"}}, "unevaluatedItems"),
    "$dynamicRef": ({"$dynamicRef": "#node"}, "$dynamicRef"),
    "minContains": (
        {"anyOf": [{"type": "null"}, {"type": "array", "minContains": 2}]},
        "anyOf[1].minContains",
    ),
    "oneOf": ({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}]}, "oneOf"),
    "$ref": ({"$ref": "https://example.com/schema.json"}, "$ref"),
    "$ref to an anchor": ({"type": "array", "items": {"$ref": "#node"}}, "items.$ref"),
    "format": ({"type": "string", "format": "json-pointer"}, "format"),
    "pattern that looks ahead": ({"type": "string", "pattern": "^(?=.*[0-9])"}, "pattern"),
    "pattern with a reference": ({"type": "string", "pattern": r"^(a|b)\1$"}, "pattern"),
    "multipleOf": ({"type": "number", "multipleOf": 0.0000001}, "multipleOf"),
    "minProperties": ({"type": "object", "minProperties": 3}, "minProperties"),
}
"""What cannot be enforced: by its keyword, a schema with it, and the path that is to blame."""


def random_schema(seed: int) -> Schema:
    """One schema, the same for the same seed: an object with a few members, some of them nested."""
    lot = _Lot(Random(seed))
    schema = lot.object(depth=0)
    if lot.definitions:
        schema["$defs"] = lot.definitions
    return schema


class _Lot:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.definitions: dict[str, object] = {}

    def any(self, depth: int) -> Schema:
        simple: list[Callable[[], Schema]] = [
            self.text, self.text, self.integer, self.number, self.boolean, self.enum, self.const, self.null,
        ]  # fmt: skip
        nested = [self.object, self.array, self.union, self.reference]
        if depth < 3 and self.random.random() < 0.45:
            return self.random.choice(nested)(depth + 1)
        return self.random.choice(simple)()

    def object(self, depth: int) -> Schema:
        names = self.random.sample(_NAMES, self.random.randint(1, 4 if depth else 5))
        schema: Schema = {
            "type": "object",
            "properties": {name: self.any(depth) for name in names},
            "required": [name for name in names if self.random.random() < 0.8],
        }
        if self.random.random() < 0.7:
            schema["additionalProperties"] = False
        if self.random.random() < 0.3:
            schema["description"] = self.random.choice(_WORDS)
        return schema

    def array(self, depth: int) -> Schema:
        least = self.random.randint(0, 2)
        schema: Schema = {"type": "array", "minItems": least, "maxItems": least + self.random.randint(0, 2)}
        if self.random.random() < 0.2:
            schema["prefixItems"] = [self.any(depth), self.any(depth)]
            schema["items"] = False
            schema["minItems"] = schema["maxItems"] = 2
        else:
            schema["items"] = self.any(depth)
        return schema

    def union(self, depth: int) -> Schema:
        if self.random.random() < 0.3:
            return {"type": ["string", "null"], "maxLength": self.random.randint(1, 20)}
        return {"anyOf": [self.any(depth) for _ in range(self.random.randint(2, 3))]}

    def reference(self, depth: int) -> Schema:
        if self.definitions and self.random.random() < 0.4:
            name = self.random.choice(list(self.definitions))
        elif self.random.random() < 0.05:
            name = "tree"
            self.definitions[name] = {
                "type": "object",
                "properties": {
                    "value": self.integer(),
                    "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
                },
                "required": ["value"],
                "additionalProperties": False,
            }
        else:
            definition = self.any(depth)
            name = self.random.choice(_NAMES)
            self.definitions.setdefault(name, definition)
        return {"$ref": "#/$defs/" + name.replace("~", "~0").replace("/", "~1").replace("%", "%25")}

    def text(self) -> Schema:
        match self.random.randint(0, 5):
            case 0:
                return {"type": "string", "pattern": self.random.choice(_PATTERNS)}
            case 1:
                return {"type": "string", "format": self.random.choice(_FORMATS)}
            case _:
                least = self.random.randint(0, 3)
                return {"type": "string", "minLength": least, "maxLength": least + self.random.randint(1, 20)}

    def integer(self) -> Schema:
        low = self.random.randint(-1000, 1000)
        schema: Schema = {"type": "integer", "minimum": low, "maximum": low + self.random.randint(0, 5000)}
        if self.random.random() < 0.2:
            schema = {"type": "integer", "multipleOf": 5, "minimum": 0, "exclusiveMaximum": 1000}
        return schema

    def number(self) -> Schema:
        low = round(self.random.uniform(-100, 100), 2)
        return {
            "type": "number",
            self.random.choice(["minimum", "exclusiveMinimum"]): low,
            self.random.choice(["maximum", "exclusiveMaximum"]): round(
                low + self.random.uniform(0.5, 100), 2
            ),
        }

    def boolean(self) -> Schema:
        return {"type": "boolean"}

    def null(self) -> Schema:
        return {"type": "null"}

    def enum(self) -> Schema:
        values: list[object] = list(self.random.sample(_WORDS, self.random.randint(1, 4)))
        values += self.random.sample([1, -2.5, True, None, {"a": 1}, [1, "x"]], self.random.randint(0, 2))
        return {"enum": values}

    def const(self) -> Schema:
        return {"const": self.random.choice([*_WORDS, 7, False, {"k": ["v"]}])}


_WILD_PATTERNS: Final = ("^a", "b$", "^[^x]*$", r"[^\"]", r"^\d+$", "é", r"^[^\\]?$", "^(?:ab|c){1,3}$")


def wild_schema(seed: int) -> Schema:
    """A schema with any keywords in any company; many such schemas are refused, or match nothing."""
    return _Wild(Random(seed)).schema(0)


class _Wild:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.names = ["a", "b", "c", 'q"', "ü"]

    def schema(self, depth: int) -> Schema:
        keywords: dict[str, Callable[[], object]] = {
            "type": self.type,
            "minLength": lambda: self.random.randint(0, 3),
            "maxLength": lambda: self.random.randint(0, 6),
            "pattern": lambda: self.random.choice(_WILD_PATTERNS),
            "format": lambda: self.random.choice(_FORMATS),
            "minimum": self.bound,
            "maximum": self.bound,
            "exclusiveMinimum": self.bound,
            "exclusiveMaximum": self.bound,
            "multipleOf": lambda: self.random.choice([1, 2, 3, 10, 0.5, 0.25]),
            "enum": lambda: self.random.sample(
                ["a", "b", "", 1, 2.5, -3, True, None, [], {}, {"a": 1}, ["b"]], 4
            ),
            "const": lambda: self.random.choice(["a", 1, 0, -2.5, None, {"b": "c"}]),
            "minItems": lambda: self.random.randint(0, 3),
            "maxItems": lambda: self.random.randint(0, 4),
            "minProperties": lambda: self.random.randint(0, 3),
            "maxProperties": lambda: self.random.randint(0, 4),
            "required": lambda: self.random.sample(self.names, self.random.randint(0, 3)),
        }
        if depth < 3:
            keywords |= {
                "items": lambda: self.schema(depth + 1),
                "prefixItems": lambda: self.schemas(depth),
                "properties": lambda: {name: self.any(depth) for name in self.random.sample(self.names, 3)},
                "additionalProperties": lambda: self.any(depth),
                "patternProperties": lambda: {self.random.choice(["^a", "[bc]$", "^[^a]"]): self.any(depth)},
                "anyOf": lambda: self.schemas(depth),
                "oneOf": lambda: self.schemas(depth),
                "allOf": lambda: self.schemas(depth),
            }
        chosen = self.random.sample(list(keywords), self.random.choice([1, 2, 2, 3, 3, 4, 6]))
        if self.random.random() < 0.7:
            chosen = ["type", *chosen]
        return {keyword: keywords[keyword]() for keyword in dict.fromkeys(chosen)}

    def any(self, depth: int) -> object:
        return self.random.choice([True, False]) if self.random.random() < 0.15 else self.schema(depth + 1)

    def schemas(self, depth: int) -> list[object]:
        return [self.schema(depth + 1) for _ in range(self.random.randint(1, 3))]

    def type(self) -> object:
        types = ["null", "boolean", "integer", "number", "string", "array", "object"]
        return self.random.choice([*types, *types[2:], self.random.sample(types, 2)])

    def bound(self) -> float:
        return self.random.choice([0, 1, -1, 5, 10, -0.5, 2.25, 99, 100, 1000, 0.001, -1000.5])
