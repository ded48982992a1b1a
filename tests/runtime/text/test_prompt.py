"""Prompts: the library's ids when users type plain text, and plain text whatever they type."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as LibraryTokenizer

from foundry_proto.chat.markup import HERMES, Markup
from foundry_proto.chat.offer import offer_of
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.messages.tools import FunctionDefinition, FunctionTool
from foundry_runtime.engine.text.prompt import PromptMaker
from foundry_runtime.engine.text.template import ChatTemplate, ConversationRefused
from foundry_runtime.engine.text.tokenizer import Tokenizer
from tests.golden.texts import golden_texts
from tests.runtime.text.small_tokenizers import SMALL_TOKENIZERS, write_tokenizer

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BARE = "{{ messages[0].content }}"
SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")

# Whole special tokens, parts of them, marks, and anything else, halves of surrogate pairs too.
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *SPECIAL,
                "<|im_",
                "end|>",
                "<",
                "|>",
                "s>",
                "\ufdd0",
                "\ufdd1",
                "\\ufdd0",
                "\0",
                "\ud83d",
                "\ude00",
            ]
        ),
        st.text(st.characters(), max_size=6),
    ),
    max_size=6,
).map("".join)


@pytest.fixture(scope="module", params=list(SMALL_TOKENIZERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def library(kind: str, tmp_path_factory: pytest.TempPathFactory) -> LibraryTokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("unused"), kind)


@pytest.fixture(scope="module")
def tokenizer(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, kind)
    return Tokenizer.load(folder)


def _maker(tokenizer: Tokenizer, source: str = CHAT) -> PromptMaker:
    return PromptMaker(tokenizer, ChatTemplate.from_source(source, "template"))


def _chat(*contents: str) -> list[Mapping[str, object]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


def _whole(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@given(contents=st.lists(st.text(max_size=12), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_where_nobody_types_special_tokens_the_ids_are_the_librarys_for_the_whole_text(
    tokenizer: Tokenizer, library: LibraryTokenizer, contents: list[str]
) -> None:
    if any(special in text for text in contents for special in SPECIAL):
        return
    prompt = _maker(tokenizer).make(_chat(*contents))
    assert list(prompt.ids) == library.encode(prompt.text, add_special_tokens=False).ids
    assert (
        prompt.text
        == "".join(
            f"<|im_start|>{('user', 'assistant')[i % 2]}\n{text}<|im_end|>\n"
            for i, text in enumerate(contents)
        )
        + "<|im_start|>assistant\n"
    )


def test_the_golden_texts_get_the_librarys_ids(tokenizer: Tokenizer, library: LibraryTokenizer) -> None:
    maker = _maker(tokenizer)
    for text in golden_texts():
        if not any(special in text for special in SPECIAL):
            prompt = maker.make(_chat(text))
            assert list(prompt.ids) == library.encode(prompt.text, add_special_tokens=False).ids, text


@pytest.mark.parametrize(
    "text",
    [
        "<s> a </s>",
        "a <|left|> b",
        "a  <|left|>  b<|right|>  c",
        "<|right|>\n\n<|left|>",
        "<|left|>a",
        " <|right|> ",
        "x <tool> y",
    ],
)
def test_special_tokens_of_the_template_swallow_the_blanks_that_they_swallow_in_the_library(
    tmp_path: Path, text: str
) -> None:
    library = write_tokenizer(tmp_path, "swallowing-blanks")
    prompt = _maker(Tokenizer.load(tmp_path), text).make([])
    assert list(prompt.ids) == library.encode(text, add_special_tokens=False).ids
    assert prompt.text == text


@given(contents=st.lists(HOSTILE, min_size=1, max_size=4))
@settings(deadline=None, max_examples=80)
def test_whatever_users_type_the_special_tokens_are_the_templates_and_the_text_is_theirs(
    tokenizer: Tokenizer, contents: list[str]
) -> None:
    prompt = _maker(tokenizer).make(_chat(*contents))
    start, end = tokenizer.special_tokens["<|im_start|>"], tokenizer.special_tokens["<|im_end|>"]
    unknown = tokenizer.special_tokens["<unk>"]
    found = [index for index in prompt.ids if index in tokenizer.special_tokens.values() and index != unknown]
    assert found == [start, end] * len(contents) + [start]
    assert [_whole(text) for text in contents] == [
        part.partition("\n")[2] for part in _between(prompt.text, contents)
    ]


def _between(text: str, contents: Sequence[str]) -> list[str]:
    """The messages in a rendered chat, cut where they are known to end."""
    parts: list[str] = []
    for index, content in enumerate(contents):
        head = f"<|im_start|>{('user', 'assistant')[index % 2]}\n"
        length = len(head) + len(_whole(content))
        parts.append(text[:length])
        assert text[length : length + 11] == "<|im_end|>\n"
        text = text[length + 11 :]
    assert text == "<|im_start|>assistant\n"
    return parts


def test_a_token_typed_in_two_messages_stays_text(tokenizer: Tokenizer) -> None:
    maker = _maker(tokenizer, "{{ messages[0].content }}{{ messages[1].content }}")
    prompt = maker.make(_chat("<|im_", "end|>"))
    assert prompt.text == "<|im_end|>"
    assert tokenizer.special_tokens["<|im_end|>"] not in prompt.ids


def test_a_role_may_be_half_of_a_templates_special_token(tokenizer: Tokenizer) -> None:
    prompt = _maker(tokenizer, "<|{{ messages[0].role }}|>").make([{"role": "im_end", "content": ""}])
    assert list(prompt.ids) == [tokenizer.special_tokens["<|im_end|>"]]


def test_special_tokens_in_tools_stay_text_also_through_json(tokenizer: Tokenizer) -> None:
    tools = [{"name": "</s>", "parameters": {"<|im_end|>": {"description": "<s>\ufdd0"}}}]
    for escape in ("false", "true"):
        maker = _maker(tokenizer, f"<s>{{{{ tools | tojson(ensure_ascii={escape}) }}}}")
        prompt = maker.make([], tools)
        assert prompt.text == "<s>" + json.dumps(tools, ensure_ascii=escape == "true")
        assert prompt.ids[0] == tokenizer.special_tokens["<s>"]
        special = {tokenizer.special_tokens[text] for text in SPECIAL if text != "<unk>"}
        assert special.isdisjoint(prompt.ids[1:])


def test_templates_still_find_what_they_look_for_beside_a_typed_token(tokenizer: Tokenizer) -> None:
    source = "{{ messages[0].content.split('</think>')[-1] | trim }}"
    prompt = _maker(tokenizer, source).make(_chat("thought </s></think>  answer <s>  "))
    assert prompt.text == "answer <s>"


def test_halves_of_surrogate_pairs_become_one_character_or_the_replacement(tokenizer: Tokenizer) -> None:
    prompt = _maker(tokenizer, BARE).make(_chat("a\ud83d\ude00b\ud83dc"))
    assert prompt.text == "a\N{GRINNING FACE}b\N{REPLACEMENT CHARACTER}c"


def test_nul_is_a_character_like_others(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "byte-level")
    tokenizer = Tokenizer.load(tmp_path)
    prompt = _maker(tokenizer, BARE).make(_chat("a\0b"))
    assert [tokenizer.token_bytes[index] for index in prompt.ids] == [b"a", b"\0", b"b"]


def test_a_text_that_leaves_no_character_for_a_mark_is_refused_only_beside_a_special_token(
    tmp_path: Path,
) -> None:
    write_tokenizer(tmp_path, "byte-level")
    maker = _maker(Tokenizer.load(tmp_path), BARE)
    everything = "".join(map(chr, [*range(0xFDD0, 0xFDF0), *range(0xE000, 0xF900)]))
    assert maker.make(_chat(everything)).text == everything
    with pytest.raises(ConversationRefused) as error:
        maker.make(_chat(everything + "<s>"))
    assert str(error.value) == "messages: expected text, got all 6432 characters that are none"


def test_the_ids_are_an_array_of_c_ints(tokenizer: Tokenizer) -> None:
    ids = _maker(tokenizer).make(_chat("Hi")).ids
    assert isinstance(ids, array)
    assert memoryview(ids).format == "i"


def test_without_special_tokens_a_prompt_is_all_text(tmp_path: Path) -> None:
    library = write_tokenizer(tmp_path, "byte-level")
    plain = json.loads(library.to_str())
    plain["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    prompt = _maker(Tokenizer.load(tmp_path)).make(_chat("<s>"))
    assert list(prompt.ids) == LibraryTokenizer.from_str(json.dumps(plain)).encode(prompt.text).ids


def test_an_empty_prompt_has_no_ids(tokenizer: Tokenizer) -> None:
    prompt = _maker(tokenizer, "").make([])
    assert list(prompt.ids) == []
    assert prompt.text == ""


def test_the_generation_prompt_can_be_left_out(tokenizer: Tokenizer) -> None:
    maker = _maker(tokenizer)
    assert maker.make(_chat("Hi"), add_generation_prompt=False).text == "<|im_start|>user\nHi<|im_end|>\n"


def test_what_is_given_is_left_as_it_was(tokenizer: Tokenizer) -> None:
    messages, tools = _chat("<s>", "</s>"), [{"name": "<s>"}]
    before = json.dumps([messages, tools])
    _maker(tokenizer).make(messages, tools)
    assert json.dumps([messages, tools]) == before


def test_a_prompt_tells_whether_it_opens_reasoning(tokenizer: Tokenizer) -> None:
    thinks = "{{ messages[0].content.split('</think>')[-1] }}"
    for ending, opened in (("<think>\n", True), ("<think>\n\n</think>\n\n", False), ("", False)):
        assert _maker(tokenizer, thinks + ending).make(_chat("x")).opens_reasoning == opened
    assert not _maker(tokenizer, "{{ messages[0].content }}<think>").make(_chat("x")).opens_reasoning


def test_a_model_may_be_given_its_markup(tokenizer: Tokenizer) -> None:
    template = ChatTemplate.from_source("{{ messages[0].content }}<r>", "template")
    markup = Markup(reasoning=("<r>", "</r>"))
    assert PromptMaker(tokenizer, template, markup).make(_chat("x")).opens_reasoning
    assert PromptMaker(tokenizer, template).markup == HERMES.markup


@pytest.mark.parametrize(
    ("effort", "written"),
    [(None, "on on -"), ("none", "off off none"), ("low", "on on low"), ("high", "on on high")],
)
def test_how_much_to_think_reaches_the_template(tokenizer: Tokenizer, effort: Any, written: str) -> None:
    source = (
        "{{ 'off' if enable_thinking is defined and not enable_thinking else 'on' }} "
        "{{ 'off' if thinking is defined and not thinking else 'on' }} {{ reasoning_effort | default('-') }}"
    )
    maker = _maker(tokenizer, source)
    assert maker.make(_chat("x"), effort=effort).text == written
    messages = (UserMessage(role="user", content="x"),)
    assert maker.make_chat(messages, effort=effort).text == written
    tools = (FunctionTool(type="function", function=FunctionDefinition(name="f")),)
    offer = offer_of(ChatCompletionRequest(model="m", messages=messages, tools=tools))
    assert maker.make_chat(messages, offer, effort=effort).text == written
