"""The ONNX graph of a Llama model, as onnxruntime-genai wants to find it.

Knows: how the layers are put together from onnxruntime's fused operators, and the names of inputs and
outputs that `genai_config.json` repeats. Refuses to know: how matrices are stored, the tokenizer, the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto

from foundry_runtime.importers._llama import Llama
from foundry_runtime.importers._operators import MICROSOFT, GraphWriter
from foundry_runtime.importers._reader import FloatArray, GgufFile
from foundry_runtime.importers._weights import Rows

__all__ = ["INPUTS", "OUTPUTS", "build_graph"]

INPUTS: Final = {
    "input_ids": "input_ids",
    "attention_mask": "attention_mask",
    "past_key_names": "past_key_values.%d.key",
    "past_value_names": "past_key_values.%d.value",
}
"""The graph's inputs, under the names that `genai_config.json` has for them."""

OUTPUTS: Final = {
    "logits": "logits",
    "present_key_names": "present.%d.key",
    "present_value_names": "present.%d.value",
}
"""The graph's outputs, likewise."""

_POSITIONS_PER_PIECE: Final = 4096


def build_graph(file: GgufFile, llama: Llama, graph: GraphWriter) -> onnx.ModelProto:
    """Write all weights and return the graph that computes with them.

    Args:
        file: Where the weights come from.
        llama: The model's sizes, checked against the file.
        graph: Writes the nodes, and the weights as they are wanted.

    Returns:
        The model: from ids (batch, sequence), the attention mask (batch, total) and past keys and values to
        the logits of the last position only (batch, 1, vocabulary) and the grown keys and values.

    Raises:
        UnsupportedModel: A weight cannot be stored as asked.
    """
    ids = graph.input(INPUTS["input_ids"], TensorProto.INT64, ["batch_size", "sequence_length"])
    # Declared first: the order of outputs is what someone sees who prints the model.
    graph.output(OUTPUTS["logits"], ["batch_size", 1, llama.vocab_size])
    attention = _Attention(file, llama, graph)
    residual = graph.embedding("embedding", ids, "token_embd.weight")
    normed = graph.node(
        "SimplifiedLayerNormalization",
        [residual, graph.vector("blk.0.attn_norm.weight")],
        "blk.0.attn_norm",
        axis=-1,
        epsilon=llama.epsilon,
        stash_type=TensorProto.FLOAT,
    )
    for layer in range(llama.n_layers):
        mixed = attention.layer(layer, normed)
        normed, residual = _skip_norm(graph, llama, residual, mixed, f"blk.{layer}.ffn_norm")
        moved = _feed_forward(file, graph, f"blk.{layer}", normed)
        is_last = layer == llama.n_layers - 1
        next_norm = "output_norm" if is_last else f"blk.{layer + 1}.attn_norm"
        normed, residual = _skip_norm(graph, llama, residual, moved, next_norm)
    # The head is the largest matrix, and only the last position's logits are ever sampled from.
    last = graph.node("Gather", [normed, graph.constant("last_position", [-1])], "last_hidden", axis=1)
    if llama.tied_head:
        graph.tied_head(OUTPUTS["logits"], last, "token_embd.weight")
    else:
        graph.linear(OUTPUTS["logits"], last, [Rows(tensor=file.tensors["output.weight"])])
    return graph.model("llama")


class _Attention:
    """The attention of every layer, and what the layers share: lengths and the tables of rotations."""

    def __init__(self, file: GgufFile, llama: Llama, graph: GraphWriter) -> None:
        self._file = file
        self._llama = llama
        self._graph = graph
        self._lengths = self._make_lengths()
        self._tables = self._make_tables()

    def layer(self, layer: int, normed: str) -> str:
        llama, graph, tensors = self._llama, self._graph, self._file.tensors
        block = f"blk.{layer}"
        packed = graph.linear(
            f"{block}.attn_qkv",
            normed,
            [
                Rows(tensor=tensors[f"{block}.attn_q.weight"], rotary_head_size=llama.head_size),
                Rows(tensor=tensors[f"{block}.attn_k.weight"], rotary_head_size=llama.head_size),
                Rows(tensor=tensors[f"{block}.attn_v.weight"]),
            ],
        )
        attended = graph.node(
            "GroupQueryAttention",
            [packed, "", "", *self._past(layer), *self._lengths, *self._tables],
            [f"{block}.attention", *self._present(layer)],
            domain=MICROSOFT,
            num_heads=llama.n_heads,
            kv_num_heads=llama.n_kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
        )
        output = Rows(tensor=tensors[f"{block}.attn_output.weight"])
        return graph.linear(f"{block}.attn_output", attended, [output])

    def _past(self, layer: int) -> list[str]:
        shape = self._cache_shape("past_sequence_length")
        names = [INPUTS["past_key_names"] % layer, INPUTS["past_value_names"] % layer]
        return [self._graph.input(name, TensorProto.FLOAT, shape) for name in names]

    def _present(self, layer: int) -> list[str]:
        shape = self._cache_shape("total_sequence_length")
        names = [OUTPUTS["present_key_names"] % layer, OUTPUTS["present_value_names"] % layer]
        for name in names:
            self._graph.output(name, shape)
        return names

    def _cache_shape(self, length: str) -> list[str | int]:
        return ["batch_size", self._llama.n_kv_heads, length, self._llama.head_size]

    def _make_lengths(self) -> tuple[str, str]:
        """Each row's index of its last position, and the longest row's length, both from the mask."""
        graph = self._graph
        mask = graph.input(
            INPUTS["attention_mask"], TensorProto.INT64, ["batch_size", "total_sequence_length"]
        )
        one = graph.constant("one", [1])
        sums = graph.node("ReduceSum", [mask, one], "row_lengths", keepdims=0)
        last = graph.node("Sub", [sums, one], "last_positions_int64")
        last = graph.node("Cast", [last], "last_positions", to=TensorProto.INT32)
        shape = graph.node("Shape", [mask], "mask_shape")
        total = graph.node("Gather", [shape, graph.constant("mask_axis", 1)], "total_length_int64", axis=0)
        return last, graph.node("Cast", [total], "total_length", to=TensorProto.INT32)

    def _make_tables(self) -> list[str]:
        """Cosines and sines of each position's angles, each (context length, head size / 2)."""
        frequencies = self._llama.inverse_frequencies
        shape = (self._llama.context_length, len(frequencies))

        def pieces(function: np.ufunc) -> Iterator[FloatArray]:
            for start in range(0, shape[0], _POSITIONS_PER_PIECE):
                positions = np.arange(start, min(start + _POSITIONS_PER_PIECE, shape[0]))
                yield function(np.outer(positions, frequencies)).astype(np.float32)

        tables = {"rotary_cos": np.cos, "rotary_sin": np.sin}
        return [self._graph.array(name, shape, pieces(function)).name for name, function in tables.items()]


def _feed_forward(file: GgufFile, graph: GraphWriter, block: str, normed: str) -> str:
    gate, up = (
        graph.linear(f"{block}.{name}", normed, [Rows(tensor=file.tensors[f"{block}.{name}.weight"])])
        for name in ("ffn_gate", "ffn_up")
    )
    sigmoid = graph.node("Sigmoid", [gate], f"{block}.ffn_sigmoid")
    activated = graph.node("Mul", [gate, sigmoid], f"{block}.ffn_silu")
    product = graph.node("Mul", [activated, up], f"{block}.ffn_gated")
    down = Rows(tensor=file.tensors[f"{block}.ffn_down.weight"])
    return graph.linear(f"{block}.ffn_down", product, [down])


def _skip_norm(graph: GraphWriter, llama: Llama, residual: str, change: str, name: str) -> tuple[str, str]:
    """Add to the residual and normalise the sum: returns the normalised values and the sum."""
    total = f"{name}.residual"
    normed = graph.node(
        "SkipSimplifiedLayerNormalization",
        [residual, change, graph.vector(f"{name}.weight")],
        # Two outputs between them are for training.
        [name, "", "", total],
        domain=MICROSOFT,
        epsilon=llama.epsilon,
    )
    return normed, total
