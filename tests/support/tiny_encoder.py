"""A small encoder written with the `onnx` package, and the same encoder in numpy, written to be read.

Knows: BERT's arithmetic and the names that its weights have in published files, so that both can be used with
a published model's weights too. Shares nothing with the runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from attrs import frozen
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

__all__ = ["ENCODER_ID", "BertEncoder", "reveal_hidden_states", "tiny_encoder", "write_encoder_folder"]

Array = npt.NDArray[np.floating[Any]]

ENCODER_ID = "tiny-encoder-generic-cpu:1"

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = (
    "the",
    "a",
    "dog",
    "cat",
    "barks",
    "sleeps",
    "hello",
    "world",
    "red",
    "blue",
    "##s",
    "##ing",
    "[",
    "]",
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
VOCABULARY = tuple(dict.fromkeys([*_SPECIAL, *_WORDS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]))


@frozen(kw_only=True)
class BertEncoder:
    """The weights and sizes of an encoder."""

    weights: Mapping[str, Array]
    layers: int
    heads: int
    epsilon: float = 1e-12

    def hidden_states(self, ids: Sequence[int]) -> Array:
        """A vector for each token, of shape (len(ids), hidden size), in double precision."""
        words, positions, kinds = (
            self._weight(f"embeddings.{name}_embeddings.weight")
            for name in ("word", "position", "token_type")
        )
        hidden = words[list(ids)] + positions[: len(ids)] + kinds[0]
        hidden = self._norm("embeddings.LayerNorm", hidden)
        for layer in range(self.layers):
            block = f"encoder.layer.{layer}"
            attended = self._attention(f"{block}.attention.self", hidden)
            attended = self._linear(f"{block}.attention.output.dense", attended)
            hidden = self._norm(f"{block}.attention.output.LayerNorm", hidden + attended)
            inner = _gelu(self._linear(f"{block}.intermediate.dense", hidden))
            hidden = self._norm(
                f"{block}.output.LayerNorm", hidden + self._linear(f"{block}.output.dense", inner)
            )
        return hidden

    def vector(self, ids: Sequence[int]) -> Array:
        """The mean of the hidden states, with a length of 1."""
        mean = self.hidden_states(ids).mean(axis=0)
        result: Array = mean / np.sqrt((mean**2).sum())
        return result

    def _attention(self, name: str, hidden: Array) -> Array:
        query, key, value = (
            self._linear(f"{name}.{part}", hidden).reshape(len(hidden), self.heads, -1)
            for part in ("query", "key", "value")
        )
        attended = np.empty_like(query)
        for head in range(self.heads):
            scores = query[:, head] @ key[:, head].T / query.shape[-1] ** 0.5
            shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
            attended[:, head] = shares / shares.sum(axis=-1, keepdims=True) @ value[:, head]
        return attended.reshape(len(hidden), -1)

    def _linear(self, name: str, values: Array) -> Array:
        result: Array = values @ self._weight(f"{name}.weight").T + self._weight(f"{name}.bias")
        return result

    def _norm(self, name: str, values: Array) -> Array:
        centred = values - values.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.epsilon)
        result: Array = scaled * self._weight(f"{name}.weight") + self._weight(f"{name}.bias")
        return result

    def _weight(self, name: str) -> Array:
        return self.weights[name].astype(np.float64)

    def graph(self) -> onnx.ModelProto:
        """The same as an ONNX graph, from BERT's three inputs to `last_hidden_state`."""
        return _Writer(self).model()


def _gelu(values: Array) -> Array:
    result: Array = values * 0.5 * (1 + np.vectorize(erf)(values / 2**0.5))
    return result


class _Writer:
    """Writes nodes one by one; a node is named like what it gives."""

    def __init__(self, encoder: BertEncoder) -> None:
        self._encoder = encoder
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}

    def model(self) -> onnx.ModelProto:
        hidden = self._embedded()
        penalty = self._penalty()
        for layer in range(self._encoder.layers):
            hidden = self._layer(f"encoder.layer.{layer}", hidden, penalty)
        self._node("Identity", [hidden], "last_hidden_state")
        size = self._encoder.weights["embeddings.word_embeddings.weight"].shape[1]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ]
        output = helper.make_tensor_value_info(
            "last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", size]
        )
        constants = [numpy_helper.from_array(value, name) for name, value in self._constants.items()]
        graph = helper.make_graph(self._nodes, "encoder", inputs, [output], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.checker.check_model(model)
        return model

    def _embedded(self) -> str:
        words = self._node(
            "Gather", [self._weight("embeddings.word_embeddings.weight"), "input_ids"], "words"
        )
        kinds = self._node(
            "Gather", [self._weight("embeddings.token_type_embeddings.weight"), "token_type_ids"], "kinds"
        )
        shape = self._node("Shape", ["input_ids"], "shape")
        length = self._node("Gather", [shape, self._constant("one", np.array(1))], "length")
        steps = [self._constant("zero", np.array(0)), length, self._constant("one", np.array(1))]
        positions = self._node("Range", steps, "positions")
        placed = self._node(
            "Gather", [self._weight("embeddings.position_embeddings.weight"), positions], "placed"
        )
        total = self._node("Add", [self._node("Add", [words, kinds], "words_kinds"), placed], "embedded")
        return self._norm("embeddings.LayerNorm", total)

    def _penalty(self) -> str:
        """What is added to the scores of padding: (batch, 1, 1, sequence)."""
        mask = self._node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
        missing = self._node("Sub", [self._constant("unit", np.array(1, np.float32)), mask], "missing")
        penalty = self._node("Mul", [missing, self._constant("never", np.array(-1e9, np.float32))], "penalty")
        return self._node("Unsqueeze", [penalty, self._constant("middle", np.array([1, 2]))], "penalties")

    def _layer(self, block: str, hidden: str, penalty: str) -> str:
        name = f"{block}.attention.self"
        query, key, value = (self._heads(f"{name}.{part}", hidden) for part in ("query", "key", "value"))
        turned = self._node("Transpose", [key], f"{name}.turned", perm=[0, 1, 3, 2])
        scores = self._node("MatMul", [query, turned], f"{name}.scores")
        size = self._encoder.weights[f"{name}.query.bias"].shape[0] // self._encoder.heads
        scale = self._constant("scale", np.array(size**-0.5, np.float32))
        masked = self._node(
            "Add", [self._node("Mul", [scores, scale], f"{name}.scaled"), penalty], f"{name}.masked"
        )
        shares = self._node("Softmax", [masked], f"{name}.shares", axis=-1)
        mixed = self._node("MatMul", [shares, value], f"{name}.mixed")
        together = self._node("Transpose", [mixed], f"{name}.together", perm=[0, 2, 1, 3])
        flat = self._node("Reshape", [together, self._constant("flat", np.array([0, 0, -1]))], f"{name}.flat")
        attended = self._linear(f"{block}.attention.output.dense", flat)
        hidden = self._norm(
            f"{block}.attention.output.LayerNorm", self._node("Add", [hidden, attended], f"{block}.attended")
        )
        inner = self._node("Gelu", [self._linear(f"{block}.intermediate.dense", hidden)], f"{block}.gelu")
        moved = self._linear(f"{block}.output.dense", inner)
        return self._norm(f"{block}.output.LayerNorm", self._node("Add", [hidden, moved], f"{block}.moved"))

    def _heads(self, name: str, hidden: str) -> str:
        shape = self._constant("heads", np.array([0, 0, self._encoder.heads, -1]))
        split = self._node("Reshape", [self._linear(name, hidden), shape], f"{name}.split")
        return self._node("Transpose", [split], f"{name}.heads", perm=[0, 2, 1, 3])

    def _linear(self, name: str, values: str) -> str:
        weight = self._constant(
            f"{name}.weight", np.ascontiguousarray(self._encoder.weights[f"{name}.weight"].T)
        )
        product = self._node("MatMul", [values, weight], f"{name}.product")
        return self._node("Add", [product, self._weight(f"{name}.bias")], f"{name}.sum")

    def _norm(self, name: str, values: str) -> str:
        inputs = [values, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")]
        return self._node("LayerNormalization", inputs, name, axis=-1, epsilon=self._encoder.epsilon)

    def _weight(self, name: str) -> str:
        return self._constant(name, self._encoder.weights[name])

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self._constants[name] = value
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def tiny_encoder(
    *, hidden: int = 32, inner: int = 48, layers: int = 2, heads: int = 4, context: int = 64
) -> BertEncoder:
    """An encoder with random weights, large enough that positions and heads show in the result."""
    random = np.random.default_rng(0)
    weights: dict[str, Array] = {}

    def add(name: str, *shape: int, around: float = 0.0) -> None:
        gain = 1.5 / shape[-1] ** 0.5 if len(shape) == 2 else 0.1
        weights[name] = random.normal(around, gain, shape).astype(np.float32)

    def add_norm(name: str) -> None:
        add(f"{name}.weight", hidden, around=1.0)
        add(f"{name}.bias", hidden)

    def add_linear(name: str, rows: int, columns: int) -> None:
        add(f"{name}.weight", rows, columns)
        add(f"{name}.bias", rows)

    for name, rows in (("word", len(VOCABULARY)), ("position", context), ("token_type", 2)):
        add(f"embeddings.{name}_embeddings.weight", rows, hidden)
    add_norm("embeddings.LayerNorm")
    for layer in range(layers):
        block = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            add_linear(f"{block}.attention.self.{part}", hidden, hidden)
        add_linear(f"{block}.attention.output.dense", hidden, hidden)
        add_norm(f"{block}.attention.output.LayerNorm")
        add_linear(f"{block}.intermediate.dense", inner, hidden)
        add_linear(f"{block}.output.dense", hidden, inner)
        add_norm(f"{block}.output.LayerNorm")
    return BertEncoder(weights=weights, layers=layers, heads=heads)


def write_encoder_folder(
    folder: Path, encoder: BertEncoder | None = None, *, name: str = ENCODER_ID, tokenizer: Path | None = None
) -> Path:
    """Write a model folder that holds an encoder.

    Args:
        folder: The folder, made if need be.
        encoder: Its weights; by default a tiny one.
        name: `Name` in `inference_model.json`.
        tokenizer: The `tokenizer.json` to copy; by default one of a few words and letters.
    """
    encoder = encoder or tiny_encoder()
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(encoder.graph(), folder / "model.onnx")
    content = tokenizer.read_text("utf-8") if tokenizer else _word_pieces().to_str()
    (folder / "tokenizer.json").write_text(content, "utf-8")
    model = {
        "type": "bert",
        "context_length": len(encoder.weights["embeddings.position_embeddings.weight"]),
        "vocab_size": len(encoder.weights["embeddings.word_embeddings.weight"]),
        "encoder": {"filename": "model.onnx"},
    }
    (folder / "genai_config.json").write_text(json.dumps({"model": model}), "utf-8")
    (folder / "inference_model.json").write_text(json.dumps({"Name": name}), "utf-8")
    return folder


def reveal_hidden_states(folder: Path) -> None:
    """Make the graph of an imported model give its hidden states beside its logits."""
    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    model.graph.node.append(helper.make_node("Identity", ["output_norm"], ["hidden_states"]))
    model.graph.output.append(helper.make_tensor_value_info("hidden_states", TensorProto.FLOAT, [None] * 3))
    onnx.save(model, path)


def _word_pieces() -> Tokenizer:
    """WordPiece as BERT has it, with settings for cutting and filling that must not count."""
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    core = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    core.add_special_tokens(list(_SPECIAL))
    core.enable_truncation(8)
    core.enable_padding(length=16)
    return core
