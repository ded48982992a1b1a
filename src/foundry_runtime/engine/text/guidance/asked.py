"""Which form a chat request asks its answer to have.

Knows: what `response_format`, required and strict tools mean for the text, and how the model's markers of
calls and reasoning stand around it.
Refuses to know: tokens, and how a form is enforced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, assert_never

from attrs import evolve

from foundry_proto.chat.markup import CallMarkers, Markup
from foundry_proto.chat.offer import ToolOffer
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.chat import (
    ChatCompletionRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    LarkGrammarFormat,
    RegexFormat,
    ResponseFormat,
    TextFormat,
)
from foundry_proto.messages.tools import FunctionDefinition
from foundry_runtime.engine.text.guidance._documents import Path
from foundry_runtime.engine.text.guidance.forms import (
    ANY_OBJECT,
    Form,
    Json,
    Lark,
    Literal,
    Marker,
    OneOf,
    Regex,
    Repeated,
    Text,
    Then,
)

__all__ = ["MOST_CALLS", "form_for"]


MOST_CALLS: Final = 16
"""Most calls of an answer that must call. Where it may, a small model goes on for ever."""


def form_for(
    request: ChatCompletionRequest,
    *,
    markup: Markup,
    offer: ToolOffer | None,
    opens_reasoning: bool,
    knows_tools: bool = True,
) -> Form | None:
    """Find the form that an answer must have.

    Args:
        request: What was asked.
        markup: The model's markers.
        offer: What it may call.
        opens_reasoning: Whether the prompt has opened reasoning already.
        knows_tools: Whether the model was taught to call tools. Choice: one that was not, and so repeats
            itself, must make one call, unless the request says that it may make several.

    Returns:
        The form; `None` where the answer is free.

    Raises:
        ContentError: A function's parameters are not those of a function.
    """
    if offer is not None and not knows_tools and not request.parallel_tool_calls:
        offer = evolve(offer, several=offer.several and not offer.must_call)
    form = _answer(request, markup, offer)
    if form is None or markup.reasoning is None:
        return form
    begin, end = markup.reasoning
    behind = Then((Text(until=end), Repeated(form=Literal("\n"), most=2), form))
    return behind if opens_reasoning else OneOf((form, Then((Marker(begin), behind))))


def _response_form(asked: ResponseFormat) -> Form | None:
    """The form of the content alone; `None` for text."""
    path = ("response_format",)
    match asked:
        case TextFormat():
            return None
        case JsonObjectFormat():
            return ANY_OBJECT
        case JsonSchemaFormat():
            if not isinstance(asked.json_schema.schema, Mapping):
                return ANY_OBJECT
            # Choice: `strict` or not, the schema is obeyed.
            return Json(asked.json_schema.schema, (*path, "json_schema", "schema"))
        case RegexFormat():
            return Regex(asked.regex, (*path, "regex"))
        case LarkGrammarFormat():
            return Lark(asked.lark_grammar, (*path, "lark_grammar"))
        case _:
            assert_never(asked)


def _calls_form(markup: Markup, offer: ToolOffer) -> Form:
    """One or more calls of the functions offered, as the model's family writes them.

    Args:
        markup: The model's markers; the first kind of calls is written.
        offer: The functions.

    Raises:
        ContentError: A function's parameters are not those of a function.
    """
    markers = markup.calls[0]
    most = MOST_CALLS if offer.several else 1
    described = zip(offer.functions, offer.paths, strict=True)
    calls = OneOf(tuple(_call(function, markers, (*path, "parameters")) for function, path in described))
    if markup.bare:
        return Repeated(form=calls, least=1, most=most, between="; ")
    begin, end = (Marker(markers.begin),), () if markers.end is None else (Marker(markers.end),)
    blank = (Literal(markers.between),) if markers.between else ()
    if markers.array:
        listed = Repeated(form=calls, least=1, most=most, between=", ")
        return Then((*begin, *blank, Literal("["), listed, Literal("]"), *blank, *end))
    if markers.style == "deepseek":
        return Then((*begin, Repeated(form=calls, least=1, most=most), *end))
    one = Then((*begin, *blank, calls, *blank, *end))
    return Repeated(form=one, least=1, most=most, between="\n")


def _answer(request: ChatCompletionRequest, markup: Markup, offer: ToolOffer | None) -> Form | None:
    content = _response_form(request.response_format) if request.response_format else None
    if offer is None:
        return content
    strict = any(function.strict is True for function in offer.functions)
    if not offer.must_call and content is None and not strict:
        return None
    calls = _calls_form(markup, offer)
    if offer.must_call:
        return calls
    if content is not None:
        return OneOf((content, calls))
    return _text_or(calls, markup)


def _text_or(calls: Form, markup: Markup) -> Form:
    """Text in which nothing begins as calls do and goes on otherwise."""
    if markup.bare:
        return OneOf((calls, _NO_OBJECT))
    begin = markup.calls[0].begin
    match calls:
        case Repeated(form=Then(forms=(Marker(), *rest))) | Then(forms=(Marker(), *rest)):
            behind = Then((Text(until=begin), *rest))
            return Then((Repeated(form=behind), Text()))
    raise AssertionError("calls begin with their marker")


_NO_OBJECT: Final = Regex(r"(?s:\s*([^\s{].*)?)")
"""Text that is not what a bare call begins like."""


def _call(function: FunctionDefinition, markers: CallMarkers, path: Path) -> Form:
    arguments = Json(_parameters(function, path), path)
    if markers.style == "deepseek":
        begin, separator, end = map(Marker, markers.inner)
        name = Literal(f"{function.name}\n```json\n")
        return Then((begin, Literal("function"), separator, name, arguments, Literal("\n```"), end))
    head = f'{{"name": {json.dumps(function.name, ensure_ascii=False)}, "{markers.key}": '
    return Then((Literal(head), arguments, Literal("}")))


def _parameters(function: FunctionDefinition, path: Path) -> Mapping[str, Any]:
    """A function's parameters as the schema of an object: without any it takes none, by OpenAI's word."""
    if not isinstance(function.parameters, Mapping):
        return {"type": "object", "additionalProperties": False}
    kind = function.parameters.get("type", "object")
    if kind != "object":
        raise ContentError('expected "object": arguments are named', (*path, "type"))
    combined = not function.parameters.keys().isdisjoint(("$ref", "allOf", "anyOf", "oneOf"))
    return function.parameters if combined else {"type": "object", **function.parameters}
