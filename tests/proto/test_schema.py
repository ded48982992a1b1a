"""JSON Schemas of messages: they allow what the codec allows, and say so in the shortest words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

import jsonschema
import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundry_proto.codec import encode
from foundry_proto.errors import LocalProtocolError
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion
from foundry_proto.messages.errors import CompatibleErrorBody
from foundry_proto.messages.models import ModelInfo
from foundry_proto.messages.service import ServiceStatus
from foundry_proto.schema import Direction, Schemas
from foundry_proto.sentinels import ABSENT, Absent, Maybe
from foundry_proto.wire import Between, Items, Wire
from tests.proto.test_messages import REFUSED, request
from tests.support.strategies import values_of


@frozen(kw_only=True)
class Leaf:
    """A leaf.

    It may be green.
    """

    colour: Literal["green", "red"] = "green"
    size: Maybe[int] = None


@frozen(kw_only=True)
class Branch:
    """A branch."""

    WIRE: ClassVar = Wire(writes=("camel", "pascal"), schema="Limb")
    best_leaf: Leaf
    branches: tuple[Branch, ...] = ()


def schema_of(tp: Any, direction: Direction = "read") -> Any:
    return Schemas(read=[tp], written=[tp]).of(tp, direction)


@pytest.mark.parametrize(
    ("tp", "expected"),
    [
        (str, {"type": "string"}),
        (object, {}),
        (type(None), {"type": "null"}),
        (bool | Absent | None, {"type": ["boolean", "null"]}),
        (int | Absent, {"type": "integer"}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal["a"] | None, {"type": ["string", "null"], "enum": ["a", None]}),
        (Literal[False], {"type": "boolean", "enum": [False]}),
        (Annotated[float, Between(0, 2)], {"type": "number", "minimum": 0, "maximum": 2}),
        (
            Annotated[int, Between(-1, 1)] | None,
            {"type": ["integer", "null"], "minimum": -1, "maximum": 1},
        ),
        (
            Annotated[tuple[str, ...], Items(most=4)],
            {"type": "array", "items": {"type": "string"}, "maxItems": 4},
        ),
        (
            Annotated[tuple[int, ...], Items(least=1, most=2)],
            {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        ),
        (Mapping[str, object], {"type": "object", "additionalProperties": {}}),
        (Leaf | None, {"anyOf": [{"$ref": "#/components/schemas/LeafInput"}, {"type": "null"}]}),
        (
            str | tuple[str, ...] | None,
            {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}},
                    {"type": "null"},
                ]
            },
        ),
    ],
    ids=str,
)
def test_an_annotation_becomes_a_schema(tp: Any, expected: object) -> None:
    assert schema_of(tp) == expected


def test_what_is_no_annotation_of_messages_is_misuse() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        schema_of(bytes)
    assert str(caught.value) == "schema: expected an annotation that messages have, got <class 'bytes'>"


def test_a_class_that_is_read_otherwise_than_written_has_two_schemas() -> None:
    components = Schemas(read=[Branch], written=[Branch]).components()
    leaf = {
        "type": "object",
        "description": "A leaf.",
        "properties": {
            "colour": {"type": "string", "enum": ["green", "red"]},
            "size": {"type": ["integer", "null"]},
        },
    }

    def branch(suffix: str, *names: str) -> dict[str, Any]:
        one = {"$ref": f"#/components/schemas/Leaf{suffix}"}
        several = {"type": "array", "items": {"$ref": f"#/components/schemas/Limb{suffix}"}}
        properties = {name: several if name.lower() == "branches" else one for name in names}
        return {"type": "object", "description": "A branch.", "properties": properties}

    assert components == {
        "LimbInput": {**branch("Input", "bestLeaf", "branches"), "required": ["bestLeaf"]},
        "LeafInput": leaf,
        "Limb": {
            **branch("", "bestLeaf", "branches", "BestLeaf", "Branches"),
            "required": ["bestLeaf", "branches", "BestLeaf", "Branches"],
        },
        "Leaf": {**leaf, "required": ["colour"]},
    }


def test_a_class_that_is_read_as_it_is_written_has_one_schema() -> None:
    both = Schemas(read=[ChatCompletionRequest], written=[ChatCompletion]).components()
    # A function call is part of what an assistant said, and of what it says.
    assert "FunctionCall" in both
    assert "FunctionCallInput" not in both
    assert {"ToolCall", "ToolCallInput", "ChatCompletionCreateRequest"} <= set(both)
    assert "ChatCompletionRequest" not in both


@cache
def validator(tp: Any, direction: Direction) -> jsonschema.Draft202012Validator:
    schemas = Schemas(read=[tp], written=[tp])
    document = {**schemas.of(tp, direction), "components": {"schemas": schemas.components()}}
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize(
    "cls", [ChatCompletionRequest, ChatCompletion, ModelInfo, CompatibleErrorBody, ServiceStatus]
)
@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_written_is_allowed_to_be_read(cls: type, data: st.DataObject) -> None:
    written = json.loads(encode(data.draw(values_of(cls))))
    validator(cls, "read").validate(written)


@pytest.mark.parametrize("cls", [ChatCompletion, ModelInfo, CompatibleErrorBody, ServiceStatus])
@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_written_is_as_its_schema_says(cls: type, data: st.DataObject) -> None:
    validator(cls, "written").validate(json.loads(encode(data.draw(values_of(cls)))))


_CHAT = validator(ChatCompletionRequest, "read")
_SMALL = [row for row in REFUSED if len(str(row)) < 10_000]


@pytest.mark.parametrize(("properties", "message"), _SMALL, ids=[message[:60] for _, message in _SMALL])
def test_what_the_codec_refuses_the_schema_refuses(properties: dict[str, Any], message: str) -> None:
    _CHAT.validate(json.loads(request()))
    assert not _CHAT.is_valid(json.loads(request(**properties)))


def test_a_field_that_stays_away_by_default_is_not_promised() -> None:
    components = Schemas(read=[], written=[Choosy]).components()
    assert components["Choosy"]["properties"] == {"anything": {}, "more": {}}
    assert components["Choosy"]["required"] == ["more"]


@frozen(kw_only=True)
class Choosy:
    anything: object = ABSENT
    more: object = None
