"""What a model folder must be for the batched engine, and the numbers that the engine needs of it.

Knows: the plain decoder that onnxruntime's GroupQueryAttention makes: ids and a mask in, logits and grown
keys and values out, past and present in one buffer, in full precision, on the processor.
Refuses to know: the graph itself; that it computes what its names promise is checked when it is loaded.

Anything else is for the engine over onnxruntime-genai's own generator, which knows many kinds of model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

__all__ = ["Layout", "NotBatchable", "read_layout"]

_FILE: Final = "genai_config.json"
_INPUTS: Final = frozenset({"input_ids", "attention_mask", "past_key_names", "past_value_names"})
_OUTPUTS: Final = frozenset({"logits", "present_key_names", "present_value_names"})
_OTHER_PARTS: Final = ("encoder", "vision", "speech", "embedding", "joiner")
_CPU_NAMES: Final = frozenset({"cpu", "CPU", "CPUExecutionProvider"})


class NotBatchable(ValueError):
    """This model is for another engine; the text names the field that says so."""


@frozen(kw_only=True)
class Layout:
    """A decoder's sizes, and the names of its inputs and outputs."""

    path: Path
    """The ONNX file."""
    layers: int
    kv_heads: int
    head_size: int
    input_ids: str
    attention_mask: str
    logits: str
    past: tuple[tuple[str, str], ...]
    """Of each layer the inputs for keys and for values."""
    present: tuple[tuple[str, str], ...]
    """Of each layer the outputs for keys and for values."""

    @property
    def bytes_per_token(self) -> int:
        """What one token's keys and values take in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_size * 4


def read_layout(folder: Path) -> Layout:
    """Say how a folder's model is driven.

    Args:
        folder: The model folder, with its `genai_config.json`.

    Raises:
        NotBatchable: It is no plain decoder for the processor.
        OSError: The file cannot be read.
    """
    try:
        document = json.loads((folder / _FILE).read_bytes())
    except (ValueError, RecursionError) as error:
        raise NotBatchable(f"{_FILE}: expected JSON: {error}") from error
    model = _object(document, "model")
    for part in _OTHER_PARTS:
        if model.get(part):
            raise NotBatchable(f"model.{part}: the model has more parts than a decoder")
    decoder = _object(model, "decoder", "model.")
    if decoder.get("pipeline") or decoder.get("sliding_window"):
        raise NotBatchable("model.decoder: a pipeline or a sliding window is not for batches")
    if _object(document, "search").get("past_present_share_buffer") is not True:
        raise NotBatchable("search.past_present_share_buffer: expected true")
    options = decoder.get("session_options")
    for provider in (options.get("provider_options") if isinstance(options, dict) else None) or ():
        if not isinstance(provider, dict) or not _CPU_NAMES.issuperset(provider):
            raise NotBatchable("model.decoder.session_options.provider_options: expected none but cpu")
    inputs, outputs = (
        _object(decoder, "inputs", "model.decoder."),
        _object(decoder, "outputs", "model.decoder."),
    )
    if set(inputs) != _INPUTS or set(outputs) != _OUTPUTS:
        odd = sorted((set(inputs) ^ _INPUTS) | (set(outputs) ^ _OUTPUTS))
        raise NotBatchable(
            f"model.decoder: expected the inputs and outputs of a plain decoder, not for {odd[0]}"
        )
    layers = _size(decoder, "num_hidden_layers")
    return Layout(
        path=folder / str(decoder.get("filename", "model.onnx")),
        layers=layers,
        kv_heads=_size(decoder, "num_key_value_heads"),
        head_size=_size(decoder, "head_size"),
        input_ids=str(inputs["input_ids"]),
        attention_mask=str(inputs["attention_mask"]),
        logits=str(outputs["logits"]),
        past=_names(inputs["past_key_names"], inputs["past_value_names"], layers),
        present=_names(outputs["present_key_names"], outputs["present_value_names"], layers),
    )


def _object(document: object, name: str, place: str = "") -> Mapping[str, object]:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, dict):
        raise NotBatchable(f"{place}{name}: expected an object")
    return value


def _size(decoder: Mapping[str, object], name: str) -> int:
    value = decoder.get(name)
    if type(value) is not int or value < 1:
        raise NotBatchable(f"model.decoder.{name}: expected a positive integer, got {value!r}")
    return value


def _names(keys: object, values: object, layers: int) -> tuple[tuple[str, str], ...]:
    patterns = (str(keys), str(values))
    for pattern in patterns:
        if pattern.count("%d") != 1 or pattern.count("%") != 1:
            raise NotBatchable(f"model.decoder: expected a name with one %d for each layer, got {pattern!r}")
    return tuple((patterns[0] % layer, patterns[1] % layer) for layer in range(layers))
