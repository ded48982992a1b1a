"""What cannot be imported faithfully is refused, by the name of what stands in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_runtime.importers._tokenizer import PRE_TOKENIZERS
from foundry_runtime.importers.gguf import UnsupportedModel, Weights, import_gguf
from tests.support.tiny_model import (
    TinyLlama,
    sentencepiece_fields,
    tiny_fields,
    tiny_tensors,
    write_gguf,
)

TINY = tiny_fields(TinyLlama())
TOKENS: list[str] = TINY["tokenizer.ggml.tokens"]  # type: ignore[assignment]
TYPES: list[int] = TINY["tokenizer.ggml.token_type"]  # type: ignore[assignment]
MERGES: list[str] = TINY["tokenizer.ggml.merges"]  # type: ignore[assignment]
PIECES: list[str] = sentencepiece_fields()["tokenizer.ggml.tokens"]  # type: ignore[assignment]
N_TOKENS = len(TOKENS)

UNKNOWN = "is not known, and might change what the model computes"

# The fields that differ from the tiny model's own, and the whole text of the refusal.
FIELDS: dict[str, tuple[dict[str, object], str]] = {
    "architecture": (
        {"general.architecture": "qwen2"},
        "general.architecture: expected 'llama', got 'qwen2'",
    ),
    "split": (
        {"split.count": 3},
        (
            "split.count: a model split over 3 files is not supported;"
            " merge them into one first (llama.cpp's `llama-gguf-split --merge`)"
        ),
    ),
    "experts": ({"llama.expert_count": 8}, "llama.expert_count: only 0 is supported, got 8"),
    "both directions": (
        {"llama.attention.causal": False},
        "llama.attention.causal: only True is supported, got False",
    ),
    "sliding window": (
        {"llama.attention.sliding_window": 4096},
        f"llama.attention.sliding_window: this field {UNKNOWN}",
    ),
    "no layers": (
        {"llama.block_count": 0},
        "llama.block_count: expected a number from 1 to 2147483647, got 0",
    ),
    "more layers than tensors": (
        {"llama.block_count": 2**31 - 1},
        "tensor blk.2.attn_norm.weight: the file has no such tensor",
    ),
    "no context": ({"llama.context_length": None}, "llama.context_length: the file has no such field"),
    "a context without end": (
        {"llama.context_length": 2**31},
        "llama.context_length: expected a number from 1 to 1048576, got 2147483648",
    ),
    "heads that do not divide the width": (
        {"llama.attention.key_length": None, "llama.attention.head_count": 5},
        "llama.attention.head_count: 64 values do not divide among 5 heads",
    ),
    "heads that do not divide": (
        {"llama.attention.head_count_kv": 3},
        "llama.attention.head_count_kv: 4 heads do not divide among 3",
    ),
    "another number of heads in each layer": (
        {"llama.attention.head_count": [4, 4]},
        "llama.attention.head_count: expected a whole number, got an array of 2",
    ),
    "values wider than keys": (
        {"llama.attention.value_length": 32},
        "llama.attention.value_length: only the head size, 16, is supported, got 32",
    ),
    "a part of a head rotated": (
        {"llama.rope.dimension_count": 8},
        "llama.rope.dimension_count: only the head size, 16, is supported, got 8",
    ),
    "a head of an odd size": (
        {
            "llama.attention.key_length": 24,
            "llama.attention.value_length": 24,
            "llama.rope.dimension_count": 24,
        },
        "llama.attention.key_length: a head of 24 values is not supported: expected a multiple of 16",
    ),
    "rotary base": (
        {"llama.rope.freq_base": 0.0},
        "llama.rope.freq_base: expected a number above 0, got 0.0",
    ),
    "rotary base not a number": (
        {"llama.rope.freq_base": float("nan")},
        "llama.rope.freq_base: expected a finite number, got nan",
    ),
    "a rotary scaling that overflows": (
        {"llama.rope.scaling.factor": np.float64(1e-310)},
        "llama.rope.freq_base: a base of 50000.0 with a scaling of 1e-310 rotates without bound",
    ),
    "rotary scaling": (
        {"llama.rope.scaling.type": "yarn"},
        "llama.rope.scaling.type: 'yarn' is not supported: expected 'linear' or 'none'",
    ),
    "rotary scaling factor": (
        {"llama.rope.scaling.factor": -2.0},
        "llama.rope.scaling.factor: expected a number above 0, got -2.0",
    ),
    "attention factor": (
        {"llama.rope.scaling.attn_factor": 1.5},
        "llama.rope.scaling.attn_factor: only 1 is supported, got 1.5",
    ),
    "tokenizer": (
        {"tokenizer.ggml.model": "bert"},
        "tokenizer.ggml.model: expected 'gpt2' or 'llama', got 'bert'",
    ),
    "no tokenizer": ({"tokenizer.ggml.model": None}, "tokenizer.ggml.model: the file has no such field"),
    "pre-tokenizer": (
        {"tokenizer.ggml.pre": "tekken"},
        "tokenizer.ggml.pre: the pre-tokenizer 'tekken' is not supported: expected one of "
        + ", ".join(sorted(PRE_TOKENIZERS)),
    ),
    "no merges": ({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges: the file has no such field"),
    "a merge of no tokens": (
        {"tokenizer.ggml.merges": [*MERGES, "th zz"]},
        f"tokenizer.ggml.merges[{len(MERGES)}]: 'th zz' does not join two tokens into a third",
    ),
    "tokens without rows": (
        {"tokenizer.ggml.tokens": [*TOKENS, "more"], "tokenizer.ggml.token_type": [*TYPES, 1]},
        f"tensor token_embd.weight: expected a row for each of {N_TOKENS + 1} tokens, got {N_TOKENS}",
    ),
    "no tokens": (
        {"tokenizer.ggml.tokens": "none"},
        "tokenizer.ggml.tokens: expected an array of strings, got 'none'",
    ),
    "a token twice": (
        {"tokenizer.ggml.tokens": [*TOKENS[:-1], TOKENS[5]]},
        f"tokenizer.ggml.tokens: the tokens 5 and {N_TOKENS - 1} are both {TOKENS[5]!r}",
    ),
    "too few types": (
        {"tokenizer.ggml.token_type": TYPES[1:]},
        f"tokenizer.ggml.token_type: expected one for each of {N_TOKENS} tokens, got {N_TOKENS - 1}",
    ),
    "an unknown type": (
        {"tokenizer.ggml.token_type": [*TYPES[:-1], 9]},
        "tokenizer.ggml.token_type: unknown token type 9",
    ),
    "an id of no token": (
        {"tokenizer.ggml.eos_token_id": N_TOKENS},
        f"tokenizer.ggml.eos_token_id: expected the id of one of {N_TOKENS} tokens, got {N_TOKENS}",
    ),
    "no end": (
        {
            "tokenizer.ggml.eos_token_id": None,
            "tokenizer.ggml.tokens": ["<a>", "<b>", "<c>", *TOKENS[3:]],
        },
        "tokenizer.ggml.eos_token_id: the file has no such field, and no answer would end",
    ),
    "no begin token to add": (
        {"tokenizer.ggml.bos_token_id": None, "tokenizer.ggml.add_bos_token": True},
        "tokenizer.ggml.bos_token_id: the file has no such field, and wants that token in each text",
    ),
    "no scores": (
        sentencepiece_fields() | {"tokenizer.ggml.scores": None},
        "tokenizer.ggml.scores: the file has no such field",
    ),
    "too few scores": (
        sentencepiece_fields() | {"tokenizer.ggml.scores": [0.0]},
        f"tokenizer.ggml.scores: expected one for each of {len(PIECES)} tokens, got 1",
    ),
    "a byte without a token": (
        sentencepiece_fields()
        | {"tokenizer.ggml.tokens": ["x" if text == "<0x0A>" else text for text in PIECES]},
        "tokenizer.ggml.tokens: the token <0x0A> for a byte is missing",
    ),
}

# The tensors that differ (`None`: left out), and the whole text of the refusal.
TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "no embedding": (
        {"token_embd.weight": None},
        "tensor token_embd.weight: the file has no such tensor",
    ),
    "a missing matrix": (
        {"blk.1.ffn_up.weight": None},
        "tensor blk.1.ffn_up.weight: the file has no such tensor",
    ),
    "a matrix of another shape": (
        {"blk.1.attn_k.weight": np.zeros((16, 64), np.float32)},
        "tensor blk.1.attn_k.weight: expected the shape 32x64, got 16x64",
    ),
    "a bias": (
        {"blk.0.attn_q.bias": np.zeros(64, np.float32)},
        f"tensor blk.0.attn_q.bias: this tensor {UNKNOWN}",
    ),
    "rotary factors of no use": (
        {"rope_freqs.weight": np.zeros(8, np.float32)},
        "tensor rope_freqs.weight: expected finite numbers above 0",
    ),
    "too few rotary factors": (
        {"rope_freqs.weight": np.ones(4, np.float32)},
        "tensor rope_freqs.weight: expected the shape 8, got 4",
    ),
    "a weight that is no number": (
        {"blk.1.ffn_down.weight": np.full((64, 96), np.nan, np.float32)},
        "tensor blk.1.ffn_down.weight: not all of its weights are finite numbers",
    ),
    "a vector's weight that is infinite": (
        {"output_norm.weight": np.full(64, np.inf, np.float32)},
        "tensor output_norm.weight: not all of its weights are finite numbers",
    ),
}


def refusal(
    directory: Path,
    *,
    llama: TinyLlama | None = None,
    fields: dict[str, object] | None = None,
    tensors: dict[str, Any] | None = None,
    weights: Weights = "int8",
) -> str:
    llama = llama or TinyLlama()
    all_tensors = tiny_tensors(llama, N_TOKENS) | (tensors or {})
    present = {name: values for name, values in all_tensors.items() if values is not None}
    source, target = directory / "tiny.gguf", directory / "models" / "tiny"
    write_gguf(source, tiny_fields(llama) | (fields or {}), present)
    with pytest.raises(UnsupportedModel) as caught:
        import_gguf(source, target, model_id="tiny:1", weights=weights)
    assert not target.parent.exists() or not list(target.parent.iterdir())
    return str(caught.value)


@pytest.mark.parametrize(("fields", "message"), FIELDS.values(), ids=FIELDS.keys())
def test_unsupported_fields_are_refused_by_name(
    fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    tensors: dict[str, Any] = {}
    if fields.get("tokenizer.ggml.model") == "llama":
        tensors["token_embd.weight"] = np.zeros((len(PIECES), 64), np.float32)
    assert refusal(tmp_path, fields=fields, tensors=tensors) == message


@pytest.mark.parametrize(("tensors", "message"), TENSORS.values(), ids=TENSORS.keys())
def test_unsupported_tensors_are_refused_by_name(
    tensors: dict[str, Any], message: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path, tensors=tensors) == message


def test_rows_that_are_no_whole_blocks_need_float32_weights(tmp_path: Path) -> None:
    llama = TinyLlama(feed_forward_size=40)
    assert refusal(tmp_path, llama=llama) == (
        "tensor blk.0.ffn_down.weight: a row of 40 values does not divide into int8 blocks of 32:"
        " import it with float32 weights"
    )
    import_gguf(tmp_path / "tiny.gguf", tmp_path / "tiny", model_id="tiny:1", weights="float32")


def test_a_file_cut_short_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source, target = tmp_path / "tiny.gguf", tmp_path / "tiny"
    write_gguf(source, TINY, tiny_tensors(TinyLlama(), N_TOKENS))
    whole = source.read_bytes()
    source.write_bytes(whole[:-100])
    with pytest.raises(UnsupportedModel) as caught:
        import_gguf(source, target, model_id="tiny:1")
    assert str(caught.value) == (
        f"the file is cut short: tensor blk.1.ffn_down.weight ends at byte {len(whole)},"
        f" and the file at byte {len(whole) - 100}"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_file_with_any_bytes_changed_is_imported_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.getbasetemp()
    source = directory / "changed.gguf"
    tokenizer = data.draw(st.sampled_from([{}, sentencepiece_fields()]))
    fields = TINY | tokenizer
    n_tokens = len(fields["tokenizer.ggml.tokens"])  # type: ignore[arg-type]
    write_gguf(source, fields, tiny_tensors(TinyLlama(n_layers=1), n_tokens))
    changed = bytearray(source.read_bytes())
    # Most changes go where the sizes stand, before the long arrays of tokens.
    end = data.draw(st.sampled_from([1_000, 12_000, len(changed)]))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(4, end - 1))] = data.draw(st.integers(0, 255))
    source.write_bytes(changed)
    try:
        import_gguf(source, directory / "changed", model_id="tiny:1")
    except UnsupportedModel:
        pass
