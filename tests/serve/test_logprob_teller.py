"""Log probabilities as they are told: what tokens are called, and numbers that JSON can carry."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from foundry_runtime.engine.api import TokenLogprobs
from foundry_runtime.engine.driver import Delta
from foundry_runtime.engine.text.tokenizer import Tokenizer
from foundry_serve.logprobs import LogprobTeller
from tests.runtime.text.small_tokenizers import SMALL_TOKENIZERS, write_tokenizer


@pytest.fixture(params=list(SMALL_TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    write_tokenizer(tmp_path, request.param)
    return Tokenizer.load(tmp_path)


def test_the_bytes_told_are_those_of_the_text(tokenizer: Tokenizer) -> None:
    text = "the cat é 日本 ☃"
    (ids,) = tokenizer.encode_pieces([text])
    teller = LogprobTeller(tokenizer)
    told = []
    for token in [tokenizer.special_tokens["<|im_end|>"], *ids]:
        logprobs = TokenLogprobs(logprob=-1.0, top=((token, -1.0),))
        (entry,) = teller.tell(Delta(text="", tokens=(token,), logprobs=(logprobs,)))
        assert entry.top_logprobs
        assert entry.top_logprobs[0].bytes == entry.bytes
        told.append(entry)
    assert told.pop(0).token == "<|im_end|>"
    assert b"".join(bytes(entry.bytes or ()) for entry in told).decode() == text


def test_what_cannot_be_has_a_number_all_the_same(tokenizer: Tokenizer) -> None:
    logprobs = TokenLogprobs(logprob=-0.5, top=((1, -math.inf),))
    (entry,) = LogprobTeller(tokenizer).tell(Delta(text="", tokens=(0,), logprobs=(logprobs,)))
    assert entry.top_logprobs
    assert entry.top_logprobs[0].logprob == -9999.0
