"""A request's messages as the plain dictionaries that chat templates are written for.

Knows: what templates expect: text as one string, `system` for `developer`, `tool` for a function's result, a
call's arguments as an object, and its id and name beside its result.
Refuses to know: any template, and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foundry_proto.jsontext import ContentError, load_json
from foundry_proto.messages.chat import (
    AssistantMessage,
    ChatMessage,
    ContentPart,
    DeveloperMessage,
    FunctionMessage,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from foundry_proto.messages.tools import FunctionCall
from foundry_proto.sentinels import Maybe

__all__ = ["template_messages"]


def template_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Write messages as chat templates read them.

    Args:
        messages: As the request has them.

    Returns:
        One dictionary per message, with `role` and `content`, and where given `name`, `tool_calls` and
        `tool_call_id`.

    Raises:
        ContentError: A part is no text; the path names it.
    """
    names: dict[str, str] = {}
    """Of the functions called so far, by their calls' ids."""
    plain = []
    older_id = ""
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage) and message.function_call:
            older_id = f"{index:09}"  # the older form has no ids, but some templates insist on one
        plain.append(_message(message, index, names, older_id))
    return plain


def _message(message: ChatMessage, index: int, names: dict[str, str], older_id: str) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": _text(message.content, index)}
    match message:
        case SystemMessage() | UserMessage():
            _add_name(plain, message.name)
        case DeveloperMessage():
            plain["role"] = "system"
            _add_name(plain, message.name)
        case AssistantMessage():
            _add_name(plain, message.name)
            _add_calls(plain, message, older_id)
            names.update((call.id, call.function.name) for call in message.tool_calls or ())
        case ToolMessage():
            plain["tool_call_id"] = message.tool_call_id
            _add_name(plain, names.get(message.tool_call_id))
        case FunctionMessage():
            plain["role"] = "tool"
            _add_name(plain, message.name)
            if older_id:
                plain["tool_call_id"] = older_id
    return plain


def _add_name(plain: dict[str, Any], name: Maybe[str]) -> None:
    if name:
        plain["name"] = name


def _add_calls(plain: dict[str, Any], message: AssistantMessage, older_id: str) -> None:
    if message.reasoning_content:
        plain["reasoning_content"] = message.reasoning_content
    calls = [
        {"id": call.id, "type": "function", "function": _function(call.function)}
        for call in message.tool_calls or ()
    ]
    if message.function_call:
        calls.append({"id": older_id, "type": "function", "function": _function(message.function_call)})
    if calls:
        plain["tool_calls"] = calls


def _function(call: FunctionCall) -> dict[str, Any]:
    # Choice: arguments that are JSON reach the template as what they mean, since templates write them with
    # `tojson`; what a model once wrote that is no JSON stays the text that it is.
    try:
        arguments: object = load_json(call.arguments.encode())
    except ContentError:
        arguments = call.arguments
    return {"name": call.name, "arguments": arguments}


def _text(content: Maybe[str | tuple[ContentPart, ...]], index: int) -> str:
    """Join a message's parts without a separator; a model of text alone reads nothing else."""
    if not content:
        return ""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for number, part in enumerate(content):
        match part:
            case TextPart():
                texts.append(part.text)
            case RefusalPart():
                texts.append(part.refusal)
            case _:
                message = f'expected a text part, got one of type "{part.type}": this model reads text alone'
                raise ContentError(message, ("messages", index, "content", number))
    return "".join(texts)
