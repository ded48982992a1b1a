"""Laws of answers that are held to calls: whatever is said under the form is read as valid calls."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from attrs import evolve

from foundry_proto.chat.calls import Call
from foundry_proto.chat.markup import FAMILIES, HERMES, Family, Markup
from foundry_proto.chat.offer import offer_of
from foundry_proto.chat.splitter import Content, Part, Reasoning, Splitter
from foundry_proto.codec import structure
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_runtime.engine.text.guidance.asked import MOST_CALLS, form_for
from foundry_runtime.engine.text.guidance.forms import Form
from tests.runtime.text.guidance.walking import Walker

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 3},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["°C", "°F"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "parameters": PARAMETERS}
STRICT = {**WEATHER, "strict": True}
TIME = {"name": "get_time"}
SCHEMAS: dict[str, Any] = {"get_weather": PARAMETERS, "get_time": {"maxProperties": 0}}
THINKING = evolve(HERMES.markup, reasoning=("<think>", "</think>"))
ONE = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
BARE = '{"name": "get_time", "parameters": {}}'
(LLAMA,) = (family.markup for family in FAMILIES if family.markup.bare)


def request(*functions: dict[str, Any], **more: Any) -> ChatCompletionRequest:
    tools = [{"type": "function", "function": one} for one in functions or (WEATHER, TIME)]
    plain = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": tools, **more}
    return structure(ChatCompletionRequest, plain)


def required(*functions: dict[str, Any], **more: Any) -> ChatCompletionRequest:
    return request(*functions, tool_choice="required", **more)


def form_of(
    asked: ChatCompletionRequest, markup: Markup = HERMES.markup, *, opened: bool = False, taught: bool = True
) -> Form:
    form = form_for(asked, markup=markup, offer=offer_of(asked), opens_reasoning=opened, knows_tools=taught)
    assert form is not None
    return form


def read(text: str, markup: Markup = HERMES.markup, *, opened: bool = False) -> list[Part]:
    splitter = Splitter(markup, frozenset(SCHEMAS), begins_in_reasoning=opened)
    return [*splitter.push(text), *splitter.finish()]


def said(walker: Walker, form: Form, seed: int) -> str:
    """Something that the form allows. None of the markers is a special token of this vocabulary."""
    text = walker.walk(walker.guidance.compile(form), seed)
    assert text is not None
    return text


def check(call: Part) -> None:
    assert isinstance(call, Call)
    jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_an_answer_that_must_call_is_read_as_valid_calls(walker: Walker, family: Family) -> None:
    for seed in range(4):
        calls = read(said(walker, form_of(required(), family.markup), seed), family.markup)
        assert 1 <= len(calls) <= MOST_CALLS
        for call in calls:
            check(call)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_one_call_is_one_call(walker: Walker, family: Family) -> None:
    one = form_of(required(parallel_tool_calls=False), family.markup)
    untaught = form_of(required(), family.markup, taught=False)
    for form in (one, untaught):
        (call,) = read(said(walker, form, 1), family.markup)
        check(call)
    assert form_of(required(parallel_tool_calls=True), family.markup, taught=False) == form_of(
        required(), family.markup
    )


def test_a_named_function_is_the_one_that_is_called(walker: Walker) -> None:
    named = {"type": "function", "function": {"name": "get_time"}}
    assert read(said(walker, form_of(request(tool_choice=named)), 1)) == [
        Call(name="get_time", arguments="{}")
    ]


@pytest.mark.parametrize(
    ("text", "opened", "allowed"),
    [
        (ONE, False, True),
        (f"<think>How? {{</think>\n\n{ONE}", False, True),
        (f"<think></think>{ONE}", False, True),
        ("<think>x</think>\n\n\n", False, False),
        ("How?</think>", False, False),
        (f"How?</think>\n{ONE}", True, True),
        ("How?</think>So", True, False),
    ],
)
def test_the_model_may_think_before_it_calls(walker: Walker, text: str, opened: bool, allowed: bool) -> None:
    form = form_of(required(), THINKING, opened=opened)
    assert walker.begins(form, text) == allowed
    if allowed:
        *thoughts, call = read(text, THINKING, opened=opened)
        check(call)
        assert all(isinstance(part, Reasoning) for part in thoughts)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("Hello <tool x", True),
        ("", True),
        (f"Hi {ONE} and <b>", True),
        (f"{ONE}{ONE}", True),
        (
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "O", "unit": "°C"}}\n</tool_call>',
            True,
        ),
        ('<tool_call>\n{"name": "get_weather", "arguments": {"town"', False),
        ("<tool_call>no", False),
        ("<tool_call>\n{ ", False),
    ],
)
def test_free_text_may_hold_calls_but_of_strict_functions_only_whole_and_valid_ones(
    walker: Walker, text: str, allowed: bool
) -> None:
    assert walker.begins(form_of(request(STRICT, TIME)), text) == allowed


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("Hello {", True),
        ("", True),
        (" \n", True),
        (BARE, True),
        (f"{BARE}; {BARE}", True),
        ('{"name": "get_time", "parameters": {"x"', False),
        ('{"answer"', False),
        (' {"answer"', False),
    ],
)
def test_where_calls_stand_bare_other_text_is_no_object(walker: Walker, text: str, allowed: bool) -> None:
    assert walker.begins(form_of(request(STRICT, TIME), LLAMA), text) == allowed


def test_an_answer_may_have_its_own_form_instead_of_a_call(walker: Walker) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}
    json_schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    form = form_of(request(response_format=json_schema))
    kinds = set()
    for seed in range(8):
        part, *_ = read(said(walker, form, seed))
        kinds.add(type(part))
        if isinstance(part, Content):
            assert set(json.loads(part.text)) == {"x"}
    assert kinds == {Content, Call}
    assert form_of(required(response_format=json_schema)) == form_of(required())


@pytest.mark.parametrize("functions", [(WEATHER, TIME), ({**TIME, "strict": False},)])
def test_where_nothing_is_demanded_nothing_is_enforced(functions: tuple[dict[str, Any], ...]) -> None:
    asked = request(*functions)
    assert form_for(asked, markup=HERMES.markup, offer=offer_of(asked), opens_reasoning=False) is None


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (
            required(TIME, {"name": "g", "parameters": {"type": "array"}}),
            "tools[1].function.parameters.type",
        ),
        (
            request(TIME, {"name": "g", "parameters": {"type": "array"}}, tool_choice={
                "type": "function", "function": {"name": "g"},
            }),
            "tools[1].function.parameters.type",
        ),
        (
            structure(
                ChatCompletionRequest,
                {
                    "model": "m",
                    "messages": [{"role": "user", "content": "x"}],
                    "functions": [TIME, {"name": "g", "parameters": {"type": "string"}}],
                    "function_call": {"name": "g"},
                },
            ),
            "functions[1].parameters.type",
        ),
    ],
)  # fmt: skip
def test_parameters_that_are_no_objects_are_refused_by_their_place(
    asked: ChatCompletionRequest, param: str
) -> None:
    with pytest.raises(ContentError) as caught:
        form_of(asked)
    assert caught.value.param == param


def test_parameters_that_cannot_be_enforced_are_refused_by_their_place(walker: Walker) -> None:
    odd = {"name": "g", "parameters": {"type": "object", "properties": {"x": {"not": {}}}}}
    with pytest.raises(ContentError) as caught:
        walker.guidance.compile(form_of(required(TIME, odd)))
    assert (caught.value.param or "").startswith("tools[1].function.parameters.properties.x")
