"""Chats with properties that a server must take: each is answered, whatever it makes of them.

Knows: those properties, each with a value that a client sends. Refuses to know: what they do to an answer
(`chat.py`), and values that are refused (`chat_refused.py`).
"""

from __future__ import annotations

from typing import Any, Final

from foundry_proto.conformance.asking import LEFT_OUT, chat
from foundry_proto.conformance.case import ALL_PROFILES, Level, Section
from foundry_proto.conformance.expecting import json_of, one_of, status
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_chat = Section(
    "chat.accepts",
    group="chat",
    profiles=ALL_PROFILES,
    source="the REST reference page, POST /v1/chat/completions",
    needs=("model",),
)

_ACCEPTED: Final[tuple[tuple[str, Level, str, dict[str, object]], ...]] = (
    (
        "example",
        "MUST",
        "The reference page's own example is answered, its nulls and empty objects included.",
        {
            "temperature": 0.7,
            "top_p": 1,
            "n": 1,
            "stream": False,
            "stop": None,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "logit_bias": {},
            "user": "user_id_123",
            "functions": [],
            "function_call": None,
            "metadata": {},
        },
    ),
    (
        "nulls",
        "MUST",
        "Optional properties may be null.",
        dict.fromkeys(
            ("top_p", "n", "stream", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "user")
        ),
    ),
    (
        "unknown",
        "MUST",
        "A property that the server does not know is ignored.",
        {"no_such_property": {"a": 1}},
    ),
    ("user", "MUST", "user may be given.", {"user": "somebody"}),
    ("metadata", "MUST", "metadata may be given.", {"metadata": {"topic": "colors"}}),
    ("top-p", "MUST", "top_p may be given.", {"top_p": 0.1, "temperature": 1}),
    ("temperature.most", "MUST", "temperature may be 2.", {"temperature": 2}),
    ("penalties", "MUST", "Both penalties may be given.", {"presence_penalty": 2, "frequency_penalty": -2}),
    (
        "stop.four",
        "MUST",
        "There may be four stop texts.",
        {"stop": ["\u2061", "\u2062", "\u2063", "\u2064"]},
    ),
    (
        "integral",
        "MUST",
        "A number may be written with a fraction of zero.",
        {"max_tokens": 1, "temperature": 1.0},
    ),
    ("stream.false", "MUST", "stream may be false.", {"stream": False}),
    ("n.one", "MUST", "n may be 1.", {"n": 1}),
    ("format.text", "SHOULD", "response_format may be text.", {"response_format": {"type": "text"}}),
    (
        "developer",
        "SHOULD",
        "A message may be a developer's.",
        {"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hello"}]},
    ),
    (
        "name",
        "SHOULD",
        "A message may have a name.",
        {"messages": [{"role": "user", "name": "Ann", "content": "Hello"}]},
    ),
    (
        "content.empty",
        "SHOULD",
        "A message's content may be empty.",
        {"messages": [{"role": "user", "content": ""}]},
    ),
    (
        "no-limit",
        "MUST",
        "max_tokens may be left out.",
        {"max_tokens": LEFT_OUT, "stop": [" ", "\n", "e", "a"]},
    ),
    ("sampling", "MUST", "temperature may be left out.", {"temperature": LEFT_OUT}),
)

_ONLY_DOCUMENTED: Final[tuple[tuple[str, Level, str, dict[str, object]], ...]] = (
    ("top-k", "MUST", "top_k may be given, also as 40.0.", {"top_k": 40.0, "temperature": 1}),
    ("ttl", "MUST", "ttl may be given.", {"ttl": 600}),
    ("ep", "MUST", "ep may be cpu.", {"ep": "cpu"}),
    (
        "tool",
        "SHOULD",
        "tools may be one object, as the page types it.",
        {
            "tools": {
                "type": "function",
                "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
            },
            "tool_choice": "none",
        },
    ),
)


def _add_accepted(name: str, level: Level, requirement: str, changes: dict[str, object], **more: Any) -> None:
    def script(target: Target) -> Script[None]:
        reply = yield from chat(target, **{"max_tokens": 4, **changes})
        status(reply, 200)
        one_of(json_of(reply), "choices[0].finish_reason", ("stop", "length"))

    _chat.add(name, requirement, script, level=level, **more)


for _row in _ACCEPTED:
    _add_accepted(*_row)
for _row in _ONLY_DOCUMENTED:
    _add_accepted(*_row, profiles=("documented",))


CASES = tuple(_chat.cases)
