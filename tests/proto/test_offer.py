"""Offers: what a request's tools, functions and choices leave for the model to call."""

from __future__ import annotations

from typing import Any

import pytest

from foundry_proto.chat.offer import ToolOffer, offer_of
from foundry_proto.codec import structure
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.chat import ChatCompletionRequest

F, G = {"name": "f", "parameters": {"type": "object"}}, {"name": "g"}
TOOLS = [{"type": "function", "function": F}, {"type": "function", "function": G}]
NAMED = {"type": "function", "function": {"name": "g"}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def request(**more: object) -> ChatCompletionRequest:
    plain = {"model": "m", "messages": [{"role": "user", "content": "x"}], **more}
    return structure(ChatCompletionRequest, plain)


def offered(names: str, **more: Any) -> dict[str, Any]:
    return {"names": set(names), "must_call": False, "several": True, "older_form": False, **more}


def test_what_is_left_of_an_offer_keeps_its_place_in_the_request() -> None:
    named = offer_of(request(tools=TOOLS, tool_choice=NAMED))
    assert named is not None
    assert named.paths == (("tools", 1, "function"),)
    alone = offer_of(request(tools=TOOLS[0]))
    assert alone is not None
    assert alone.paths == (("tools", "function"),)
    older = offer_of(request(functions=[F, G], function_call={"name": "g"}))
    assert older is not None
    assert older.paths == (("functions", 1),)
    some = offer_of(request(tools=TOOLS, tool_choice=allowed("auto", "g")))
    assert some is not None
    assert some.paths == (("tools", 1, "function"),)


def told(offer: ToolOffer | None) -> dict[str, Any] | None:
    if offer is None:
        return None
    return {
        "names": offer.names,
        "must_call": offer.must_call,
        "several": offer.several,
        "older_form": offer.older_form,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"tools": []}, None),
        ({"tools": [], "functions": [], "tool_choice": "auto", "function_call": "none"}, None),
        ({"tools": None, "tool_choice": None}, None),
        ({"tools": TOOLS}, offered("fg")),
        ({"tools": TOOLS[0]}, offered("f")),
        ({"tools": TOOLS, "tool_choice": "auto"}, offered("fg")),
        ({"tools": TOOLS, "tool_choice": "none"}, None),
        ({"tools": TOOLS, "tool_choice": "required"}, offered("fg", must_call=True)),
        ({"tools": TOOLS, "tool_choice": NAMED}, offered("g", must_call=True, several=False)),
        ({"tools": TOOLS, "tool_choice": allowed("auto", "g")}, offered("g")),
        ({"tools": TOOLS, "tool_choice": allowed("required", "g", "f")}, offered("fg", must_call=True)),
        ({"tools": TOOLS, "parallel_tool_calls": False}, offered("fg", several=False)),
        ({"tools": TOOLS, "parallel_tool_calls": None}, offered("fg")),
        ({"functions": [F, G]}, offered("fg", several=False, older_form=True)),
        ({"functions": [F, G], "function_call": "auto"}, offered("fg", several=False, older_form=True)),
        ({"functions": [F, G], "function_call": {}}, offered("fg", several=False, older_form=True)),
        ({"functions": [F, G], "function_call": "none"}, None),
        (
            {"functions": [F, G], "function_call": {"name": "f", "arguments": {}}},
            offered("f", must_call=True, several=False, older_form=True),
        ),
        ({"tools": TOOLS, "functions": [F], "function_call": {"name": "f"}}, offered("fg")),
        ({"tools": [], "functions": [F]}, offered("f", several=False, older_form=True)),
    ],
)
def test_the_choice_decides_what_is_left_of_the_offer(
    given: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    assert told(offer_of(request(**given))) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "h"}}},
            'tool_choice.function.name: expected one of the functions offered ("f", "g"), got "h"',
        ),
        (
            {"functions": [F], "function_call": {"name": "h" * 100}},
            f'function_call.name: expected one of the functions offered ("f"), got "{"h" * 64}"',
        ),
        (
            {"tools": TOOLS, "tool_choice": allowed("auto", "f", "h")},
            (
                "tool_choice.allowed_tools.tools[1].function.name: expected one of the functions offered "
                '("f", "g"), got "h"'
            ),
        ),
        (
            {"tools": TOOLS, "tool_choice": allowed("auto")},
            "tool_choice.allowed_tools.tools: expected one tool at least, got none",
        ),
        (
            {"tool_choice": allowed("auto", "f")},
            'tool_choice: expected "none" or "auto", since there are no tools to call',
        ),
        (
            {"tool_choice": "required"},
            'tool_choice: expected "none" or "auto", since there are no tools to call',
        ),
        (
            {"tools": [], "tool_choice": NAMED},
            'tool_choice: expected "none" or "auto", since there are no tools to call',
        ),
        (
            {"function_call": {"name": "f"}},
            'function_call: expected "none" or "auto", since there are no functions to call',
        ),
    ],
)
def test_what_must_be_called_has_to_be_offered(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ContentError) as caught:
        offer_of(request(**given))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"tools": [{"type": "custom", "custom": {"name": "x"}}]},
            'tools[0].type: expected "function", got "custom"',
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].function: expected a function, got nothing"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "banana"}},
            'tool_choice.type: expected "function" or "allowed_tools", got "banana"',
        ),
        (
            {"tools": TOOLS, "tool_choice": "banana"},
            'tool_choice: expected "none", "auto" or "required", got "banana"',
        ),
    ],
)
def test_what_is_no_offer_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ContentError) as caught:
        request(**given)
    assert str(caught.value) == message
