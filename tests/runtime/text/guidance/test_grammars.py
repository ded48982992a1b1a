"""Whatever a model chooses, what it says has the form that was asked for; and numbers end."""

from __future__ import annotations

import json
import re

import jsonschema
import numpy as np
import pytest

from foundry_proto.jsontext import ContentError
from foundry_runtime.engine.text.guidance import grammars
from foundry_runtime.engine.text.guidance._library import GuidanceError, Limits
from foundry_runtime.engine.text.guidance.forms import Json, Literal, OneOf, Regex, Then
from tests.runtime.text.guidance.walking import Walker
from tests.support.json_schemas import UNSUPPORTED, random_schema, wild_schema

WILD = 250


def check(schema: object, text: str) -> None:
    jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(json.loads(text))


def test_what_is_said_is_valid_for_a_schema_of_the_supported_kinds(walker: Walker) -> None:
    for seed in range(60):
        schema = random_schema(seed)
        text = walker.walk(walker.guidance.compile(Json(schema)), seed)
        assert text is not None, seed
        check(schema, text)


def test_what_is_said_is_valid_for_any_schema_that_is_not_refused(walker: Walker) -> None:
    """Keywords in any company: those that the engine would get wrong must be among the refused."""
    said = 0
    for seed in range(WILD):
        schema = wild_schema(seed)
        try:
            grammar = walker.guidance.compile(Json(schema))
        except ContentError:
            continue
        for walk in range(2):
            text = walker.walk(grammar, walk, most=300)
            if text is not None:
                check(schema, text)
                said += 1
    assert said > WILD // 2


@pytest.mark.parametrize("keyword", UNSUPPORTED)
def test_what_is_not_supported_never_compiles(walker: Walker, keyword: str) -> None:
    with pytest.raises(ContentError):
        walker.guidance.compile(Json(UNSUPPORTED[keyword][0]))


MANY = [{"anyOf": [{"properties": {f"k{i}{j}": {"type": "string"}}} for j in range(10)]} for i in range(6)]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            {"type": "string", "minLength": 2, "maxLength": 1},
            "no value is valid: minLength (2) is greater than maxLength (1)",
        ),
        ({"enum": ["a"], "type": "integer"}, "no value is valid: incompatible types"),
        (
            {"type": "string", "pattern": "^a$", "minLength": 2},
            "no value is valid: no text has the pattern and the length that are asked for",
        ),
        (
            {"type": "object", "patternProperties": {"^a": {}, "b$": {}}},
            "patternProperties: supported only where no name can match two of the patterns",
        ),
        (
            {"properties": {"a": {}, "b": {}}, "maxProperties": 1, "additionalProperties": True},
            "minProperties, maxProperties: supported only where all listed properties are required",
        ),
        ({"allOf": MANY}, "following it would take too much time or memory"),
        (
            {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"type": "object"}]}}, "$ref": "#/$defs/a"},
            "$ref: a schema that refers to itself cannot have other keywords beside the reference",
        ),
    ],
)
def test_what_the_engine_refuses_is_told_in_words(walker: Walker, schema: object, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        walker.guidance.compile(Json(schema, ("schema",)))
    assert str(caught.value) == f"schema: {message}"


def endless(walker: Walker, form: Json | Then | Regex, most: int = 200) -> str:
    """What a model says that wants nothing but digits, then whatever ends the soonest."""
    guide = walker.guidance.compile(form).begin()
    said: list[int] = []
    for _ in range(most):
        logits = np.zeros(walker.rows, dtype=np.float32)
        for token, text in enumerate(walker.tokenizer.token_bytes):
            logits[token] = 5.0 if text.isdigit() else 4.0 if text in {b".", b"e"} else -len(text)
        guide.constrain(logits)
        token = int(logits.argmax())
        guide.accept(token)
        if token in walker.end_ids:
            break
        said.append(token)
        if guide.complete:
            break
    return walker.tokenizer.decode(said)


@pytest.mark.parametrize(
    "form",
    [
        Json({"type": "number"}),
        Json({"type": "integer"}),
        Json({"type": "number", "minimum": 0.5}),
        Json({"type": "array", "items": {"type": "number"}, "maxItems": 2}),
        Json({"type": "object", "properties": {"a": {}, "b": {"type": "number"}}, "required": ["a", "b"]}),
        Then((Literal("<call>"), Json({"type": "number"}), Literal("</call>"))),
    ],
    ids=str,
)
def test_digits_come_to_an_end_where_a_number_may(walker: Walker, form: Json | Then) -> None:
    text = endless(walker, form)
    assert len(text) < 150
    for digits in re.findall(r"[0-9]+", text):
        assert len(digits) <= 16 + 4  # a token may have several
    for exponent in re.findall(r"e[+-]?([0-9]+)", text):
        assert len(exponent) <= 2 + 4
    value = json.loads(text.removeprefix("<call>").removesuffix("</call>"))
    assert "Infinity" not in json.dumps(value)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Json({"type": "string", "pattern": "^[0-9]{30,40}$"}), '"' + "1234567890" * 3 + '"'),
        (Json({"type": "string"}), '"' + "1234567890" * 3 + '"'),
        (Json({"type": "string", "format": "uuid"}), '"12345678-1234-1234-1234-123456789012"'),
        (Json({"type": "string", "pattern": "^[0-9a-f]*$"}), '"e12345678901234567890"'),
        (Json({"const": 1e20}), "1" + "0" * 20),
        (Regex("[0-9]+,"), "1234567890" * 3 + ","),
        (OneOf((Regex("[0-9]+"), Json({"type": "string"}))), '"' + "1234567890" * 3 + '"'),
    ],
    ids=str,
)
def test_digits_that_are_no_number_or_must_be_more_are_left_alone(
    walker: Walker, form: Json | OneOf, text: str
) -> None:
    assert walker.accepts(form, text)


def test_a_grammar_that_becomes_too_costly_fails_its_job_alone(
    walker: Walker, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(*(getattr(grammars._LIMITS, name) for name, *_ in Limits._fields_))
    limits.max_lexer_states = 40
    monkeypatch.setattr(grammars, "_LIMITS", limits)
    grammar = walker.guidance.compile(Regex("(.*a){20}.{50}b.*"))
    with pytest.raises(GuidanceError, match="too many states"):
        walker.walk(grammar)
    assert walker.walk(walker.guidance.compile(Json({"const": 1}))) == "1"
