"""The OpenAPI document: each row's parameters, bodies and statuses, and nothing that the row does not say."""

from __future__ import annotations

import json
from typing import Any

import attrs
import jsonschema
import pytest
from attrs import evolve

from foundry_proto.codec import encode
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.openapi import openapi_document, statuses
from foundry_proto.operations import ALL, CHAT_COMPLETIONS, WATCH, Operations
from foundry_proto.streams import PROGRESS
from tests.support.fakes import COPY, DROP, FAKES, FIND, PUT


def described(operations: Operations = FAKES) -> Any:
    return json.loads(encode(openapi_document(operations)))


def test_parameters_are_the_words_of_path_and_query() -> None:
    find = described()["paths"]["/widgets/{name}"]["get"]
    assert (find["operationId"], find["summary"], find["tags"]) == ("find", FIND.summary, ["documented"])
    assert "requestBody" not in find
    assert find["parameters"] == [
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
        {
            "name": "colour",
            "in": "query",
            "required": False,
            "schema": {"type": "string", "enum": ["red", "green"]},
        },
        {"name": "count", "in": "query", "required": False, "schema": {"type": "integer"}},
    ]


def test_rows_at_one_path_and_further_methods_are_told_apart() -> None:
    methods = described()["paths"]["/widgets/{name}"]
    assert {method: one["operationId"] for method, one in methods.items()} == {
        "get": "find",
        "put": "put",
        "post": "put_post",
    }
    assert methods["put"]["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Widget"}}},
    }


def test_a_row_answers_with_what_it_says_and_with_what_follows_from_it() -> None:
    assert statuses(DROP) == (400, 413)
    assert statuses(PUT) == (400, 408, 413, 415)
    assert statuses(evolve(DROP, local=True, failures=(503, 404))) == (400, 403, 404, 413, 503)
    answers = described()["paths"]["/widgets/{name}"]["put"]["responses"]
    assert list(answers) == ["200", "400", "408", "413", "415"]
    assert answers["200"] == {"description": "OK"}
    assert answers["400"] == {
        "description": "Bad Request",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CompatibleErrorBody"}}},
    }


def test_a_stream_of_events_is_described_by_one_of_them() -> None:
    answers = described()["paths"]["/v1/chat/completions"]["post"]["responses"]
    content = {
        "anyOf": [
            {"$ref": "#/components/schemas/ChatCompletionChunk"},
            {"$ref": "#/components/schemas/ErrorBody"},
        ]
    }
    message = {"contentMediaType": "application/json", "contentSchema": content}
    assert answers["200"]["content"]["text/event-stream"]["schema"] == {
        "type": "object",
        "properties": {"data": {"type": "string", "anyOf": [{"const": "[DONE]"}, message]}},
        "required": ["data"],
    }


def test_any_other_stream_is_a_text() -> None:
    assert PROGRESS.schema(str, str) == {"type": "string"}
    answers = described()["paths"]["/v1/copies"]["post"]["responses"]
    widget = {"$ref": "#/components/schemas/Widget"}
    assert answers["200"]["content"] == {
        "application/json": {"schema": widget},
        "text/plain": {"schema": {"type": "string"}},
    }
    failure = answers["400"]["content"]["application/json"]["schema"]
    assert failure == {"$ref": "#/components/schemas/ErrorBody"}


def test_only_what_is_used_is_described() -> None:
    document = described(Operations([evolve(COPY, profile="core")]))
    assert document["tags"] == [
        {"name": "core", "description": "The routes of Foundry Local's newer service."}
    ]
    assert set(document["components"]["schemas"]) == {"Widget", "ErrorBody", "ErrorDetail"}
    assert document["openapi"] == "3.1.0"


def test_every_reference_of_the_whole_document_leads_somewhere() -> None:
    document = described(ALL)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    referred: set[str] = set()
    waiting: list[Any] = [document]
    while waiting:
        match waiting.pop():
            case {"$ref": str(name)}:
                referred.add(name)
            case dict(inner):
                waiting += inner.values()
            case list(inner):
                waiting += inner
    assert referred == names


def test_a_websocket_is_described_by_what_is_said_on_it() -> None:
    row = described(Operations([WATCH]))["paths"]["/foundry/watch"]["get"]
    assert "requestBody" not in row
    assert list(row["responses"]) == ["101", "400", "403", "413", "426"]
    assert row["responses"]["101"] == {"description": "Switching Protocols"}
    names = [one["$ref"].rpartition("/")[2] for one in row["x-websocket-messages"]["client"]["anyOf"]]
    assert names == ["WatchRequest", "ChatCall", "CancelCall"]
    assert {"$ref": "#/components/schemas/CallChunk"} in row["x-websocket-messages"]["server"]["anyOf"]


def test_the_reference_pages_names_are_those_of_the_document() -> None:
    document = described(Operations([CHAT_COMPLETIONS]))
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/ChatCompletionCreateRequest"}
    properties = document["components"]["schemas"]["ChatCompletionCreateRequest"]["properties"]
    assert list(properties) == [one.name for one in attrs.fields(ChatCompletionRequest)]


@pytest.mark.parametrize("operation", tuple(ALL), ids=lambda row: row.name)
def test_every_row_can_be_described(operation: Any) -> None:
    placed = {part[1:-1] for part in operation.path.split("/") if part.startswith("{")}
    for one in described(Operations([operation]))["paths"][operation.path].values():
        assert {row["name"] for row in one["parameters"] if row["in"] == "path"} == placed
        assert one["summary"].endswith(".")
