"""Which functions a request offers its model, and which of them it must or may call.

Knows: that `functions` and `function_call` are the older form of `tools` and `tool_choice`, and what each
value of a choice leaves of the offer.
Refuses to know: how a model is told (its template does), and how it is made to call (a grammar does).

Source: the REST reference page and OpenAI's API reference, "tool_choice"; where a request has both forms,
`tools` counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import field, frozen

from foundry_proto.jsontext import ContentError
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.tools import (
    AllowedToolsChoice,
    FunctionCallChoice,
    FunctionDefinition,
    FunctionTool,
    NamedToolChoice,
)
from foundry_proto.sentinels import ABSENT

__all__ = ["ToolOffer", "offer_of"]


_MAY_CALL_NOTHING: Final = (ABSENT, None, "none", "auto")


@frozen(kw_only=True)
class ToolOffer:
    """The functions that a model may call."""

    functions: tuple[FunctionDefinition, ...]
    """At least one."""
    paths: tuple[tuple[str | int, ...], ...]
    """Where each stands in the request."""
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
    if isinstance(request.tools, FunctionTool):
        return _offer_of_tools(_Functions((request.tools.function,), (("tools", "function"),)), request)
    if request.tools:
        paths: tuple[_Path, ...] = tuple(("tools", index, "function") for index in range(len(request.tools)))
        return _offer_of_tools(_Functions(tuple(tool.function for tool in request.tools), paths), request)
    if request.tool_choice not in _MAY_CALL_NOTHING:
        raise ContentError('expected "none" or "auto", since there are no tools to call', ("tool_choice",))
    if request.functions:
        paths = tuple(("functions", index) for index in range(len(request.functions)))
        return _offer_of_functions(_Functions(request.functions, paths), request)
    if isinstance(request.function_call, FunctionCallChoice) and request.function_call.name:
        message = 'expected "none" or "auto", since there are no functions to call'
        raise ContentError(message, ("function_call",))
    return None


_Path = tuple[str | int, ...]


@frozen
class _Functions:
    """Functions, and where they stand in the request."""

    all: tuple[FunctionDefinition, ...]
    paths: tuple[_Path, ...]

    def among(self, names: Sequence[str]) -> _Functions:
        """Those of these names, in the request's order."""
        path = ("tool_choice", "allowed_tools", "tools")
        if not names:
            raise ContentError("expected one tool at least, got none", path)
        known, wanted = {function.name for function in self.all}, set(names)
        for index, name in enumerate(names):
            if name not in known:
                self.only(name, (*path, index, "function", "name"))
        pairs = [pair for pair in zip(self.all, self.paths, strict=True) if pair[0].name in wanted]
        return _Functions(tuple(function for function, _ in pairs), tuple(place for _, place in pairs))

    def only(self, name: str, path: _Path) -> _Functions:
        """The one of this name: the others would only be in the model's way."""
        for function, place in zip(self.all, self.paths, strict=True):
            if function.name == name:
                return _Functions((function,), (place,))
        known = ", ".join(f'"{function.name[:64]}"' for function in self.all[:20])
        raise ContentError(f'expected one of the functions offered ({known}), got "{name[:64]}"', path)


def _offer_of_tools(functions: _Functions, request: ChatCompletionRequest) -> ToolOffer | None:
    several = request.parallel_tool_calls is not False
    match request.tool_choice:
        case "none":
            return None
        case NamedToolChoice(function=named):
            # Choice: one call, as OpenAI answers it: the request names one.
            one = functions.only(named.name, ("tool_choice", "function", "name"))
            return ToolOffer(functions=one.all, paths=one.paths, must_call=True, several=False)
        case AllowedToolsChoice(allowed_tools=allowed):
            functions = functions.among([tool.function.name for tool in allowed.tools])
            must_call = allowed.mode == "required"
        case choice:
            must_call = choice == "required"
    return ToolOffer(functions=functions.all, paths=functions.paths, must_call=must_call, several=several)


def _offer_of_functions(functions: _Functions, request: ChatCompletionRequest) -> ToolOffer | None:
    choice = request.function_call
    if choice == "none":
        return None
    named = choice.name if isinstance(choice, FunctionCallChoice) else None
    if named:
        functions = functions.only(named, ("function_call", "name"))
    return ToolOffer(
        functions=functions.all,
        paths=functions.paths,
        must_call=bool(named),
        several=False,
        older_form=True,
    )
