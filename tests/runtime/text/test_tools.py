"""Laws of tools in prompts: a template's own way where it has one, else words; nothing is left out."""

from __future__ import annotations

from typing import Any

import pytest

from foundry_proto.chat.markup import FAMILIES, HERMES, CallMarkers, find_markup
from foundry_proto.chat.offer import ToolOffer, offer_of
from foundry_proto.codec import structure
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_runtime.engine.text.messages import template_messages
from foundry_runtime.engine.text.template import ChatTemplate
from foundry_runtime.engine.text.tools import ToolManner, find_manner
from tests.support.tool_templates import TEMPLATES

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city — now",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": {"name": "get_time"}}]

USER = {"role": "user", "content": "How is the weather?"}
CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_abc123XYZ", "type": "function", "function": {"name": "f", "arguments": '{"x": "é"}'}},
        {"id": "call_000000000", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ],
}
RESULT_F = {"role": "tool", "tool_call_id": "call_abc123XYZ", "content": "fine"}
RESULT_G = {"role": "tool", "tool_call_id": "call_000000000", "content": [{"type": "text", "text": "late"}]}
SAID = {"role": "assistant", "content": "It is fine."}
THANKS = {"role": "user", "content": "Thanks"}
CONVERSATION: list[dict[str, Any]] = [USER, CALLED, RESULT_F, RESULT_G]


def request(*messages: dict[str, Any], **more: Any) -> ChatCompletionRequest:
    return structure(ChatCompletionRequest, {"model": "m", "messages": list(messages), **more})


def rendered(name: str, *messages: dict[str, Any], **more: Any) -> str:
    template = ChatTemplate.from_source(TEMPLATES[name], name)
    asked = request(*messages, **more)
    markers = find_markup(template.source, ()).calls[0]
    plain, tools = find_manner(template).prepare(template_messages(asked.messages), offer_of(asked), markers)
    return template.render(plain, tools=tools)


@pytest.mark.parametrize(
    ("name", "tools", "arguments", "results"),
    [
        ("qwen", "variable", "object", True),
        ("deepseek", "words", "text", True),
        ("phi", "message", "words", False),
        ("mistral", "variable", "object", True),
        ("calls alone", "words", "object", False),
        ("roles alone", "words", "words", False),
        ("strict roles", "words", "words", False),
        ("broken", "words", "words", False),
    ],
)
def test_what_a_template_does_with_tools_is_found_out(
    name: str, tools: str, arguments: str, results: bool
) -> None:
    found = find_manner(ChatTemplate.from_source(TEMPLATES[name], name))
    assert (found.tools, found.arguments, found.results) == (tools, arguments, results)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "broken"])
def test_the_model_is_told_of_every_tool(name: str) -> None:
    text = rendered(name, USER, tools=TOOLS)
    assert text.count("get_weather") == text.count("get_time") == 1
    assert "The weather of a city — now" in text
    assert '"city": {"type": "string"}' in text
    assert '"parameters": {"type": "object", "properties": {}}' in text
    assert "How is the weather?" in text


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "broken"])
def test_calls_and_results_reach_the_model_in_their_order(name: str) -> None:
    for more in ({}, {"tools": TOOLS}):
        text = rendered(name, *CONVERSATION, SAID, THANKS, **more)
        told = ["How is the weather?", '"x": "é"', "fine", "late", "It is fine.", "Thanks"]
        places = [text.index(one) for one in told]
        assert places == sorted(places)
        assert text.count("fine") == 2


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "broken"])
def test_the_older_form_reaches_the_model_like_the_newer(name: str) -> None:
    called = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}}
    result = {"role": "function", "name": "f", "content": "fine"}
    text = rendered(name, USER, called, result, functions=[WEATHER])
    places = [text.index(one) for one in ("How is the weather?", '"x": 1', "fine")]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["qwen", "mistral", "phi", "roles alone"])
def test_what_the_model_is_told_is_nothing_without_an_offer(name: str) -> None:
    plain = rendered(name, USER)
    assert rendered(name, USER, tools=[]) == plain
    assert rendered(name, USER, tools=TOOLS, tool_choice="none") == plain
    assert "get_weather" not in plain


def test_without_support_results_are_the_users_words_and_roles_still_alternate() -> None:
    text = rendered("strict roles", *CONVERSATION, SAID, THANKS)
    assert text == (
        "user: How is the weather?\n"
        'assistant: <tool_call>\n{"name": "f", "arguments": {"x": "é"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>\n'
        "user: The result of f: fine\nThe result of g: late\n"
        "assistant: It is fine.\n"
        "user: Thanks\n"
    )


def test_what_the_user_says_behind_a_result_joins_it() -> None:
    unknown = {"role": "tool", "tool_call_id": "call_other", "content": "fine"}
    older = {"role": "function", "name": "f", "content": "fine"}
    assert rendered("strict roles", unknown, THANKS) == "user: The tool's result: fine\nThanks\n"
    assert rendered("strict roles", older) == "user: The result of f: fine\n"
    called = {**CALLED, "content": "Let me look.", "tool_calls": CALLED["tool_calls"][:1]}
    assert rendered("strict roles", USER, called, RESULT_F) == (
        "user: How is the weather?\n"
        'assistant: Let me look.\n<tool_call>\n{"name": "f", "arguments": {"x": "é"}}\n</tool_call>\n'
        "user: The result of f: fine\n"
    )


def test_the_offer_in_words_stands_in_the_system_message() -> None:
    words = (
        "You can call these functions, described in JSON, one on each line:\n"
        '{"name": "get_time", "parameters": {"type": "object", "properties": {}}}\n'
        "\n"
        "To call one, write its name and its arguments in exactly this form:\n"
        '<tool_call>\n{"name": "NAME", "arguments": {"PARAMETER": "VALUE"}}\n</tool_call>\n'
    )
    free = "Call a function if its result helps you to answer; otherwise answer in your own words."
    system = {"role": "system", "content": "Be brief."}
    start, end = "<|im_start|>", "<|im_end|>\n"
    user, answer = f"{start}user\nThanks{end}", f"{start}assistant\n"
    time = TOOLS[1:]
    assert rendered("roles alone", THANKS, tools=time) == f"{start}system\n{words}{free}{end}{user}{answer}"
    assert rendered("roles alone", system, THANKS, tools=time) == (
        f"{start}system\nBe brief.\n\n{words}{free}{end}{user}{answer}"
    )
    must = rendered("roles alone", THANKS, tools=time, tool_choice="required", parallel_tool_calls=False)
    assert must == (
        f"{start}system\n{words}Your answer must be a call.\nMake one call at most.{end}{user}{answer}"
    )


def test_a_template_without_a_system_message_has_the_offer_in_the_first_question() -> None:
    text = rendered("strict roles", USER, SAID, THANKS, tools=TOOLS[1:])
    assert text.startswith("user: You can call these functions")
    assert text.endswith("own words.\n\nHow is the weather?\nassistant: It is fine.\nuser: Thanks\n")
    begun = rendered("strict roles", SAID, tools=TOOLS[1:])
    assert begun.startswith("user: You can call these functions")
    assert begun.endswith("own words.\nassistant: It is fine.\n")


def test_a_named_function_is_all_that_the_model_is_told_of() -> None:
    named = {"type": "function", "function": {"name": "get_time"}}
    for name in ("qwen", "phi", "roles alone"):
        text = rendered(name, USER, tools=TOOLS, tool_choice=named)
        assert "get_time" in text
        assert "get_weather" not in text


def test_a_conversation_may_begin_with_what_is_no_user() -> None:
    assert "Hello" in rendered("phi", {"role": "assistant", "content": "Hello"}, tools=TOOLS)


@pytest.mark.parametrize(
    ("family", "written"),
    [
        ("Hermes, Qwen", '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'),
        ("Phi-4-mini", '<|tool_call|>[{"name": "f", "arguments": {"x": 1}}]<|/tool_call|>'),
        ("Llama 3", '<|python_tag|>{"name": "f", "parameters": {"x": 1}}'),
        ("Mistral", '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}}]'),
    ],
)
def test_calls_in_words_are_written_as_the_family_writes_them(family: str, written: str) -> None:
    (markers,) = [one.markup.calls[0] for one in FAMILIES if one.name == family]
    assert in_words(markers) == written


def test_a_marker_that_belongs_to_the_calls_is_not_written_twice() -> None:
    kept = CallMarkers(begin="functools[", keeps="[", array=True)
    assert in_words(kept) == 'functools[{"name": "f", "arguments": {"x": 1}}]'


def in_words(markers: CallMarkers) -> str:
    manner = ToolManner(tools="words", arguments="words", results=False)
    function = {"name": "f", "arguments": {"x": 1}}
    call = {"id": "000000000", "type": "function", "function": function}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    (changed,), _ = manner.prepare([message], None, markers)
    return str(changed["content"])


def test_ids_that_are_not_ours_are_left_as_they_are() -> None:
    manner = ToolManner(tools="variable", arguments="object", results=True)
    ids = ["call_abc123XYZ", "call_short", "toolu_01", "call_éééééééé1", "abc123XYZ"]
    messages = [{"role": "tool", "content": "", "tool_call_id": one} for one in ids]
    changed, _ = manner.prepare(messages, None, HERMES.markup.calls[0])
    assert [one["tool_call_id"] for one in changed] == ["abc123XYZ", *ids[1:4], "abc123XYZ"]
    assert [one["tool_call_id"] for one in messages] == ids


def test_what_is_prepared_changes_nothing_that_was_given() -> None:
    messages = template_messages(request(*CONVERSATION).messages)
    before = repr(messages)
    offer = offer_of(request(USER, tools=TOOLS))
    assert isinstance(offer, ToolOffer)
    for template in TEMPLATES.values():
        find_manner(ChatTemplate.from_source(template, "t")).prepare(messages, offer, HERMES.markup.calls[0])
    assert repr(messages) == before
