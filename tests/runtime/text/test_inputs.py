"""Inputs for embeddings: special tokens stand around a text, and never come of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundry_runtime.engine.text.inputs import InputEncoder
from foundry_runtime.engine.text.tokenizer import TokenizerError
from tests.support.tiny_encoder import write_encoder_folder
from tests.support.tiny_model import tiny_model_folder


def test_a_text_gets_the_tokens_that_its_tokenizer_puts_around_it(tmp_path: Path) -> None:
    inputs = InputEncoder.load(write_encoder_folder(tmp_path))
    # 2 and 3 begin and end; nothing is cut off after 8 tokens, and nothing filled up to 16.
    assert [list(ids) for ids in inputs.encode(["The dogs", "hello " * 10, ""])] == [
        [2, 5, 7, 15, 3],
        [2, *[11] * 10, 3],
        [2, 3],
    ]
    assert inputs.encode([]) == []


def test_a_special_tokens_text_stays_text(tmp_path: Path) -> None:
    inputs = InputEncoder.load(write_encoder_folder(tmp_path))
    (ids,) = inputs.encode(["[SEP] [MASK]"])
    assert not set(ids[1:-1]) & {0, 2, 3, 4}
    assert inputs.encode(["[SEP] [MASK]"]) == inputs.encode(["[sep] [mask]"])


def test_a_decoders_tokenizer_will_do(tmp_path: Path) -> None:
    inputs = InputEncoder.load(tiny_model_folder(tmp_path))
    first, second = inputs.encode(["Hello world", "Hello"])
    assert list(first)[: len(second)] == list(second)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: "):
        InputEncoder.load(tmp_path)
