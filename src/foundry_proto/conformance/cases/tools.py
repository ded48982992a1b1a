"""Tools: what an answer looks like when the model calls a function, in the newer and in the older form.

Knows: that a call which is required must come. Whether a model calls when it may is its own affair: only the
form is judged then.
Refuses to know: how a family of models marks calls.
"""

from __future__ import annotations

import re
from typing import Any, Final

from foundry_proto.conformance.asking import chat, stream
from foundry_proto.conformance.case import ALL_PROFILES, Section
from foundry_proto.conformance.expecting import equal, find, is_a, json_of, require, status, text
from foundry_proto.conformance.problems import Unmet
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target
from foundry_proto.jsontext import ContentError, load_json

__all__ = ["CASES"]

_tools = Section(
    "tools",
    group="chat",
    profiles=ALL_PROFILES,
    source="OpenAI's API reference, Function calling",
    needs=("model",),
)
_PAGE: Final = "the REST reference page, POST /v1/chat/completions"

_SCHEMA: Final = {
    "type": "object",
    "properties": {"unit": {"type": "string", "enum": ["celsius"]}},
    "required": ["unit"],
    "additionalProperties": False,
}
_ARGUMENTS: Final = {"unit": "celsius"}


def _tool(name: str) -> dict[str, object]:
    function = {"name": name, "description": f"Gives the {name}.", "parameters": _SCHEMA}
    return {"type": "function", "function": function}


_WEATHER: Final[dict[str, object]] = {
    "tools": [_tool("weather")],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_tokens": 80,
    "messages": [{"role": "user", "content": "How is the weather?"}],
}


def _choice(target: Target, **changes: object) -> Script[Any]:
    reply = yield from chat(target, **{**_WEATHER, **changes})
    status(reply, 200)
    return find(json_of(reply), "choices[0]")


def _has_arguments(call: Any) -> None:
    """Expect arguments as JSON text, of the schema's form."""
    arguments = is_a(call, "arguments", str)
    try:
        value = load_json(arguments.encode())
    except ContentError as error:
        raise Unmet("body", f"arguments: expected JSON, got {arguments[:80]!r}: {error}") from None
    require(value == _ARGUMENTS, "body", f"arguments: expected {_ARGUMENTS}, got {arguments[:80]!r}")


@_tools.case(
    "required",
    "A call that is required comes, with a function that is offered and JSON arguments.",
    level="SHOULD",
)
def _required(target: Target) -> Script[None]:
    choice = yield from _choice(target)
    calls = is_a(choice, "message.tool_calls", list)
    require(len(calls) >= 1, "body", "message.tool_calls: expected one at least, got none")
    equal(calls[0], "type", "function")
    equal(calls[0], "function.name", "weather")
    _has_arguments(find(calls[0], "function"))


@_tools.case("finish", "An answer that calls ends with tool_calls.", level="SHOULD")
def _finish(target: Target) -> Script[None]:
    equal((yield from _choice(target)), "finish_reason", "tool_calls")


@_tools.case(
    "content", "An answer that only calls has content null, and no raw text of the call.", level="SHOULD"
)
def _content(target: Target) -> Script[None]:
    content = find((yield from _choice(target)), "message.content", None)
    require(not content, "body", f"message.content: expected null, got {content!r}")


@_tools.case("id", "Each call has an id.", level="SHOULD")
def _id(target: Target) -> Script[None]:
    text((yield from _choice(target)), "message.tool_calls[0].id")


@_tools.case(
    "id.form",
    "A call's id is call_ and nine letters or digits.",
    level="INFO",
    source="the newer service's answers",
)
def _id_form(target: Target) -> Script[None]:
    name = text((yield from _choice(target)), "message.tool_calls[0].id")
    form = re.fullmatch(r"call_[A-Za-z0-9]{9}", name)
    require(form, "body", f"id: expected call_ and nine letters or digits, got {name!r}")


@_tools.case("named", "A function that is named is called, and no other.", level="SHOULD")
def _named(target: Target) -> Script[None]:
    tools = [_tool("weather"), _tool("news")]
    named = {"type": "function", "function": {"name": "news"}}
    choice = yield from _choice(target, tools=tools, tool_choice=named)
    names = [find(call, "function.name") for call in is_a(choice, "message.tool_calls", list)]
    require(names == ["news"], "body", f"message.tool_calls: expected news, got {names}")


@_tools.case("none", "With tool_choice none nothing is called.", level="SHOULD")
def _none(target: Target) -> Script[None]:
    choice = yield from _choice(target, tool_choice="none", max_tokens=8)
    require(not find(choice, "message.tool_calls", None), "body", "expected no calls, got some")
    is_a(choice, "message.content", str)


@_tools.case(
    "auto", "With tool_choice auto an answer is text or calls, and never a call's raw text.", level="SHOULD"
)
def _auto(target: Target) -> Script[None]:
    choice = yield from _choice(target, tool_choice="auto", max_tokens=8)
    content = find(choice, "message.content", None) or ""
    require("<tool_call>" not in content, "body", f"message.content: expected no markers, got {content!r}")


@_tools.case("result", "A tool's result is read by the model.", level="SHOULD")
def _result(target: Target) -> Script[None]:
    counts = []
    for result in ("21", "21 degrees, with a light wind from the west and hardly any clouds"):
        call = {
            "id": "call_123456789",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"unit":"celsius"}'},
        }
        messages = [
            {"role": "user", "content": "How is the weather?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_123456789", "content": result},
        ]
        reply = yield from chat(target, messages=messages, tools=[_tool("weather")], max_tokens=1)
        status(reply, 200)
        counts.append(is_a(json_of(reply), "usage.prompt_tokens", int))
    require(
        counts[1] > counts[0] + 5,
        "body",
        f"expected many more prompt tokens than {counts[0]}, got {counts[1]}",
    )


@_tools.case(
    "stream", "In a stream a call comes in delta.tool_calls, with index, id, type and name.", level="SHOULD"
)
def _stream(target: Target) -> Script[None]:
    deltas = yield from _deltas(target)
    calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
    require(calls, "stream", "delta.tool_calls: expected one at least, got none")
    equal(calls[0], "index", 0)
    equal(calls[0], "type", "function")
    equal(calls[0], "function.name", "weather")
    text(calls[0], "id")
    arguments = "".join(find(call, "function.arguments", "") for call in calls if find(call, "index") == 0)
    _has_arguments({"arguments": arguments})


def _deltas(target: Target) -> Script[list[Any]]:
    events = (yield from stream(target, **_WEATHER)).events
    return [choice["delta"] for event in events for choice in event["choices"]]


@_tools.case("stream.text", "In a stream no delta.content has a call's raw text.", level="SHOULD")
def _stream_text(target: Target) -> Script[None]:
    deltas = yield from _deltas(target)
    said = "".join(delta.get("content") or "" for delta in deltas)
    require(not said.strip(), "stream", f"delta.content: expected none, got {said!r}")


@_tools.case("stream.finish", "A stream that calls ends with tool_calls.", level="SHOULD")
def _stream_finish(target: Target) -> Script[None]:
    events = (yield from stream(target, **_WEATHER)).events
    reasons = [choice.get("finish_reason") for event in events for choice in event["choices"]]
    require(reasons[-1] == "tool_calls", "stream", f"finish_reason: expected tool_calls, got {reasons[-1]!r}")


_OLDER: Final = {
    "tools": None,
    "tool_choice": None,
    "parallel_tool_calls": None,
    "functions": [{"name": "weather", "parameters": _SCHEMA}],
    "function_call": {"name": "weather"},
}


@_tools.case(
    "older",
    "A call in the older form is answered in the older form: message.function_call.",
    level="SHOULD",
    profiles=("documented",),
    source=_PAGE,
)
def _older(target: Target) -> Script[None]:
    choice = yield from _choice(target, **_OLDER)
    equal(choice, "message.function_call.name", "weather")
    _has_arguments(find(choice, "message.function_call"))


@_tools.case(
    "older.finish",
    "An answer that calls in the older form ends with function_call.",
    level="SHOULD",
    profiles=("documented",),
    source=_PAGE,
)
def _older_finish(target: Target) -> Script[None]:
    equal((yield from _choice(target, **_OLDER)), "finish_reason", "function_call")


CASES = tuple(_tools.cases)
