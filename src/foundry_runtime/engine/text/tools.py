"""How a model is told of tools, and of what became of its calls: as its template does, or else in words.

Knows: what a template does with tools, calls and results, found out by rendering a small conversation; how
all three are written as plain text for a template that does nothing with them.
Refuses to know: tokens, which tool has to be called, and how calls are read (`foundry_proto.chat`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from attrs import frozen

from foundry_proto.chat.markup import CallMarkers
from foundry_proto.chat.offer import ToolOffer
from foundry_proto.messages.tools import FunctionDefinition
from foundry_runtime.engine.text.template import TemplateError

__all__ = ["ToolManner", "find_manner"]

_Message = dict[str, Any]


class _Renderer(Protocol):
    """What is needed of `template.ChatTemplate`."""

    def render(
        self, messages: Sequence[Mapping[str, object]], *, tools: Sequence[Mapping[str, object]] | None = None
    ) -> str:
        """Write a conversation."""
        ...


@frozen(kw_only=True)
class ToolManner:
    """What a template does with tools."""

    tools: Literal["variable", "message", "words"]
    """It reads `tools`, or the system message's `tools`, as JSON text; or it knows of none."""
    arguments: Literal["object", "text", "words"]
    """It writes calls, from their arguments as an object or as JSON text; or it writes none."""
    results: bool
    """Whether it writes a tool's result."""
    system: bool = True
    """Whether it writes a system message."""

    def prepare(
        self, messages: Sequence[_Message], offer: ToolOffer | None, markers: CallMarkers
    ) -> tuple[Sequence[_Message], Sequence[Mapping[str, object]] | None]:
        """Make a conversation what the template reads.

        Args:
            messages: As `template_messages` gives them.
            offer: What the model may call.
            markers: How it writes calls.

        Returns:
            The messages, and the value of the template's `tools`.
        """
        ready = [_with_short_ids(message) for message in messages]
        if self.arguments == "words":
            ready = _calls_in_words(ready, markers)
        elif self.arguments == "text":
            ready = [_with_arguments_as_text(message) for message in ready]
        if not self.results:
            ready = _results_in_words(ready)
        if offer is None:
            return ready, None
        match self.tools:
            case "variable":
                return ready, [_plain_tool(function) for function in offer.functions]
            case "message":
                listed = json.dumps([_plain(function) for function in offer.functions], ensure_ascii=False)
                return _with_system(ready, {"tools": listed}), None
            case "words":
                words = _offer_in_words(offer, markers)
                if self.system:
                    return _with_system(ready, {"content": words}), None
                return _with_first_question(ready, words), None


def _plain_tool(function: FunctionDefinition) -> dict[str, object]:
    """Write a function as templates and OpenAI's API have it."""
    return {"type": "function", "function": _plain(function)}


def _plain(function: FunctionDefinition) -> dict[str, object]:
    described = {"description": function.description} if function.description else {}
    # What a function without parameters has, as OpenAI says it. `strict` is nothing that models were taught.
    parameters = function.parameters or {"type": "object", "properties": {}}
    return {"name": function.name, **described, "parameters": parameters}


# What a template does.

_ID: Final = "probed000"
_USER: Final = {"role": "user", "content": "Hello"}
_SYSTEM: Final = {"role": "system", "content": "system_said"}
_PARAMETERS: Final = {"type": "object", "properties": {"probed_key": {"type": "string", "description": "A"}}}
_FUNCTION: Final = {"name": "probed_tool", "description": "A", "parameters": _PARAMETERS}
_TOOLS: Final = [{"type": "function", "function": _FUNCTION}]


def find_manner(template: _Renderer) -> ToolManner:
    """Find out what a template does with tools, by what it makes of a few small conversations."""
    if "probed_tool" in _rendered(template, [_USER], _TOOLS):
        tools: Literal["variable", "message", "words"] = "variable"
    elif "probed_tool" in _rendered(template, [{**_SYSTEM, "tools": json.dumps([_FUNCTION])}, _USER]):
        tools = "message"
    else:
        tools = "words"
    system = "system_said" in _rendered(template, [_SYSTEM, _USER])
    offered = _TOOLS if tools == "variable" else None
    as_object = _rendered(template, _called({"probed_key": "probed_value"}), offered)
    as_text = _rendered(template, _called('{"probed_key": "probed_value"}'), offered)
    best = max((as_object, as_text), key=_quality)
    if not _quality(best):
        return ToolManner(tools=tools, arguments="words", results=False, system=system)
    arguments: Literal["object", "text"] = "object" if best == as_object else "text"
    results = "probed_result" in best
    return ToolManner(tools=tools, arguments=arguments, results=results, system=system)


def _called(arguments: object) -> list[_Message]:
    function = {"name": "probed_call", "arguments": arguments}
    call = {"id": _ID, "type": "function", "function": function}
    result = {"role": "tool", "content": "probed_result", "tool_call_id": _ID, "name": "probed_call"}
    return [_USER, {"role": "assistant", "content": "", "tool_calls": [call]}, result]


def _quality(text: str) -> int:
    """How well a template has written the call: not at all, somehow, as JSON."""
    if "probed_call" not in text or "probed_value" not in text:
        return 0
    return 2 if '"probed_key"' in text else 1


def _rendered(
    template: _Renderer, messages: Sequence[_Message], tools: Sequence[Mapping[str, object]] | None = None
) -> str:
    try:
        return template.render(messages, tools=tools)
    except TemplateError:
        return ""


# Messages.


def _with_short_ids(message: _Message) -> _Message:
    """Ids without their `call_`: some templates insist on nine letters or digits."""
    changed = dict(message)
    if "tool_call_id" in changed:
        changed["tool_call_id"] = _short(changed["tool_call_id"])
    if "tool_calls" in changed:
        changed["tool_calls"] = [{**call, "id": _short(call["id"])} for call in changed["tool_calls"]]
    return changed


def _short(call_id: str) -> str:
    letters = call_id.removeprefix("call_")
    return letters if len(letters) == 9 and letters.isalnum() and letters.isascii() else call_id


def _with_arguments_as_text(message: _Message) -> _Message:
    if "tool_calls" not in message:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": _text(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _text(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _calls_in_words(messages: Sequence[_Message], markers: CallMarkers) -> list[_Message]:
    """Calls as the model would have written them, in the content of its answer."""
    ready = []
    for message in messages:
        calls = message.get("tool_calls")
        if not calls:
            ready.append(message)
            continue
        changed = {name: value for name, value in message.items() if name != "tool_calls"}
        written = [_call_in_words(call["function"], markers) for call in calls]
        changed["content"] = "\n".join([*([changed["content"]] if changed["content"] else []), *written])
        ready.append(changed)
    return ready


def _call_in_words(function: Mapping[str, object], markers: CallMarkers) -> str:
    plain: object = {"name": function["name"], markers.key: function["arguments"]}
    return _in_markers(json.dumps([plain] if markers.array else plain, ensure_ascii=False), markers)


def _in_markers(text: str, markers: CallMarkers) -> str:
    end = "" if markers.end is None else f"{markers.between}{markers.end}"
    return f"{markers.begin.removesuffix(markers.keeps)}{markers.between}{text}{end}"


def _results_in_words(messages: Sequence[_Message]) -> list[_Message]:
    """Results as the user's words; what the user says behind them joins them, so that roles alternate."""
    ready: list[_Message] = []
    behind_result = False
    for message in messages:
        is_result = message["role"] == "tool"
        said = message
        if is_result:
            what = f"The result of {message['name']}" if "name" in message else "The tool's result"
            said = {"role": "user", "content": f"{what}: {message['content']}"}
        if behind_result and said["role"] == "user":
            ready[-1] = {**ready[-1], "content": f"{ready[-1]['content']}\n{said['content']}"}
        else:
            ready.append(said)
        behind_result = is_result
    return ready


def _with_system(messages: Sequence[_Message], more: Mapping[str, str]) -> list[_Message]:
    """Say something in the system message, which is made if there is none."""
    first, rest = ({"role": "system", "content": ""}, messages)
    if messages and messages[0]["role"] == "system":
        first, rest = messages[0], messages[1:]
    content = "\n\n".join(text for text in (first["content"], more.get("content")) if text)
    return [{**first, **more, "content": content}, *rest]


def _with_first_question(messages: Sequence[_Message], words: str) -> list[_Message]:
    """Say something before the user's first question; a conversation without one begins with it."""
    for place, message in enumerate(messages):
        if message["role"] == "user":
            said = {**message, "content": f"{words}\n\n{message['content']}"}
            return [*messages[:place], said, *messages[place + 1 :]]
    return [{"role": "user", "content": words}, *messages]


# The offer in words.


def _offer_in_words(offer: ToolOffer, markers: CallMarkers) -> str:
    example: object = {"name": "NAME", markers.key: {"PARAMETER": "VALUE"}}
    written = json.dumps([example] if markers.array else example)
    lines = [
        "You can call these functions, described in JSON, one on each line:",
        *(json.dumps(_plain(function), ensure_ascii=False) for function in offer.functions),
        "",
        "To call one, write its name and its arguments in exactly this form:",
        _in_markers(written, markers),
    ]
    if offer.must_call:
        lines.append("Your answer must be a call.")
    else:
        lines.append("Call a function if its result helps you to answer; otherwise answer in your own words.")
    if not offer.several:
        lines.append("Make one call at most.")
    return "\n".join(lines)
