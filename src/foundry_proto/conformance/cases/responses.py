"""Responses and transcriptions: two groups of the newer service that a server may leave out.

Knows: the least that every client of theirs reads. Refuses to know: how well a text or a transcription fits.
"""

from __future__ import annotations

from typing import Any, Final

from foundry_proto.conformance.asking import LEFT_OUT, ask, events_of
from foundry_proto.conformance.case import Section
from foundry_proto.conformance.expecting import (
    equal,
    error,
    find,
    is_a,
    json_of,
    one_of,
    require,
    status,
    text,
)
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_PATH: Final = "/v1/responses"
_AUDIO: Final = "/v1/audio/transcriptions"
_responses = Section(
    "responses",
    group="responses",
    profiles=("core", "openai"),
    source="OpenAI's API reference, Responses",
    needs=("model",),
)
_audio = Section(
    "audio",
    group="audio",
    profiles=("core",),
    source="the newer service, POST /v1/audio/transcriptions",
)


def _body(target: Target, **changes: object) -> dict[str, object]:
    body = {"model": target.model, "input": "Name three primary colors.", "max_output_tokens": 16, **changes}
    return {name: value for name, value in body.items() if value is not LEFT_OUT}


def _response(target: Target, **changes: object) -> Script[Any]:
    reply = yield from ask(target, "POST", _PATH, _body(target, **changes))
    status(reply, 200)
    return json_of(reply)


@_responses.case("object", "A response has an id, its model and its output.")
def _object(target: Target) -> Script[None]:
    body = yield from _response(target)
    equal(body, "object", "response")
    text(body, "id")
    text(body, "model")
    one_of(body, "status", ("completed", "incomplete"))


@_responses.case("output", "A response's output has a message whose content is output_text.")
def _output(target: Target) -> Script[None]:
    output = is_a((yield from _response(target)), "output", list)
    messages = [item for item in output if find(item, "type") == "message"]
    require(messages, "body", "output: expected a message, got none")
    equal(messages[0], "role", "assistant")
    equal(messages[0], "content[0].type", "output_text")
    is_a(messages[0], "content[0].text", str)


@_responses.case("usage", "A response counts its tokens.")
def _usage(target: Target) -> Script[None]:
    body = yield from _response(target)
    given, made, total = (is_a(body, f"usage.{name}_tokens", int) for name in ("input", "output", "total"))
    require(total == given + made, "body", f"usage.total_tokens: expected the sum, got {total}")


@_responses.case("items", "An input may be an array of messages.")
def _items(target: Target) -> Script[None]:
    yield from _response(target, input=[{"role": "user", "content": "Hello"}])


_REFUSED: Final[tuple[tuple[str, str, dict[str, object]], ...]] = (
    ("model.missing", "A request without a model is refused.", {"model": LEFT_OUT}),
    ("model.unknown", "A model that is not there is refused.", {"model": "no-such-model:1"}),
    ("input.missing", "A request without input is refused.", {"input": LEFT_OUT}),
    ("input.number", "An input that is a number is refused.", {"input": 42}),
    ("item.text", "An item of an input that is a string is refused.", {"input": ["Hello"]}),
    ("item.roleless", "A message without a role is refused.", {"input": [{"content": "Hello"}]}),
)


def _add(name: str, requirement: str, changes: dict[str, object]) -> None:
    def script(target: Target) -> Script[None]:
        error((yield from ask(target, "POST", _PATH, _body(target, **changes))), 400, 404, 422)

    _responses.add(f"refuses.{name}", requirement, script)


for _row in _REFUSED:
    _add(*_row)


@_responses.case("stored", "A response that is kept can be had by its id, and deleted.")
def _stored(target: Target) -> Script[None]:
    body = yield from _response(target, store=True)
    path = f"{_PATH}/{text(body, 'id')}"
    again = yield from ask(target, "GET", path)
    status(again, 200)
    equal(json_of(again), "id", find(body, "id"))
    deleted = yield from ask(target, "DELETE", path)
    status(deleted, 200)
    equal(json_of(deleted), "deleted", True)
    error((yield from ask(target, "GET", path)), 404)


@_responses.case("stored.not", "A response that is not kept cannot be had.")
def _not_stored(target: Target) -> Script[None]:
    body = yield from _response(target, store=False)
    error((yield from ask(target, "GET", f"{_PATH}/{text(body, 'id')}")), 404)


@_responses.case(
    "stream", "A stream begins with response.created, and ends with response.completed or incomplete."
)
def _stream(target: Target) -> Script[None]:
    reply = yield from ask(target, "POST", _PATH, _body(target, stream=True))
    status(reply, 200)
    events = events_of(reply).events
    equal(events[0], "type", "response.created")
    one_of(events[-1], "type", ("response.completed", "response.incomplete"))


@_responses.case("stream.numbers", "A stream's events are numbered from 0, without a gap.")
def _numbers(target: Target) -> Script[None]:
    reply = yield from ask(target, "POST", _PATH, _body(target, stream=True))
    numbers = [find(event, "sequence_number") for event in events_of(reply).events]
    expected = list(range(len(numbers)))
    require(
        numbers == expected, "stream", f"sequence_number: expected 0 to {len(numbers) - 1}, got {numbers}"
    )


_REFUSED_AUDIO: Final[tuple[tuple[str, str, object], ...]] = (
    ("empty", "An empty body is refused.", b""),
    ("json", "A body that is no JSON is refused.", b"{invalid json"),
    ("filename", "A request without a file's name is refused.", {"model": "no-such-model:1"}),
    (
        "file",
        "A file that is not there is refused.",
        {"model": "no-such-model:1", "filename": "/no/such/file.wav"},
    ),
    ("model", "A model that is not there is refused.", {"model": "no-such-model:1", "filename": "/a.wav"}),
)


def _add_audio(name: str, requirement: str, body: object) -> None:
    def script(target: Target) -> Script[None]:
        error((yield from ask(target, "POST", _AUDIO, body)), 400, 404, 415, 422)

    _audio.add(f"refuses.{name}", requirement, script)


for _sound in _REFUSED_AUDIO:
    _add_audio(*_sound)


CASES = (*_responses.cases, *_audio.cases)
