"""The tokenizer made from a GGUF file gives the ids that llama.cpp gives with that file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from foundry_runtime.importers._reader import GgufFile
from foundry_runtime.importers._tokenizer import make_tokenizer
from foundry_runtime.importers._vocabulary import read_vocabulary
from tests.golden.tiny_tokenizers import SURROUNDED, TINY_TOKENIZERS
from tests.support.tiny_model import byte_level_fields, write_tiny_gguf

GOLDEN = Path(__file__).parents[2] / "golden"
TINY: dict[str, Any] = json.loads((GOLDEN / "tiny_token_ids.json").read_bytes())
TINY_ENTRIES: dict[str, dict[str, Any]] = {
    name: entry for entry in TINY["entries"] for name in entry["names"]
}
SENTENCEPIECE = [name for name in TINY_TOKENIZERS if name.startswith("sentencepiece")]


def tokenizer_of(path: Path) -> Tokenizer:
    with GgufFile(path) as file:
        return make_tokenizer(file.metadata, read_vocabulary(file.metadata)).tokenizer


def tiny_tokenizer(directory: Path, name: str) -> Tokenizer:
    write_tiny_gguf(directory / "tiny.gguf", fields=TINY_TOKENIZERS[name])
    return tokenizer_of(directory / "tiny.gguf")


def encode(tokenizer: Tokenizer, text: str, *, specials: bool) -> list[int]:
    tokenizer.encode_special_tokens = not specials
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def test_each_tokenizer_is_in_the_golden_file() -> None:
    assert set(TINY_ENTRIES) == set(TINY_TOKENIZERS)


@pytest.mark.parametrize("name", TINY_ENTRIES)
def test_tiny_tokenizers_give_the_ids_of_llama_cpp(name: str, tmp_path: Path) -> None:
    tokenizer, entry = tiny_tokenizer(tmp_path, name), TINY_ENTRIES[name]
    for index, (text, ids) in enumerate(zip(TINY["texts"], entry["ids"], strict=True)):
        assert encode(tokenizer, text, specials=False) == ids, text
        expected = entry["with_specials"].get(str(index), ids)
        assert encode(tokenizer, text, specials=True) == expected, text


@pytest.mark.parametrize("name", TINY_ENTRIES)
def test_begin_tokens_are_put_around_a_text_as_llama_cpp_does(name: str, tmp_path: Path) -> None:
    assert tiny_tokenizer(tmp_path, name).encode(SURROUNDED).ids == TINY_ENTRIES[name]["surrounded"]


def test_the_golden_file_tells_pre_tokenizers_apart() -> None:
    all_ids = [json.dumps(entry["ids"]) for entry in TINY["entries"]]
    assert len(set(all_ids)) == len(all_ids)


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "llama-bpe", "default", *SENTENCEPIECE])
def test_decoding_gives_the_text_back(name: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, name)
    for text in TINY["texts"]:
        if "<tool>" in text and name == "sentencepiece":
            continue  # A blank is put after each special token, and nothing takes that one back.
        ids = encode(tokenizer, text, specials=False)
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_an_end_token_is_added_where_the_file_says_so(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_tiny_gguf(
        source, fields={"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    )
    tokenizer = tokenizer_of(source)
    assert tokenizer.encode("").ids == [1, 2]
    assert tokenizer.encode("", "").ids == [1, 2, 1, 2]


def test_without_token_types_only_what_ends_a_turn_is_special(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_tiny_gguf(source, fields={"tokenizer.ggml.token_type": None})
    tokenizer = tokenizer_of(source)
    assert encode(tokenizer, "<|im_end|>", specials=True) == [2]
    assert encode(tokenizer, "<|im_start|>", specials=True) != [1]


def test_an_empty_token_gets_llama_cpp_s_name(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    tokens: list[str] = byte_level_fields()["tokenizer.ggml.tokens"]  # type: ignore[assignment]
    write_tiny_gguf(source, fields={"tokenizer.ggml.tokens": ["", *tokens[1:]]})
    assert tokenizer_of(source).id_to_token(0) == "[EMPTY_0]"


@pytest.mark.model
def test_the_default_model_s_tokenizer_gives_the_ids_of_llama_cpp(default_model_gguf: Path) -> None:
    golden = json.loads((GOLDEN / "smollm2_token_ids.json").read_bytes())
    assert len(golden["cases"]) == 300
    tokenizer = tokenizer_of(default_model_gguf)
    for case in golden["cases"]:
        assert encode(tokenizer, case["text"], specials=False) == case["ids"], case["text"]
        expected = case.get("ids_with_specials", case["ids"])
        assert encode(tokenizer, case["text"], specials=True) == expected, case["text"]
