"""The Llama architecture as a GGUF file describes it: its sizes, and which tensors must be there.

Knows: the fields below `llama.` and the tensor names that llama.cpp gives this architecture. A field or a
tensor that it does not know is refused by name: it might change what the model computes.
Refuses to know: the tokenizer, how weights are stored, what a graph looks like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from attrs import field, frozen

from foundry_runtime.importers._reader import GgufFile, Metadata
from foundry_runtime.importers.errors import UnsupportedModel

__all__ = ["Llama", "read_llama"]

# Choice: a context beyond this is refused, since the tables of the rotary embedding grow with it; no model
# of this architecture comes near.
_MAX_CONTEXT: Final = 2**20

# What onnxruntime's attention operator asks of a head that it rotates.
_HEAD_SIZE_STEP: Final = 16

# Fields that are read below, or that change nothing in what the model computes.
_KNOWN_FIELDS: Final = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_epsilon",
        "attention.layer_norm_rms_epsilon",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scale_linear",
        "rope.scaling.factor",
        "rope.scaling.finetuned",
        "rope.scaling.original_context_length",
        "rope.scaling.type",
        "tensor_data_layout",
        "vocab_size",
    }
)

# Fields that are harmless only with the value given here.
_NEUTRAL_FIELDS: Final[Mapping[str, float | bool]] = {
    "attention.causal": True,
    "expert_count": 0,
    "expert_used_count": 0,
    "rope.scaling.attn_factor": 1.0,
}

_OPTIONAL_TENSORS: Final = frozenset({"output.weight", "rope_freqs.weight"})


@frozen(kw_only=True)
class Llama:
    """The sizes of one model; lengths in values, not bytes."""

    n_layers: int
    hidden_size: int
    feed_forward_size: int
    n_heads: int
    n_kv_heads: int
    head_size: int
    vocab_size: int
    context_length: int
    epsilon: float
    """Added to the mean square in each normalisation."""
    inverse_frequencies: npt.NDArray[np.float64] = field(eq=False)
    """Radians per position of each of a head's head_size / 2 rotated pairs, scaling included."""
    tied_head: bool
    """Whether the output head is the embedding itself."""


def read_llama(file: GgufFile) -> Llama:
    """Read the sizes and check that exactly the expected tensors are there, in the expected shapes.

    Args:
        file: The open file.

    Raises:
        UnsupportedModel: The architecture, a field or a tensor is not one that can be imported.
    """
    metadata = file.metadata
    architecture = metadata.string("general.architecture")
    if architecture != "llama":
        raise UnsupportedModel(f"general.architecture: expected 'llama', got {architecture!r}")
    if metadata.integer("split.count", 0) > 1:
        raise UnsupportedModel(
            f"split.count: a model split over {metadata.integer('split.count')} files is not supported;"
            " merge them into one first (llama.cpp's `llama-gguf-split --merge`)"
        )
    _check_field_names(metadata)

    hidden_size = metadata.integer("llama.embedding_length", minimum=1)
    n_heads = metadata.integer("llama.attention.head_count", minimum=1)
    head_size = _head_size(metadata, hidden_size, n_heads)
    n_kv_heads = metadata.integer("llama.attention.head_count_kv", n_heads, minimum=1)
    if n_heads % n_kv_heads:
        raise UnsupportedModel(
            f"llama.attention.head_count_kv: {n_heads} heads do not divide among {n_kv_heads}"
        )
    embedding = file.tensors.get("token_embd.weight")
    llama = Llama(
        n_layers=metadata.integer("llama.block_count", minimum=1),
        hidden_size=hidden_size,
        feed_forward_size=metadata.integer("llama.feed_forward_length", minimum=1),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_size=head_size,
        # A missing embedding is refused with the other missing tensors.
        vocab_size=0 if embedding is None else embedding.shape[0],
        context_length=metadata.integer("llama.context_length", minimum=1, maximum=_MAX_CONTEXT),
        epsilon=metadata.number("llama.attention.layer_norm_rms_epsilon"),
        inverse_frequencies=_inverse_frequencies(file, head_size),
        tied_head="output.weight" not in file.tensors,
    )
    _check_tensors(file, llama)
    return llama


def _check_field_names(metadata: Metadata) -> None:
    for name in metadata.names():
        if not name.startswith("llama."):
            continue
        key = name.removeprefix("llama.")
        if key in _NEUTRAL_FIELDS:
            neutral = _NEUTRAL_FIELDS[key]
            if isinstance(neutral, bool):
                if metadata.boolean(name) is not neutral:
                    raise UnsupportedModel(f"{name}: only {neutral} is supported, got {not neutral}")
            elif (value := metadata.number(name)) != neutral:
                raise UnsupportedModel(f"{name}: only {neutral:g} is supported, got {value:g}")
        elif key not in _KNOWN_FIELDS:
            raise UnsupportedModel(
                f"{name}: this field is not known, and might change what the model computes"
            )


def _head_size(metadata: Metadata, hidden_size: int, n_heads: int) -> int:
    name = "llama.attention.key_length"
    if name in metadata:
        head_size = metadata.integer(name, minimum=1)
    elif hidden_size % n_heads:
        raise UnsupportedModel(
            f"llama.attention.head_count: {hidden_size} values do not divide among {n_heads} heads"
        )
    else:
        head_size = hidden_size // n_heads
        name = "llama.attention.head_count"
    for same in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if metadata.integer(same, head_size) != head_size:
            raise UnsupportedModel(
                f"{same}: only the head size, {head_size}, is supported, got {metadata.integer(same)}"
            )
    if head_size % _HEAD_SIZE_STEP:
        raise UnsupportedModel(
            f"{name}: a head of {head_size} values is not supported: expected a multiple of {_HEAD_SIZE_STEP}"
        )
    return head_size


def _inverse_frequencies(file: GgufFile, head_size: int) -> npt.NDArray[np.float64]:
    """Radians per position of each pair, by the same precedence of fields as llama.cpp."""
    metadata = file.metadata
    base = metadata.number("llama.rope.freq_base", 10000.0)
    if base <= 0:
        raise UnsupportedModel(f"llama.rope.freq_base: expected a number above 0, got {base}")
    scaling = metadata.string("llama.rope.scaling.type", "linear")
    if scaling not in ("none", "linear"):
        raise UnsupportedModel(
            f"llama.rope.scaling.type: {scaling!r} is not supported: expected 'linear' or 'none'"
        )
    factor = metadata.number("llama.rope.scaling.factor", metadata.number("llama.rope.scale_linear", 0.0))
    if factor < 0:
        raise UnsupportedModel(f"llama.rope.scaling.factor: expected a number above 0, got {factor}")
    exponents = -np.arange(0, head_size, 2, dtype=np.float64) / head_size
    divisor = factor if scaling == "linear" and factor != 0 else 1.0
    with np.errstate(over="ignore"):
        frequencies: npt.NDArray[np.float64] = base**exponents / divisor
        is_bounded = np.isfinite(frequencies * _MAX_CONTEXT).all()
    if not is_bounded:
        raise UnsupportedModel(
            f"llama.rope.freq_base: a base of {base} with a scaling of {divisor} rotates without bound"
        )
    # Llama 3.1 stretches each frequency by its own factor; the converter has computed them.
    stretch = file.tensors.get("rope_freqs.weight")
    if stretch is not None and stretch.shape == frequencies.shape:
        factors = file.rows(stretch)[0]
        if not (np.isfinite(factors).all() and (factors > 0).all()):
            raise UnsupportedModel("tensor rope_freqs.weight: expected finite numbers above 0")
        frequencies /= factors
    return frequencies


def _check_tensors(file: GgufFile, llama: Llama) -> None:
    known: set[str] = set()
    # One at a time: the first layer that is missing ends it, however many layers the file claims.
    for name, shape in _iter_expected(llama):
        known.add(name)
        if name not in file.tensors:
            if name in _OPTIONAL_TENSORS:
                continue
            raise UnsupportedModel(f"tensor {name}: the file has no such tensor")
        if file.tensors[name].shape != shape:
            raise UnsupportedModel(
                f"tensor {name}: expected the shape {_show(shape)}, got {_show(file.tensors[name].shape)}"
            )
    for name in file.tensors:
        if name not in known:
            raise UnsupportedModel(
                f"tensor {name}: this tensor is not known, and might change what the model computes"
            )


def _iter_expected(llama: Llama) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = llama.hidden_size, llama.feed_forward_size
    query, key = llama.n_heads * llama.head_size, llama.n_kv_heads * llama.head_size
    yield "token_embd.weight", (llama.vocab_size, hidden)
    yield "output_norm.weight", (hidden,)
    yield "output.weight", (llama.vocab_size, hidden)
    yield "rope_freqs.weight", (llama.head_size // 2,)
    for layer in range(llama.n_layers):
        yield f"blk.{layer}.attn_norm.weight", (hidden,)
        yield f"blk.{layer}.attn_q.weight", (query, hidden)
        yield f"blk.{layer}.attn_k.weight", (key, hidden)
        yield f"blk.{layer}.attn_v.weight", (key, hidden)
        yield f"blk.{layer}.attn_output.weight", (hidden, query)
        yield f"blk.{layer}.ffn_norm.weight", (hidden,)
        yield f"blk.{layer}.ffn_gate.weight", (inner, hidden)
        yield f"blk.{layer}.ffn_up.weight", (inner, hidden)
        yield f"blk.{layer}.ffn_down.weight", (hidden, inner)


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(str(extent) for extent in shape)
