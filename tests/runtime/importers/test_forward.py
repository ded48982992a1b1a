"""The imported model computes what a plain forward pass of the file's own weights computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import gguf
import numpy as np
import numpy.typing as npt
import onnxruntime_genai as og
import pytest
from attrs import evolve

from foundry_runtime.importers import _weights
from foundry_runtime.importers.gguf import Weights, import_gguf
from tests.support.llama_reference import LlamaReference, kl_divergence
from tests.support.tiny_model import TinyLlama, tiny_fields, tiny_tensors, write_gguf, write_tiny_gguf

Logits = npt.NDArray[np.floating[Any]]

LENGTHS = (1, 2, 3, 17, 64, 200)

TOLERANCE = 1e-3
"""How far a float32 logit may lie from the reference; the logits' own spread is about 4."""

INT8_TOLERANCE = 0.05
"""Mean divergence allowed to 8-bit weights, in nats; these weights are drawn so that small errors matter."""

SHAPES = {
    "grouped heads": TinyLlama(),
    "a head of its own for each query": TinyLlama(n_kv_heads=4, seed=1),
    "one head for all queries": TinyLlama(n_kv_heads=1, n_layers=3, seed=2),
    "heads wider than the hidden size": TinyLlama(n_heads=6, n_kv_heads=3, head_size=32, seed=3),
    "a separate output head": TinyLlama(tied_head=False, seed=4),
    "one layer and a huge rotary base": TinyLlama(n_layers=1, rope_base=8_000_000.0, seed=5),
    "a small rotary base": TinyLlama(rope_base=100.0, seed=6),
}


def prompt(length: int, n_tokens: int = 300) -> list[int]:
    return [int(token) for token in np.random.default_rng(length).integers(0, n_tokens, length)]


def last_logits(folder: Path, prompts: Sequence[Sequence[int]]) -> Logits:
    """The logits after each prompt, of shape (prompts, vocabulary)."""
    model = og.Model(str(folder))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=256)
    rows = []
    for ids in prompts:
        generator = og.Generator(model, params)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        logits = generator.get_logits()
        assert logits.shape[:2] == (1, 1)
        rows.append(logits[0, 0])
    return np.stack(rows)


def expected_logits(reference: LlamaReference, prompts: Sequence[Sequence[int]]) -> Logits:
    return np.stack([reference.logits(ids)[-1] for ids in prompts])


def imported(source: Path, weights: Weights) -> Path:
    folder = source.with_suffix(f".{weights}")
    import_gguf(source, folder, model_id="tiny:1", weights=weights)
    return folder


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_float32_logits_are_those_of_the_forward_pass(shape: TinyLlama, tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_tiny_gguf(source, shape)
    prompts = [prompt(length) for length in LENGTHS]
    expected = expected_logits(LlamaReference.from_gguf(source), prompts)
    assert np.abs(last_logits(imported(source, "float32"), prompts) - expected).max() < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_int8_logits_are_nearly_those_of_the_forward_pass(shape: TinyLlama, tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_tiny_gguf(source, shape)
    prompts = [prompt(length) for length in LENGTHS]
    expected = expected_logits(LlamaReference.from_gguf(source), prompts)
    assert kl_divergence(expected, last_logits(imported(source, "int8"), prompts)).mean() < INT8_TOLERANCE


def test_one_token_at_a_time_gives_what_the_whole_prompt_gives(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_tiny_gguf(source)
    ids = prompt(40)
    model = og.Model(str(imported(source, "float32")))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids))
    generator = og.Generator(model, params)
    rows = []
    for token in ids:
        generator.append_tokens(np.array([token], dtype=np.int32))
        rows.append(generator.get_logits()[0, 0])
    assert np.abs(np.stack(rows) - LlamaReference.from_gguf(source).logits(ids)).max() < TOLERANCE


def unbroken(_patch: pytest.MonkeyPatch, _source: Path) -> None:
    pass


def without_half_split(patch: pytest.MonkeyPatch, _source: Path) -> None:
    patch.setattr(_weights, "half_split", lambda rows, _head_size: rows)


def with_another_rotary_base(_patch: pytest.MonkeyPatch, source: Path) -> None:
    write_tiny_gguf(source, TinyLlama(rope_base=10_000.0))


def with_heads_swapped(_patch: pytest.MonkeyPatch, source: Path) -> None:
    shape = TinyLlama()
    fields = tiny_fields(shape)
    tensors = tiny_tensors(shape, len(fields["tokenizer.ggml.tokens"]))  # type: ignore[arg-type]
    for name in ("blk.0.attn_k.weight", "blk.0.attn_v.weight"):
        heads = tensors[name].reshape(shape.n_kv_heads, shape.head_size, -1)
        tensors[name] = heads[::-1].reshape(tensors[name].shape)
    write_gguf(source, fields, tensors)


@pytest.mark.parametrize(
    "break_it", [unbroken, without_half_split, with_another_rotary_base, with_heads_swapped]
)
def test_each_kind_of_mistake_shows_a_hundredfold(
    break_it: Callable[[pytest.MonkeyPatch, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "tiny.gguf"
    write_tiny_gguf(source)
    prompts = [prompt(length) for length in LENGTHS if length > 2]
    expected = expected_logits(LlamaReference.from_gguf(source), prompts)
    break_it(monkeypatch, source)
    errors = np.abs(last_logits(imported(source, "float32"), prompts) - expected).max(axis=-1)
    divergence = kl_divergence(expected, last_logits(imported(source, "int8"), prompts)).mean()
    if break_it is unbroken:
        assert errors.max() < TOLERANCE
        assert divergence < INT8_TOLERANCE
    else:
        assert errors.min() > 100 * TOLERANCE
        assert divergence > 50 * INT8_TOLERANCE


def test_linear_rotary_scaling_divides_positions(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    for fields in (
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
        {"llama.rope.scaling.factor": 4.0},
        {"llama.rope.scale_linear": 4.0},
    ):
        write_tiny_gguf(source, fields=fields)
        reference = evolve(LlamaReference.from_gguf(source), rope_factor=4.0)
        prompts = [prompt(64)]
        actual = last_logits(imported(source, "float32"), prompts)
        assert np.abs(actual - expected_logits(reference, prompts)).max() < TOLERANCE


def test_no_rotary_scaling_ignores_the_factor(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    write_tiny_gguf(source, fields={"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0})
    reference = evolve(LlamaReference.from_gguf(source), rope_factor=1.0)
    prompts = [prompt(64)]
    actual = last_logits(imported(source, "float32"), prompts)
    assert np.abs(actual - expected_logits(reference, prompts)).max() < TOLERANCE


def test_rotary_factors_of_llama_3_stretch_each_frequency(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    shape = TinyLlama()
    fields = tiny_fields(shape)
    tensors = tiny_tensors(shape, len(fields["tokenizer.ggml.tokens"]))  # type: ignore[arg-type]
    tensors["rope_freqs.weight"] = np.linspace(1, 8, shape.head_size // 2, dtype=np.float32)
    write_gguf(source, fields, tensors)
    prompts = [prompt(64)]
    expected = expected_logits(LlamaReference.from_gguf(source), prompts)
    assert np.abs(last_logits(imported(source, "float32"), prompts) - expected).max() < TOLERANCE


@pytest.mark.parametrize("name", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0"])
def test_quantised_files_give_their_own_weights_logits(name: str, tmp_path: Path) -> None:
    shape = TinyLlama(hidden_size=256, feed_forward_size=256, n_heads=8, head_size=32)
    source = tmp_path / "tiny.gguf"
    fields = tiny_fields(shape)
    n_tokens = len(fields["tokenizer.ggml.tokens"])  # type: ignore[arg-type]
    write_gguf(source, fields, tiny_tensors(shape, n_tokens), gguf.GGMLQuantizationType[name])
    prompts = [prompt(17)]
    expected = expected_logits(LlamaReference.from_gguf(source), prompts)
    assert np.abs(last_logits(imported(source, "float32"), prompts) - expected).max() < TOLERANCE
