"""Chats that cannot be answered: each is refused with a 4xx and a reason, before anything is generated.

Knows: one row for each mistake. Refuses to know: a property's type and range, whose cases follow from the
table of operations (`derived.py`).
"""

from __future__ import annotations

from typing import Any, Final

from foundry_proto.conformance.asking import CHAT, LEFT_OUT, ask, chat, chat_body
from foundry_proto.conformance.case import ALL_PROFILES, Level, Section
from foundry_proto.conformance.expecting import error, find, require, says_no_model
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target
from foundry_proto.jsontext import dump_json

__all__ = ["CASES"]

_refused = Section(
    "chat.refuses",
    group="chat",
    profiles=ALL_PROFILES,
    source="the REST reference page, POST /v1/chat/completions",
    needs=("model",),
)
_OPENAI: Final = "OpenAI's API reference, Chat"
_JSON: Final = "RFC 8259"


def _user(content: object) -> list[object]:
    return [{"role": "user", "content": content}]


_TOOL: Final = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}

_ROWS: Final[tuple[tuple[str, Level, str, dict[str, object]], ...]] = (
    ("model.missing", "MUST", "A request without a model is refused.", {"model": LEFT_OUT}),
    ("model.empty", "MUST", "A request whose model is empty is refused.", {"model": ""}),
    (
        "model.unknown",
        "MUST",
        "A request for a model that is not there is refused.",
        {"model": "no-such-model:1"},
    ),
    ("messages.missing", "MUST", "A request without messages is refused.", {"messages": LEFT_OUT}),
    ("messages.empty", "MUST", "A request whose messages are none is refused.", {"messages": []}),
    ("messages.text", "MUST", "Messages that are no array are refused.", {"messages": "Hello"}),
    ("message.text", "MUST", "A message that is no object is refused.", {"messages": ["Hello"]}),
    ("role.missing", "MUST", "A message without a role is refused.", {"messages": [{"content": "Hello"}]}),
    (
        "role.unknown",
        "SHOULD",
        "A message of an unknown role is refused.",
        {"messages": [{"role": "banana", "content": "Hello"}]},
    ),
    (
        "content.missing",
        "SHOULD",
        "A user's message without content is refused.",
        {"messages": [{"role": "user"}]},
    ),
    ("content.number", "MUST", "A message whose content is a number is refused.", {"messages": _user(5)}),
    (
        "content.object",
        "MUST",
        "A message whose content is an object is refused.",
        {"messages": _user({"text": "Hello"})},
    ),
    (
        "part.unknown",
        "SHOULD",
        "A part of an unknown type is refused, not left out.",
        {"messages": _user([{"type": "smell", "smell": "roses"}])},
    ),
    (
        "part.text-missing",
        "SHOULD",
        "A text part without text is refused.",
        {"messages": _user([{"type": "text"}])},
    ),
    (
        "part.image",
        "SHOULD",
        "An image for a model that sees none is refused, not left out.",
        {"messages": _user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])},
    ),
    ("stop.five", "SHOULD", "More than four stop texts are refused.", {"stop": ["a", "b", "c", "d", "e"]}),
    ("n.zero", "SHOULD", "A request for no answer is refused.", {"n": 0}),
    ("limit.zero", "SHOULD", "A limit of no tokens is refused.", {"max_tokens": 0}),
    ("limit.negative", "SHOULD", "A negative limit is refused.", {"max_tokens": -5}),
    ("limit.fraction", "SHOULD", "A limit that is no whole number is refused.", {"max_tokens": 1.5}),
    ("temperature.above", "MUST", "A temperature above 2 is refused.", {"temperature": 2.1}),
    ("temperature.below", "MUST", "A temperature below 0 is refused.", {"temperature": -0.1}),
    (
        "temperature.text",
        "SHOULD",
        "A temperature that is text is refused, also if it looks like a number.",
        {"temperature": "0.5"},
    ),
    ("penalty.above", "SHOULD", "A penalty above 2 is refused.", {"presence_penalty": 2.5}),
    ("stream.text", "SHOULD", "A stream that is neither true nor false is refused.", {"stream": "yes"}),
    ("bias.range", "SHOULD", "A bias above 100 is refused.", {"logit_bias": {"5": 101}}),
    ("bias.token", "SHOULD", "A bias for what is no token is refused.", {"logit_bias": {"red": 1}}),
    (
        "tools.custom",
        "SHOULD",
        "A tool of a kind that the server does not have is refused by name.",
        {"tools": [{"type": "custom", "custom": {"name": "look"}}]},
    ),
    (
        "tools.nameless",
        "SHOULD",
        "A function without a name is refused.",
        {"tools": [{"type": "function", "function": {}}]},
    ),
    (
        "choice.unknown",
        "SHOULD",
        "A tool_choice that is none is refused.",
        {"tools": [_TOOL], "tool_choice": "banana"},
    ),
    (
        "choice.absent",
        "SHOULD",
        "A named function that is not offered is refused.",
        {"tools": [_TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
    ),
    (
        "choice.toolless",
        "SHOULD",
        "A call that is required where there is nothing to call is refused.",
        {"tool_choice": "required"},
    ),
    (
        "format.unknown",
        "SHOULD",
        "An unknown response_format is refused, not left out.",
        {"response_format": {"type": "poem"}},
    ),
    (
        "format.schemaless",
        "SHOULD",
        "A json_schema format without its schema is refused.",
        {"response_format": {"type": "json_schema"}},
    ),
    ("logprobs.top", "SHOULD", "top_logprobs without logprobs is refused.", {"top_logprobs": 2}),
    (
        "logprobs.many",
        "SHOULD",
        "More than 20 top_logprobs are refused.",
        {"logprobs": True, "top_logprobs": 21},
    ),
    (
        "context",
        "MUST",
        "A prompt and a limit beyond the model's context are refused.",
        {"messages": _user("colors " * 40_000), "max_tokens": 5},
    ),
)
_ONLY_DOCUMENTED: Final[tuple[tuple[str, Level, str, dict[str, object]], ...]] = (
    ("ep.unknown", "SHOULD", "An execution provider that nobody knows is refused.", {"ep": "steam"}),
    ("ttl.negative", "SHOULD", "A negative ttl is refused.", {"ttl": -1}),
    ("top-k.fraction", "SHOULD", "A top_k that is no whole number is refused.", {"top_k": 1.5}),
)


def _add(name: str, level: Level, requirement: str, changes: dict[str, object], **more: Any) -> None:
    def script(target: Target) -> Script[None]:
        reply = yield from chat(target, **changes)
        body = error(reply, 400, 404, 422)
        kind = find(body, "error.type")
        require(kind != "server_error", "body", "error.type: expected the client's mistake, got server_error")

    _refused.add(name, requirement, script, level=level, **more)


for _row in _ROWS:
    _add(*_row)
for _row in _ONLY_DOCUMENTED:
    _add(*_row, profiles=("documented",))


_BODIES: Final[tuple[tuple[str, Level, str, bytes], ...]] = (
    ("json.empty", "MUST", "An empty body is refused.", b""),
    ("json.broken", "MUST", "A body that is no JSON is refused.", b"{invalid json"),
    ("json.cut", "MUST", "JSON that is cut off is refused.", b'{"model": "a", "messages": ['),
    ("json.array", "MUST", "A body that is an array is refused.", b"[]"),
    ("json.text", "MUST", "A body that is a string is refused.", b'"Hello"'),
    ("json.null", "MUST", "A body that is null is refused.", b"null"),
    (
        "json.behind",
        "MUST",
        "Text behind the JSON is refused.",
        b'{"model":"@","messages":[{"role":"user","content":"a"}],"max_tokens":1} x',
    ),
    (
        "json.utf8",
        "MUST",
        "Text that is not UTF-8 is refused.",
        b'{"model":"@","messages":[{"role":"user","content":"\xff\xfe"}],"max_tokens":1}',
    ),
    (
        "json.nan",
        "SHOULD",
        "NaN, which JSON does not have, is refused.",
        b'{"model":"@","messages":[{"role":"user","content":"a"}],"max_tokens":1,"temperature":NaN}',
    ),
    (
        "json.doubled",
        "SHOULD",
        "An object with a key twice is refused.",
        b'{"model":"@","model":"no-such-model","messages":[{"role":"user","content":"a"}],"max_tokens":1}',
    ),
    (
        "json.surrogate",
        "SHOULD",
        "Half of a surrogate pair is refused.",
        b'{"model":"@","messages":[{"role":"user","content":"\\ud800"}],"max_tokens":1}',
    ),
    (
        "json.deep",
        "SHOULD",
        "JSON that is nested absurdly deep is refused.",
        b'{"model":"@","messages":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ),
)


def _add_body(name: str, level: Level, requirement: str, raw: bytes) -> None:
    def script(target: Target) -> Script[None]:
        model = dump_json(target.model)[1:-1]
        error((yield from ask(target, "POST", CHAT, raw.replace(b"@", model))), 400, 404, 422)

    _refused.add(name, requirement, script, level=level, source=_JSON)


for _body in _BODIES:
    _add_body(*_body)


@_refused.case(
    "unknown.status", "A model that is not there is answered with 404.", level="SHOULD", source=_OPENAI
)
def _unknown_status(target: Target) -> Script[None]:
    error((yield from chat(target, model="no-such-model:1")), 404)


@_refused.case(
    "unknown.phrase",
    "What is said of a model that is not there has the words that the clients look for.",
    profiles=("sdk-0.5",),
    source="the official clients, which search for them",
)
def _unknown_phrase(target: Target) -> Script[None]:
    says_no_model((yield from chat(target, model="no-such-model:1")))


@_refused.case(
    "param",
    "A refusal names the property that is to blame.",
    level="SHOULD",
    source="OpenAI's API reference, Errors",
)
def _param(target: Target) -> Script[None]:
    body = error((yield from chat(target, temperature=3)), 400)
    require(find(body, "error.param") == "temperature", "body", 'error.param: expected "temperature"')


@_refused.case(
    "context.numbers",
    "What is said of a prompt that is too long has the number of its tokens.",
    level="SHOULD",
    source=_OPENAI,
)
def _context_numbers(target: Target) -> Script[None]:
    body = error((yield from chat(target, messages=_user("colors " * 40_000))), 400)
    words = str(find(body, "error.message")).replace(",", " ").split()
    numbers = [word for word in words if word.strip(".;:()").isdigit()]
    require(len(numbers) >= 2, "body", f"error.message: expected two numbers, got {' '.join(words)[:160]!r}")


@_refused.case(
    "stream",
    "A stream that cannot begin is refused like any request: JSON with its status.",
    source="the newer service's answers",
)
def _stream(target: Target) -> Script[None]:
    wrong: tuple[dict[str, object], ...] = (
        {"messages": []},
        {"model": "no-such-model:1"},
        {"model": LEFT_OUT},
    )
    for changes in wrong:
        error((yield from chat(target, stream=True, **changes)), 400, 404, 422)


@_refused.case(
    "stream.json",
    "A stream that was asked for in broken JSON is refused as JSON.",
    source="the newer service's answers",
)
def _stream_broken(target: Target) -> Script[None]:
    raw = dump_json(chat_body(target, stream=True))[:-2]
    error((yield from ask(target, "POST", CHAT, raw)), 400)


CASES = tuple(_refused.cases)
