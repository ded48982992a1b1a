"""The real model gives valid JSON for any schema that is supported, and the others are refused."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from foundry_runtime.engine.text.guidance.forms import Json
from foundry_runtime.engine.text.guidance.grammars import Guidance
from foundry_runtime.engine.text.tokenizer import Tokenizer
from foundry_runtime.models.folder import ModelFolder
from tests.support.json_schemas import UNSUPPORTED, random_schema

pytestmark = pytest.mark.model


def ask(base_url: str, schema: object, **more: object) -> tuple[int, dict[str, Any]]:
    body = {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "Make up an example of a record, as JSON."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "record", "schema": schema}},
        **more,
    }
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{base_url}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_what_the_real_model_says_is_valid_or_the_beginning_of_something_valid(
    base_url: str, default_model: Path
) -> None:
    folder = ModelFolder.read(default_model)
    tokenizer = Tokenizer.load(folder.path, rows=folder.vocab_size)
    guidance = Guidance(tokenizer, end_ids=folder.end_ids, rows=folder.vocab_size)
    schemas = [random_schema(seed) for seed in range(10)]
    with ThreadPoolExecutor(5) as threads:
        replies = list(threads.map(lambda schema: ask(base_url, schema, max_tokens=30, seed=1), schemas))
    reasons = set()
    for schema, (status, reply) in zip(schemas, replies, strict=True):
        assert status == 200, reply
        (choice,) = reply["choices"]
        text, reason = choice["message"]["content"], choice["finish_reason"]
        reasons.add(reason)
        if reason == "stop":
            validator = jsonschema.Draft202012Validator
            validator(schema, format_checker=validator.FORMAT_CHECKER).validate(json.loads(text))
        else:
            guide = guidance.compile(Json(schema)).begin()
            # A character that was cut stands there as U+FFFD.
            for token in tokenizer.encode_pieces([text.rstrip("\ufffd")])[0]:
                guide.accept(token)  # raises where the grammar does not allow it
    assert reasons == {"stop", "length"}


def test_what_cannot_be_enforced_is_refused_by_the_name_of_its_keyword(base_url: str) -> None:
    for keyword, (schema, path) in list(UNSUPPORTED.items())[:10]:
        status, reply = ask(base_url, schema)
        error = reply["error"]
        assert (status, error["param"]) == (400, f"response_format.json_schema.schema.{path}")
        assert keyword in error["message"]
