"""Prompts of plain text: the library's own ids, special tokens included, and gaps that are filled in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers import Tokenizer as LibraryTokenizer
from tokenizers.processors import TemplateProcessing

from foundry_proto.jsontext import ContentError
from foundry_runtime.engine.text.prompt import PromptMaker
from foundry_runtime.engine.text.template import ChatTemplate
from foundry_runtime.engine.text.tokenizer import Tokenizer
from tests.runtime.text.small_tokenizers import SMALL_TOKENIZERS, write_tokenizer

PIECES = st.sampled_from(
    ["<s>", "</s>", "<|im_start|>", "<|left|>", "<|im_", "end|>", "the cat", " ", "\n", "\0", "é"]
)
TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=6).map("".join)


def maker(folder: Path) -> PromptMaker:
    return PromptMaker(Tokenizer.load(folder), ChatTemplate.from_source("", "template"))


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[PromptMaker, LibraryTokenizer]]:
    made = []
    for kind in SMALL_TOKENIZERS:
        folder = tmp_path_factory.mktemp(kind)
        library = write_tokenizer(folder, kind)
        made.append((maker(folder), library))
    return made


@settings(deadline=None, max_examples=100)
@given(TEXTS)
def test_a_texts_ids_are_the_librarys_special_tokens_included(
    kinds: list[tuple[PromptMaker, LibraryTokenizer]], text: str
) -> None:
    for prompts, library in kinds:
        prompt = prompts.make_text(text)
        assert list(prompt.ids) == library.encode(text).ids
        assert prompt.text == text


def test_a_text_begins_as_its_tokenizer_says_once_and_does_not_end_so(tmp_path: Path) -> None:
    library = write_tokenizer(tmp_path, "byte-level")
    library.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    library.save(str(tmp_path / "tokenizer.json"))
    prompts = maker(tmp_path)
    for text in ("hello", "<s>hello", ""):
        expected = library.encode(text.removeprefix("<s>")).ids[:-1]
        assert list(prompts.make_text(text).ids) == expected


def test_halves_of_surrogate_pairs_are_replaced(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "byte-level")
    assert maker(tmp_path).make_text("a\ud83d").text == "a\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("special", [True, False])
def test_a_gap_is_marked_with_the_models_own_tokens(tmp_path: Path, special: bool) -> None:
    library = write_tokenizer(tmp_path, "byte-level")
    marks = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]
    library.add_tokens([AddedToken(mark, special=special, normalized=False) for mark in marks])
    library.save(str(tmp_path / "tokenizer.json"))
    prompt = maker(tmp_path).make_text("def f(x):\n", "    return x")
    assert prompt.text == "<fim_prefix>def f(x):\n<fim_suffix>    return x<fim_middle>"
    first, between, last = (library.token_to_id(mark) for mark in marks)
    before, behind = (library.encode(text).ids for text in ("def f(x):\n", "    return x"))
    assert list(prompt.ids) == [first, *before, between, *behind, last]


def test_a_model_that_fills_no_gaps_says_so(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "byte-level")
    with pytest.raises(ContentError) as caught:
        maker(tmp_path).make_text("a", "b")
    assert str(caught.value) == "suffix: expected none: this model has no tokens for filling in, got text"


def test_without_special_tokens_a_text_is_all_text(tmp_path: Path) -> None:
    library = write_tokenizer(tmp_path, "byte-level")
    plain = json.loads(library.to_str())
    plain["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    ids = maker(tmp_path).make_text("<s>").ids
    assert list(ids) == LibraryTokenizer.from_str(json.dumps(plain)).encode("<s>").ids
