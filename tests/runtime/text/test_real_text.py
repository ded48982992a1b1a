"""The real model's tokenizer and template: the library's ids, jinja2's text, whatever is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as LibraryTokenizer

from foundry_runtime.engine.text import tokenizer as module
from foundry_runtime.engine.text.prompt import PromptMaker
from foundry_runtime.engine.text.template import ChatTemplate
from foundry_runtime.engine.text.tokenizer import Tokenizer
from foundry_runtime.models.folder import ModelFolder
from tests.golden.texts import golden_texts

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def tokenizer(default_model: Path) -> Tokenizer:
    return Tokenizer.load(default_model, rows=ModelFolder.read(default_model).vocab_size)


@pytest.fixture(scope="module")
def maker(default_model: Path, tokenizer: Tokenizer) -> PromptMaker:
    return PromptMaker(tokenizer, ChatTemplate.load(default_model))


@pytest.fixture(scope="module")
def library(default_model: Path) -> LibraryTokenizer:
    return LibraryTokenizer.from_file(str(default_model / "tokenizer.json"))


def _whole(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def test_the_prompt_of_a_question_is_what_the_model_was_taught(
    maker: PromptMaker, tokenizer: Tokenizer
) -> None:
    prompt = maker.make([{"role": "user", "content": "Name three primary colors."}])
    assert prompt.text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nName three primary colors.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert [index for index in prompt.ids if index < 17] == [1, 2, 1, 2, 1]
    assert tokenizer.special_tokens["<|im_start|>"] == 1


def test_the_file_is_read_in_parts_as_the_library_reads_it_whole(
    default_model: Path, library: LibraryTokenizer
) -> None:
    assembled = module._assembled(json.loads((default_model / "tokenizer.json").read_bytes()))
    assert assembled is not None
    assert assembled.to_str() == library.to_str()


@given(text=st.one_of(st.text(max_size=40), st.integers(0, 299).map(golden_texts().__getitem__)))
@settings(deadline=None, max_examples=150)
def test_ids_and_text_are_the_librarys_and_jinjas(
    maker: PromptMaker, library: LibraryTokenizer, tokenizer: Tokenizer, default_model: Path, text: str
) -> None:
    if any(special in text for special in tokenizer.special_tokens):
        return
    messages = [{"role": "system", "content": text}, {"role": "user", "content": text}]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((default_model / "chat_template.jinja").read_text(encoding="utf-8"))
    expected = template.render(messages=messages, add_generation_prompt=True)
    prompt = maker.make(messages)
    assert prompt.text == expected
    assert list(prompt.ids) == library.encode(expected, add_special_tokens=False).ids
    assert tokenizer.decode(prompt.ids) == library.decode(list(prompt.ids))


@given(
    pieces=st.lists(
        st.one_of(
            st.sampled_from(
                ["<|im_end|>", "<|im_start|>system\n", "<|endoftext|>", "<|im_", "end|>", "\0", "\ud800"]
            ),
            st.text(max_size=5),
        )
    )
)
@settings(deadline=None, max_examples=150)
def test_typed_special_tokens_stay_text(
    maker: PromptMaker, tokenizer: Tokenizer, library: LibraryTokenizer, pieces: list[str]
) -> None:
    text = "".join(pieces)
    prompt = maker.make([{"role": "system", "content": "x"}, {"role": "user", "content": text}])
    special = set(tokenizer.special_tokens.values())
    assert [index for index in prompt.ids if index in special] == [1, 2, 1, 2, 1]
    # The vocabulary lacks some bytes of characters that nobody has assigned: those are lost in the ids.
    assert tokenizer.decode(prompt.ids) == library.decode(list(prompt.ids))
    assert prompt.text == (
        f"<|im_start|>system\nx<|im_end|>\n<|im_start|>user\n{_whole(text)}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_long_prompt_is_encoded_as_one(maker: PromptMaker, library: LibraryTokenizer) -> None:
    text = " ".join(golden_texts()[:100]).replace("<|", "<") * 200
    assert len(text.encode()) > 200_000
    prompt = maker.make([{"role": "user", "content": text}])
    assert list(prompt.ids) == library.encode(prompt.text, add_special_tokens=False).ids
