"""Texts that go on, and texts that become vectors: two groups that a server may leave out.

Knows: the shape of both answers, and what holds for the text and the vector of any model.
Refuses to know: which text or vector is right.
"""

from __future__ import annotations

import base64
import struct
from typing import Any, Final

from foundry_proto.conformance.asking import DONE, ask, stream_of
from foundry_proto.conformance.case import Section
from foundry_proto.conformance.expecting import equal, error, find, is_a, json_of, one_of, require, status
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_COMPLETIONS: Final = "/v1/completions"
_EMBEDDINGS: Final = "/v1/embeddings"
_texts = Section(
    "completions",
    group="completions",
    profiles=("openai",),
    source="OpenAI's API reference, Completions",
    needs=("model",),
)
_vectors = Section(
    "embeddings",
    group="embeddings",
    profiles=("openai", "core"),
    source="OpenAI's API reference, Create embeddings",
    needs=("embedder",),
)


def _text_body(target: Target, **changes: object) -> dict[str, object]:
    body = {"model": target.model, "prompt": "The primary colors are", "max_tokens": 8, "temperature": 0}
    return {**body, **changes}


def _completion(target: Target, **changes: object) -> Script[Any]:
    reply = yield from ask(target, "POST", _COMPLETIONS, _text_body(target, **changes))
    status(reply, 200)
    return json_of(reply)


@_texts.case("object", "An answer is a text_completion whose choice has text, index and finish_reason.")
def _text_object(target: Target) -> Script[None]:
    body = yield from _completion(target)
    equal(body, "object", "text_completion")
    is_a(body, "choices[0].text", str)
    equal(body, "choices[0].index", 0)
    one_of(body, "choices[0].finish_reason", ("stop", "length"))


@_texts.case("usage", "An answer counts its tokens.")
def _text_usage(target: Target) -> Script[None]:
    body = yield from _completion(target, max_tokens=1)
    equal(body, "usage.completion_tokens", 1)
    require(find(body, "usage.prompt_tokens") > 0, "body", "usage.prompt_tokens: expected more than 0")


@_texts.case("echo", "With echo the prompt stands before the text.", level="SHOULD")
def _echo(target: Target) -> Script[None]:
    body = yield from _completion(target, echo=True, max_tokens=2)
    said = is_a(body, "choices[0].text", str)
    require(said.startswith("The primary colors are"), "body", f"expected the prompt first, got {said!r}")


@_texts.case("prompts", "Several prompts get a choice each.", level="SHOULD")
def _prompts(target: Target) -> Script[None]:
    body = yield from _completion(target, prompt=["One, two,", "A, b,"], max_tokens=2)
    indexes = [find(one, "index") for one in is_a(body, "choices", list)]
    require(sorted(indexes) == [0, 1], "body", f"choices: expected the indexes 0 and 1, got {indexes}")


@_texts.case("stream", "A stream's text is the text of the same answer whole, and it ends with data: [DONE].")
def _text_stream(target: Target) -> Script[None]:
    whole = find((yield from _completion(target)), "choices[0].text")
    streamed = yield from stream_of(target, _COMPLETIONS, _text_body(target, stream=True))
    said = "".join(choice["text"] for event in streamed.events for choice in event["choices"])
    require(said == whole, "stream", f"expected {whole!r}, got {said!r}")
    require(streamed.done, "stream", f"expected data: {DONE} at the end, got the end")


_REFUSED_TEXTS: Final[tuple[tuple[str, str, dict[str, object]], ...]] = (
    ("model", "A model that is not there is refused.", {"model": "no-such-model:1"}),
    ("prompt", "A prompt that is an object is refused.", {"prompt": {"text": "a"}}),
    ("temperature", "A temperature above 2 is refused.", {"temperature": 3}),
)


def _add_text(name: str, requirement: str, changes: dict[str, object]) -> None:
    def script(target: Target) -> Script[None]:
        error((yield from ask(target, "POST", _COMPLETIONS, _text_body(target, **changes))), 400, 404, 422)

    _texts.add(f"refuses.{name}", requirement, script)


for _row in _REFUSED_TEXTS:
    _add_text(*_row)


def _embedded(target: Target, given: object, **more: object) -> Script[Any]:
    body = {"model": target.embedder, "input": given, **more}
    reply = yield from ask(target, "POST", _EMBEDDINGS, body)
    status(reply, 200)
    return json_of(reply)


@_vectors.case("one", "A text gets one embedding: an array of numbers.")
def _one(target: Target) -> Script[None]:
    body = yield from _embedded(target, "Hello")
    equal(body, "object", "list")
    equal(body, "data[0].object", "embedding")
    equal(body, "data[0].index", 0)
    for number in is_a(body, "data[0].embedding", list):
        require(isinstance(number, float | int), "body", f"expected numbers, got {number!r}")


@_vectors.case("several", "Several texts get one embedding each, in their order, and all of one length.")
def _several(target: Target) -> Script[None]:
    data = is_a((yield from _embedded(target, ["a", "b", "c"])), "data", list)
    indexes = [find(one, "index") for one in data]
    require(indexes == [0, 1, 2], "body", f"index: expected 0, 1 and 2, got {indexes}")
    lengths = {len(find(one, "embedding")) for one in data}
    require(len(lengths) == 1, "body", f"expected embeddings of one length, got {sorted(lengths)}")


@_vectors.case("usage", "An answer counts the tokens of its inputs.")
def _vector_usage(target: Target) -> Script[None]:
    body = yield from _embedded(target, "Hello")
    is_a(body, "usage.prompt_tokens", int)
    equal(body, "usage.total_tokens", find(body, "usage.prompt_tokens"))


@_vectors.case(
    "base64",
    "base64 gives the same numbers as 32-bit floats.",
    source="OpenAI's clients, which ask for it by default",
)
def _base64(target: Target) -> Script[None]:
    plain = is_a((yield from _embedded(target, "Hello", encoding_format="float")), "data[0].embedding", list)
    body = yield from _embedded(target, "Hello", encoding_format="base64")
    raw = base64.b64decode(is_a(body, "data[0].embedding", str))
    numbers = struct.unpack(f"<{len(raw) // 4}f", raw[: len(raw) // 4 * 4])
    close = len(numbers) == len(plain) and all(abs(a - b) < 1e-3 for a, b in zip(numbers, plain, strict=True))
    require(close, "body", "expected the same numbers in both forms, got others")


_REFUSED_VECTORS: Final[tuple[tuple[str, str, dict[str, object]], ...]] = (
    ("none", "An empty array of inputs is refused.", {"input": []}),
    ("missing", "A request without input is refused.", {}),
    ("number", "An input that is a number is refused.", {"input": 5}),
    ("model", "A model that is not there is refused.", {"input": "a", "model": "no-such-model:1"}),
    ("format", "An encoding_format that nobody knows is refused.", {"input": "a", "encoding_format": "hex"}),
)


def _add_vector(name: str, requirement: str, changes: dict[str, object]) -> None:
    def script(target: Target) -> Script[None]:
        body = {"model": target.embedder or target.model, **changes}
        error((yield from ask(target, "POST", _EMBEDDINGS, body)), 400, 404, 422)

    _vectors.add(f"refuses.{name}", requirement, script, needs=("model",))


for _vector in _REFUSED_VECTORS:
    _add_vector(*_vector)


CASES = (*_texts.cases, *_vectors.cases)
