"""A `PromptTemplate` as chat template: its texts stand around each message, and the answer begins once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundry_runtime.engine.text.template import ChatTemplate, TemplateError

SYSTEM, USER, SAID, MORE = (
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U{Content}"},
    {"role": "assistant", "content": "A"},
    {"role": "user", "content": "V"},
)
WHOLE = {
    "system": "<s>{Content}</s>",
    "user": "<u>{Content}</u>",
    "assistant": "<a>{Content}</a>",
    "prompt": "<u>{Content}</u><a>",
}


def load(folder: Path, parts: object) -> ChatTemplate:
    (folder / "inference_model.json").write_text(json.dumps({"Name": "m:1", "PromptTemplate": parts}))
    return ChatTemplate.load(folder)


def rendered(folder: Path, parts: object, *messages: dict[str, Any], answer: bool = True) -> str:
    return load(folder, parts).render(messages, add_generation_prompt=answer)


ALIKE = "<u>S\n\nU{Content}</u><a>A</a><u>V</u><a>"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (WHOLE, "<s>S</s><u>U{Content}</u><a>A</a><u>V</u><a>"),
        ({**WHOLE, "system": None}, ALIKE),
        ({"user": WHOLE["user"], "assistant": WHOLE["assistant"]}, ALIKE),
        ({"prompt": WHOLE["prompt"], "assistant": WHOLE["assistant"]}, ALIKE),
        ({"prompt": WHOLE["prompt"], "assistant": "{Content}</a>"}, ALIKE),
        ({"prompt": WHOLE["prompt"]}, "<u>S\n\nU{Content}</u><a>A\n<u>V</u><a>"),
        ({"user": "{Content}\n", "prompt": "{Content}\n> "}, "S\n\nU{Content}\n> A\nV\n> "),
        ({"user": "Q: {Content}", "prompt": "{Content} ?"}, "S\n\nU{Content} ?A\nV ?"),
        ({"prompt": "{Content}", "Later": 1}, "S\n\nU{Content}A\nV"),
    ],
)  # fmt: skip
def test_messages_stand_in_their_roles_texts(tmp_path: Path, parts: dict[str, str], expected: str) -> None:
    assert rendered(tmp_path, parts, SYSTEM, USER, SAID, MORE) == expected


def test_the_answers_beginning_comes_once_whoever_spoke_last(tmp_path: Path) -> None:
    assert rendered(tmp_path, WHOLE, SYSTEM) == "<s>S</s><a>"
    assert rendered(tmp_path, WHOLE, USER, SAID) == "<u>U{Content}</u><a>A</a><a>"
    assert rendered(tmp_path, WHOLE, USER, answer=False) == "<u>U{Content}</u>"


def test_a_chat_template_counts_before_it(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ messages | length }}")
    assert rendered(tmp_path, {"nothing": "usable"}, USER) == "1"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "PromptTemplate: expected an object, got list"),
        ({}, "PromptTemplate.prompt: expected a text with {Content}, since there is none for user either"),
        ({"prompt": "x"}, "PromptTemplate.prompt: expected a text with {Content}"),
        ({**WHOLE, "assistant": 5}, "PromptTemplate.assistant: expected a text with {Content}"),
    ],
)
def test_what_says_too_little_is_refused_by_name(tmp_path: Path, parts: object, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        load(tmp_path, parts)
    assert str(caught.value) == f"{tmp_path / 'inference_model.json'}: {message}"
