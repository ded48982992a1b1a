"""Which functions a request offers its model, and which of them it must or may call.

Knows: that `functions` and `function_call` are the older form of `tools` and `tool_choice`, and what each
value of a choice leaves of the offer.
Refuses to know: how a model is told (its template does), and how it is made to call (a grammar does).

Source: the REST reference page and OpenAI's API reference, "tool_choice"; where a request has both forms,
`tools` counts.
"""

from __future__ import annotations

from attrs import field, frozen

from foundry_proto.jsontext import ContentError
from foundry_proto.messages.chat import (
    ChatCompletionRequest,
    FunctionCallChoice,
    FunctionDefinition,
    FunctionTool,
    NamedToolChoice,
)

__all__ = ["ToolOffer", "offer_of"]


@frozen(kw_only=True)
class ToolOffer:
    """The functions that a model may call."""

    functions: tuple[FunctionDefinition, ...]
    """At least one."""
    must_call: bool = False
    """Whether the answer has to be a call."""
    several: bool = True
    """Whether it may be more calls than one."""
    older_form: bool = False
    """Whether a call is answered as `function_call`, which has room for one."""
    names: frozenset[str] = field(init=False)

    @names.default
    def _names(self) -> frozenset[str]:
        return frozenset(function.name for function in self.functions)


def offer_of(request: ChatCompletionRequest) -> ToolOffer | None:
    """Read what a request offers.

    Returns:
        The offer; `None` where there is nothing to call, or calling is forbidden.

    Raises:
        ContentError: A function must be called that is not offered.
    """
    tools = (request.tools,) if isinstance(request.tools, FunctionTool) else request.tools or ()
    if tools:
        return _offer_of_tools(tuple(tool.function for tool in tools), request)
    if isinstance(request.tool_choice, NamedToolChoice) or request.tool_choice == "required":
        raise ContentError('expected "none" or "auto", since there are no tools to call', ("tool_choice",))
    functions = request.functions or ()
    if functions:
        return _offer_of_functions(functions, request)
    if isinstance(request.function_call, FunctionCallChoice) and request.function_call.name:
        message = 'expected "none" or "auto", since there are no functions to call'
        raise ContentError(message, ("function_call",))
    return None


def _offer_of_tools(
    functions: tuple[FunctionDefinition, ...], request: ChatCompletionRequest
) -> ToolOffer | None:
    several = request.parallel_tool_calls is not False
    match request.tool_choice:
        case "none":
            return None
        case NamedToolChoice(function=named):
            path = ("tool_choice", "function", "name")
            # Choice: one call, as OpenAI answers it: the request names one.
            return ToolOffer(functions=_named(functions, named.name, path), must_call=True, several=False)
        case choice:
            return ToolOffer(functions=functions, must_call=choice == "required", several=several)


def _offer_of_functions(
    functions: tuple[FunctionDefinition, ...], request: ChatCompletionRequest
) -> ToolOffer | None:
    choice = request.function_call
    if choice == "none":
        return None
    must_call = isinstance(choice, FunctionCallChoice) and bool(choice.name)
    if isinstance(choice, FunctionCallChoice) and choice.name:
        functions = _named(functions, choice.name, ("function_call", "name"))
    return ToolOffer(functions=functions, must_call=must_call, several=False, older_form=True)


def _named(
    functions: tuple[FunctionDefinition, ...], name: str, path: tuple[str, ...]
) -> tuple[FunctionDefinition, ...]:
    """The one function that has to be called: the others would only be in the model's way."""
    for function in functions:
        if function.name == name:
            return (function,)
    known = ", ".join(f'"{function.name[:64]}"' for function in functions[:20])
    raise ContentError(f'expected one of the functions offered ({known}), got "{name[:64]}"', path)
