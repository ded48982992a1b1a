"""JSON Schemas on their way to the grammar engine: what is written, and what is refused with its place."""

from __future__ import annotations

from typing import Any, Final

import pytest

from foundry_proto.jsontext import ContentError
from foundry_runtime.engine.text.guidance.patterns import FORMATS
from foundry_runtime.engine.text.guidance.schema import (
    ANNOTATIONS,
    APPLIED,
    MAX_DEPTH,
    MAX_SIZE,
    REFUSED,
    written_schema,
)
from tests.support.json_schemas import UNSUPPORTED

# Of the vocabularies that JSON Schema 2020-12 defines, and of those before it.
KEYWORDS: Final = frozenset({
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveAnchor",
    "$recursiveRef", "$ref", "$schema", "$vocabulary", "additionalItems", "additionalProperties", "allOf",
    "anyOf", "const", "contains", "contentEncoding", "contentMediaType", "contentSchema", "default",
    "definitions", "dependencies", "dependentRequired", "dependentSchemas", "deprecated", "description",
    "else", "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "id", "if", "items",
    "maxContains", "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems",
    "minLength", "minProperties", "minimum", "multipleOf", "not", "oneOf", "pattern", "patternProperties",
    "prefixItems", "properties", "propertyNames", "readOnly", "required", "then", "title", "type",
    "unevaluatedItems", "unevaluatedProperties", "uniqueItems", "writeOnly",
})  # fmt: skip

TYPES: Final = '"null", "boolean", "integer", "number", "string", "array" or "object"'


def refusal(schema: object, *path: str | int) -> str:
    with pytest.raises(ContentError) as caught:
        written_schema(schema, path)
    return str(caught.value)


def test_each_keyword_of_the_drafts_is_enforced_or_refused_or_says_nothing() -> None:
    assert sorted([*ANNOTATIONS, *APPLIED, *REFUSED]) == sorted(KEYWORDS)


@pytest.mark.parametrize("keyword", UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_the_path_of_its_keyword(keyword: str) -> None:
    schema, path = UNSUPPORTED[keyword]
    message = refusal(schema, "schema")
    assert message.startswith(f"schema.{path}: ")
    assert keyword.partition(" ")[0] in message


@pytest.mark.parametrize(
    "keywords",
    [
        {"title": "T", "description": "D", "default": 1, "examples": [1], "$schema": "x", "deprecated": True},
        {"uniqueItems": False, "unevaluatedItems": True, "unevaluatedProperties": True},
        {"x-ours": {"not": {}}, "nullable": True, "discriminator": {"propertyName": "kind"}},
        {"$defs": {"unused": {"not": {}}}},
    ],
)
def test_what_asks_for_nothing_is_left_out(keywords: dict[str, Any]) -> None:
    assert written_schema({"type": "array", **keywords}) == {"type": "array"}
    assert written_schema(keywords) == {}


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        (True, {}),
        ({}, {}),
        # Objects that list properties have no others, unless the schema says so.
        (
            {"type": "object", "properties": {"a": {}}},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
        ),
        (
            {"properties": {"a": True}, "additionalProperties": True},
            {"type": "object", "properties": {"a": True}, "additionalProperties": True},
        ),
        (
            {"type": "object", "properties": {}, "required": ["b"]},
            {"type": "object", "properties": {"b": True}, "required": ["b"], "additionalProperties": False},
        ),
        ({"type": "object"}, {"type": "object"}),
        ({"required": ["a"]}, {"type": "object", "required": ["a"]}),
        # Nor have arrays that list items.
        (
            {"prefixItems": [{"type": "null"}]},
            {"type": "array", "prefixItems": [{"type": "null"}], "items": False},
        ),
        (
            {"type": "array", "items": [{}, {}], "additionalItems": {"type": "null"}},
            {"type": "array", "prefixItems": [{}, {}], "items": {"type": "null"}},
        ),
        ({"items": {}, "additionalItems": False}, {"type": "array", "items": {}}),
        # Unless another schema may list more.
        (
            {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
            {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        ),
        (
            {"type": "object", "properties": {"a": {"prefixItems": [{}]}}, "anyOf": [{"required": ["a"]}]},
            {
                "type": "object",
                "properties": {"a": {"prefixItems": [{}]}},
                "anyOf": [{"required": ["a"]}],
            },
        ),
        (
            {"allOf": [{"properties": {"a": {}}}]},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
        ),
        # A type that is not named is the one whose keywords are used.
        ({"minLength": 1}, {"type": "string", "minLength": 1}),
        ({"minimum": 1, "maxItems": 2}, {"type": ["number", "array"], "minimum": 1, "maxItems": 2}),
        ({"type": ["integer", "null", "integer"]}, {"type": ["integer", "null"]}),
        # What does not limit values of the types is left out.
        ({"type": "string", "minimum": 1, "items": {"not": {}}}, {"type": "string"}),
        ({"type": "string", "maxLength": 40.0}, {"type": "string", "maxLength": 40}),
        (
            {"type": "string", "format": "date", "pattern": "^2"},
            {
                "type": "string",
                "pattern": f"^(?:{FORMATS['date']})$",
                "allOf": [{"type": "string", "pattern": "^2"}],
            },
        ),
        ({"anyOf": [{"const": 1}, {"enum": [None, "x"]}]}, {"anyOf": [{"const": 1}, {"enum": [None, "x"]}]}),
    ],
)
def test_a_schema_is_written_so_that_a_small_model_ends(schema: object, written: object) -> None:
    assert written_schema(schema) == written


@pytest.mark.parametrize(
    ("limits", "written"),
    [
        ({"minimum": 1, "maximum": 2.5}, {"minimum": 1, "maximum": 2.5}),
        ({"exclusiveMinimum": 10}, {"minimum": 10.0000000000001}),
        ({"exclusiveMaximum": 0.3}, {"maximum": 0.299999999999999}),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": -0.0}, {"minimum": 1e-9, "maximum": -1e-9}),
        ({"minimum": 3, "exclusiveMinimum": 2}, {"minimum": 3}),
        ({"minimum": 0.1 + 0.2, "maximum": 0.1 + 0.2}, {"minimum": 0.300000000000001, "maximum": 0.3}),
        ({"minimum": 5, "exclusiveMinimum": True, "exclusiveMaximum": True}, {"minimum": 5.00000000000001}),
        ({"maximum": 5, "exclusiveMaximum": False}, {"maximum": 5}),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 5.0}, {"minimum": 1, "maximum": 4}),
        ({"type": "integer", "exclusiveMinimum": 2**53 - 2}, {"minimum": 2**53 - 1}),
    ],
)
def test_limits_of_numbers_are_two_that_are_allowed(limits: dict[str, Any], written: dict[str, Any]) -> None:
    assert written_schema({"type": "number", **limits}) == {"type": limits.get("type", "number"), **written}


@pytest.mark.parametrize(
    ("reference", "target"),
    [
        ("#/$defs/plain", 0),
        ("#/$defs/a~1b", 1),
        ("#/$defs/~0~1", 2),
        ("#/$defs/%C3%A9%20%25", 3),
        ("#/$defs/größe", 4),
        ("#/$defs/list/anyOf/1", 5),
        ("#/properties/x/items", 6),
    ],
)
def test_a_reference_leads_where_its_pointer_says(reference: str, target: int) -> None:
    names = ["plain", "a/b", "~/", "é %", "größe"]
    schema = {
        "$ref": reference,
        "$defs": {
            **{name: {"const": number} for number, name in enumerate(names)},
            "list": {"anyOf": [{}, {"const": 5}]},
        },
        "properties": {"x": {"items": {"const": 6}}},
    }
    assert written_schema({"anyOf": [schema, {}]} | schema)["$defs"]["d0"] == {"const": target}


def test_a_schema_may_refer_to_itself() -> None:
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}}, "required": ["left"]}
    written = written_schema(tree)
    assert (
        written["properties"]["left"]
        == written["$defs"]["d0"]["properties"]["left"]
        == {"$ref": "#/$defs/d0"}
    )


def test_a_definition_is_open_where_it_meets_another_schema_and_closed_elsewhere() -> None:
    written = written_schema(
        {
            "$defs": {"base": {"type": "object", "properties": {"a": {}}}},
            "type": "object",
            "properties": {
                "alone": {"$ref": "#/$defs/base", "description": "says nothing"},
                "met": {"$ref": "#/$defs/base", "properties": {"b": {}}},
            },
        }
    )
    closed, opened = (
        written["properties"][name]["$ref"].removeprefix("#/$defs/") for name in ("alone", "met")
    )
    assert written["$defs"][closed]["additionalProperties"] is False
    assert "additionalProperties" not in written["$defs"][opened]


@pytest.mark.parametrize(
    "schemas",
    [
        [{"type": "string"}, {"type": ["integer", "null"]}, False],
        [{"const": 1}, {"enum": [2, "1"]}, {"const": True}, {"const": [1]}, {"const": {}}, {"const": None}],
        [
            {"properties": {"kind": {"const": kind}}, "required": ["kind"], "type": "object"}
            for kind in ("cat", "dog")
        ],
        [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
    ],
)
def test_one_of_schemas_that_are_apart_is_any_of_them(schemas: list[Any]) -> None:
    animals = {
        kind: {
            "type": "object",
            "properties": {"kind": {"$ref": f"#/$defs/{kind}_kind"}, "name": {"type": "string"}},
            "required": ["name", "kind"],
        }
        for kind in ("cat", "dog")
    }
    definitions = {**animals, "cat_kind": {"enum": ["cat", "lion"]}, "dog_kind": {"const": "dog"}}
    written = written_schema({"oneOf": schemas, "$defs": definitions})
    assert len(written["anyOf"]) == len(schemas)
    assert "oneOf" not in written


def test_what_is_too_large_is_refused() -> None:
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(MAX_DEPTH):
        deep = {"items": deep}
    assert refusal(deep).endswith(f"expected at most {MAX_DEPTH} schemas within each other")
    assert written_schema(deep["items"])
    wide = {"properties": {f"p{index}": True for index in range(501)}}
    assert refusal(wide) == "properties: expected at most 500 properties, got 501"
    many = {"enum": list(range(MAX_SIZE))}
    assert refusal(many) == f"enum: expected at most {MAX_SIZE} schemas and constants together"
    names = {"type": "object", "required": [f"p{index}" for index in range(501)]}
    assert refusal(names) == "required: expected at most 500 names, got 501"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (5, "body: expected a schema: an object, true or false, got 5"),
        (False, "body: expected a schema that something matches, got false"),
        ({"type": "text"}, f'type: expected {TYPES}, or an array of these, got "text"'),
        ({"type": []}, f"type: expected {TYPES}, or an array of these, got an array"),
        ({"properties": []}, "properties: expected an object, got an array"),
        ({"properties": {"a": 1}}, "properties.a: expected a schema: an object, true or false, got 1"),
        ({"required": "a"}, 'required: expected an array of strings, got "a"'),
        ({"required": ["a", 1]}, "required[1]: expected a string, got 1"),
        ({"minLength": -1}, "minLength: expected an integer of at least 0, got -1"),
        ({"minItems": 1.5}, "minItems: expected an integer of at least 0, got 1.5"),
        ({"pattern": 1}, "pattern: expected a string, got 1"),
        ({"minimum": "1"}, 'minimum: expected a number from -1000000000000000 to 1000000000000000, got "1"'),
        ({"type": "integer", "maximum": 2**53},
         "maximum: expected a number from -9007199254740991 to 9007199254740991, got 9007199254740992"),
        ({"multipleOf": 0}, "multipleOf: expected a number greater than 0, got 0"),
        ({"anyOf": []}, "anyOf: expected an array of one or more schemas, got an array"),
        ({"enum": "ab"}, 'enum: expected an array of one or more values, got "ab"'),
        ({"$ref": 1}, "$ref: expected a string, got 1"),
        ({"$ref": "#/$defs/nowhere"}, '$ref: "#/$defs/nowhere" leads to nothing'),
        ({"anyOf": [{}], "$ref": "#/anyOf/1"}, '$ref: "#/anyOf/1" leads to nothing'),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
         "$defs.a.$ref: it refers to itself, and says nothing else"),
        ({"enum": ["a", "b\u0001"]},
         r'enum[1]: expected a constant with no control characters but \b \f \n \r \t, got "\u0001"'),
        ({"const": {"a": [2**53]}},
         "const.a[0]: expected an integer of at most 9007199254740991 either way, got 9007199254740992"),
        ({"const": 0.1 + 0.2}, "const: expected a number of at most 15 digits, got 0.30000000000000004"),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_told(schema: object, message: str) -> None:
    assert refusal(schema) == message
