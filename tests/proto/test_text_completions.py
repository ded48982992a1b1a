"""Text completions: OpenAI's own example, the four forms of a prompt, and each refused property in words."""

from __future__ import annotations

import json

import pytest

from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.messages.text_completions import TextCompletion, TextCompletionRequest

EXAMPLE_REQUEST = b"""{
  "model": "gpt-3.5-turbo-instruct", "prompt": "Say this is a test", "max_tokens": 7, "temperature": 0.0
}"""

EXAMPLE_RESPONSE = b"""{
  "id": "cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7", "object": "text_completion", "created": 1589478378,
  "model": "gpt-3.5-turbo-instruct",
  "choices": [
    {"text": "\\n\\nThis is indeed a test", "index": 0, "logprobs": null, "finish_reason": "length"}
  ],
  "system_fingerprint": "fp_44709d6fcb",
  "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
}"""


@pytest.mark.parametrize(
    ("message", "example"), [(TextCompletionRequest, EXAMPLE_REQUEST), (TextCompletion, EXAMPLE_RESPONSE)]
)
def test_openais_example_is_read_and_written_as_it_stands(message: type, example: bytes) -> None:
    assert encode(decode(message, example)) == json.dumps(json.loads(example), separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("written", "read"),
    [('"a"', "a"), ('["a",""]', ("a", "")), ("[1,2]", (1, 2)), ("[[1],[2,3]]", ((1,), (2, 3)))],
)
def test_a_prompt_has_four_forms(written: str, read: object) -> None:
    request = decode(TextCompletionRequest, f'{{"model":"m","prompt":{written}}}'.encode())
    assert request.prompt == read


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ('"prompt":[]', "prompt: expected at least 1 item, got 0"),
        (f'"prompt":{json.dumps(["a"] * 129)}', "prompt: expected at most 128 items, got 129"),
        ('"prompt":["a",1]', "prompt[1]: expected a string, got 1"),
        ('"prompt":"a","n":0', "n: expected an integer from 1 to 128, got 0"),
        ('"prompt":"a","best_of":129', "best_of: expected an integer from 1 to 128, got 129"),
        ('"prompt":"a","logprobs":true', "logprobs: expected an integer from 0 to 20, got true"),
        ('"prompt":"a","max_tokens":0', "max_tokens: expected an integer from 1 to 2147483647, got 0"),
        ('"prompt":"a","stop":["a","b","c","d","e"]', "stop: expected at most 4 items, got 5"),
        ('"prompt":"a","echo":"yes"', 'echo: expected true or false, got "yes"'),
        ('"max_tokens":1', "prompt: expected a string, an array of one or more strings, an array"),
    ],
)
def test_a_wrong_property_is_named_with_what_was_expected(members: str, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        decode(TextCompletionRequest, f'{{"model":"m",{members}}}'.encode())
    assert str(caught.value).startswith(message)
