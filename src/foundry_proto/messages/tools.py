"""What a model may call, and what it has called: tools, and functions in the older form.

Knows: the fields of both, in requests and in answers.
Refuses to know: which of them a request leaves to its model (`chat/offer.py`).

Source: OpenAI's API reference; the REST reference page for `functions` and `function_call`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from attrs import frozen

from foundry_proto.sentinels import ABSENT, Maybe
from foundry_proto.wire import Wire

__all__ = [
    "AllowedTools",
    "AllowedToolsChoice",
    "FunctionCall",
    "FunctionCallChoice",
    "FunctionDefinition",
    "FunctionTool",
    "NamedFunction",
    "NamedToolChoice",
    "ToolCall",
]


@frozen(kw_only=True)
class FunctionCall:
    """A call that the model made: a name, and arguments as JSON text."""

    name: str
    arguments: str


@frozen(kw_only=True)
class ToolCall:
    """A function call with the id by which its result is matched."""

    WIRE: ClassVar = Wire(noun="a tool call", nouns="tool calls")
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


@frozen(kw_only=True)
class FunctionDefinition:
    """A function that the model may call; `parameters` is a JSON Schema."""

    WIRE: ClassVar = Wire(noun="a function", nouns="functions")
    name: str
    description: Maybe[str] = ABSENT
    parameters: Maybe[Mapping[str, object]] = ABSENT
    strict: Maybe[bool] = ABSENT


@frozen(kw_only=True)
class FunctionTool:
    """A tool that is a function, the only kind there is here."""

    WIRE: ClassVar = Wire(noun="a tool", nouns="tools")
    type: Literal["function"]
    function: FunctionDefinition


@frozen(kw_only=True)
class NamedFunction:
    """A function by its name."""

    name: str


@frozen(kw_only=True)
class NamedToolChoice:
    """The one tool that must be called."""

    WIRE: ClassVar = Wire(noun="a named function", nouns="named functions")
    type: Literal["function"]
    function: NamedFunction


@frozen(kw_only=True)
class AllowedTools:
    """Some of the request's tools, and whether one of them must be called."""

    WIRE: ClassVar = Wire(noun="allowed tools")
    mode: Literal["auto", "required"]
    tools: tuple[NamedToolChoice, ...]


@frozen(kw_only=True)
class AllowedToolsChoice:
    """A choice among some of the request's tools."""

    WIRE: ClassVar = Wire(noun="allowed tools")
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


@frozen(kw_only=True)
class FunctionCallChoice:
    """The one function that must be called; the reference's `arguments` is accepted and means nothing."""

    WIRE: ClassVar = Wire(noun="a named function")
    name: Maybe[str] = ABSENT
    arguments: object = ABSENT
