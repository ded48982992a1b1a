"""A Llama model's forward pass, written to be read: what the imported model must compute.

Knows: GGUF's conventions as llama.cpp has them (two neighbouring values of a head are rotated together), read
by the `gguf` package's own reader. Shares nothing with the importer, so that an error in one is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from attrs import frozen

__all__ = ["LlamaReference", "kl_divergence"]

Array = npt.NDArray[np.floating[Any]]


@frozen(kw_only=True)
class LlamaReference:
    """The weights and sizes of one model; computes in the weights' own precision."""

    weights: Mapping[str, Array]
    n_layers: int
    n_heads: int
    n_kv_heads: int
    epsilon: float
    rope_base: float
    rope_factor: float = 1.0

    @classmethod
    def from_gguf(cls, path: Path, dtype: type[np.floating[Any]] = np.float64) -> LlamaReference:
        """Read and dequantise everything."""
        reader = gguf.GGUFReader(path)

        def number(name: str, default: float) -> float:
            field = reader.get_field(name)
            return default if field is None else float(field.contents())

        weights = {
            tensor.name: np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype).reshape(
                tensor.shape[::-1].tolist()
            )
            for tensor in reader.tensors
        }
        n_heads = int(number("llama.attention.head_count", 0))
        return cls(
            weights=weights,
            n_layers=int(number("llama.block_count", 0)),
            n_heads=n_heads,
            n_kv_heads=int(number("llama.attention.head_count_kv", n_heads)),
            epsilon=number("llama.attention.layer_norm_rms_epsilon", 0.0),
            rope_base=number("llama.rope.freq_base", 10_000.0),
            rope_factor=number("llama.rope.scaling.factor", 1.0),
        )

    def logits(self, ids: Sequence[int]) -> Array:
        """All positions' logits, of shape (len(ids), vocabulary)."""
        head = self.weights.get("output.weight", self.weights["token_embd.weight"])
        result: Array = self.hidden_states(ids) @ head.T
        return result

    def hidden_states(self, ids: Sequence[int]) -> Array:
        """What the head reads, of shape (len(ids), hidden size)."""
        hidden: Array = self.weights["token_embd.weight"][list(ids)]
        for layer in range(self.n_layers):
            block = f"blk.{layer}"
            hidden = hidden + self._attention(block, self._norm(hidden, f"{block}.attn_norm"))
            hidden = hidden + self._feed_forward(block, self._norm(hidden, f"{block}.ffn_norm"))
        return self._norm(hidden, "output_norm")

    def _norm(self, values: Array, name: str) -> Array:
        mean_square: Array = np.mean(values**2, axis=-1, keepdims=True)
        result: Array = values / np.sqrt(mean_square + self.epsilon) * self.weights[f"{name}.weight"]
        return result

    def _attention(self, block: str, values: Array) -> Array:
        n = len(values)
        query = self._rotate(self._heads(values, f"{block}.attn_q", self.n_heads))
        key = self._rotate(self._heads(values, f"{block}.attn_k", self.n_kv_heads))
        value = self._heads(values, f"{block}.attn_v", self.n_kv_heads)
        future = np.where(np.triu(np.ones((n, n), dtype=bool), k=1), -np.inf, 0.0).astype(values.dtype)
        queries_per_key = self.n_heads // self.n_kv_heads
        attended = np.empty_like(query)
        for head in range(self.n_heads):
            its_key, its_value = key[:, head // queries_per_key], value[:, head // queries_per_key]
            scores = query[:, head] @ its_key.T / query.shape[-1] ** 0.5 + future
            attended[:, head] = _softmax(scores) @ its_value
        result: Array = attended.reshape(n, -1) @ self.weights[f"{block}.attn_output.weight"].T
        return result

    def _heads(self, values: Array, name: str, n_heads: int) -> Array:
        return (values @ self.weights[f"{name}.weight"].T).reshape(len(values), n_heads, -1)

    def _rotate(self, heads: Array) -> Array:
        """Rotate each pair of neighbours by an angle that grows with the position: (n, heads, head size)."""
        n, _, head_size = heads.shape
        frequencies: Array = self.rope_base ** (-np.arange(0, head_size, 2) / head_size) / self.rope_factor
        if "rope_freqs.weight" in self.weights:
            frequencies = frequencies / self.weights["rope_freqs.weight"]
        angles = np.outer(np.arange(n), frequencies)[:, None, :]
        cos, sin = np.cos(angles).astype(heads.dtype), np.sin(angles).astype(heads.dtype)
        even, odd = heads[..., 0::2], heads[..., 1::2]
        rotated = np.empty_like(heads)
        rotated[..., 0::2] = even * cos - odd * sin
        rotated[..., 1::2] = even * sin + odd * cos
        return rotated

    def _feed_forward(self, block: str, values: Array) -> Array:
        gate = values @ self.weights[f"{block}.ffn_gate.weight"].T
        up = values @ self.weights[f"{block}.ffn_up.weight"].T
        result: Array = (gate / (1 + np.exp(-gate)) * up) @ self.weights[f"{block}.ffn_down.weight"].T
        return result


def kl_divergence(expected: Array, actual: Array) -> Array:
    """How far the distribution of `actual` logits lies from that of `expected` ones, in nats, row by row."""
    log_p, log_q = _log_softmax(expected.astype(np.float64)), _log_softmax(actual.astype(np.float64))
    result: Array = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return result


def _softmax(values: Array) -> Array:
    return np.exp(_log_softmax(values))


def _log_softmax(values: Array) -> Array:
    shifted = values - values.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
