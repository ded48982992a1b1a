"""Laws of messages on their way to a template: one string of text, known roles, calls as objects."""

from __future__ import annotations

from typing import Any

import pytest

from foundry_proto.codec import structure
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.chat import ChatMessage
from foundry_runtime.engine.text.messages import template_messages

TEXT_PARTS = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}


def rendered(*plain: dict[str, Any]) -> list[dict[str, Any]]:
    messages: tuple[ChatMessage, ...] = structure(tuple[ChatMessage, ...], list(plain))
    return template_messages(messages)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"role": "user", "content": "x"}, {"role": "user", "content": "x"}),
        ({"role": "user", "content": ""}, {"role": "user", "content": ""}),
        ({"role": "user", "content": []}, {"role": "user", "content": ""}),
        ({"role": "user", "content": TEXT_PARTS}, {"role": "user", "content": "ab"}),
        (
            {"role": "user", "content": "x", "name": "Ann"},
            {"role": "user", "content": "x", "name": "Ann"},
        ),
        ({"role": "system", "content": "x", "name": None}, {"role": "system", "content": "x"}),
        (
            {"role": "developer", "content": "x", "name": "Dev"},
            {"role": "system", "content": "x", "name": "Dev"},
        ),
        ({"role": "assistant"}, {"role": "assistant", "content": ""}),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "name": "Bot"},
            {"role": "assistant", "content": "no", "name": "Bot"},
        ),
        (
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]},
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
                ],
            },
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "no JSON"}},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": "000000000", "type": "function", "function": {"name": "f", "arguments": "no JSON"}}
                ],
            },
        ),
        (
            {"role": "tool", "content": "4", "tool_call_id": "call_1"},
            {"role": "tool", "content": "4", "tool_call_id": "call_1"},
        ),
        (
            {"role": "function", "content": None, "name": "f"},
            {"role": "tool", "content": "", "name": "f"},
        ),
    ],
)
def test_each_kind_of_message_is_what_templates_expect(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert rendered(given) == [expected]


def test_a_result_is_told_with_its_calls_name_and_id_in_either_form() -> None:
    older = {"name": "g", "arguments": "{}"}
    told = rendered(
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "content": "4", "tool_call_id": "call_1"},
        {"role": "assistant", "function_call": older},
        {"role": "function", "content": "5", "name": "g"},
    )
    assert told[2] == {"role": "tool", "content": "4", "tool_call_id": "call_1", "name": "f"}
    assert told[3]["tool_calls"][0]["id"] == "000000003"
    assert told[4] == {"role": "tool", "content": "5", "tool_call_id": "000000003", "name": "g"}


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": "data:,"}}, "image_url"),
        ({"type": "input_audio", "input_audio": {}}, "input_audio"),
        ({"type": "file", "file": {}}, "file"),
    ],
)
def test_a_part_that_is_no_text_is_refused_by_its_path(part: dict[str, Any], kind: str) -> None:
    with pytest.raises(ContentError) as caught:
        rendered({"role": "user", "content": "x"}, {"role": "user", "content": [*TEXT_PARTS, part]})
    assert str(caught.value) == (
        f'messages[1].content[2]: expected a text part, got one of type "{kind}": this model reads text alone'
    )
