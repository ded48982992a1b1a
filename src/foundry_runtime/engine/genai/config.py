"""What the engine must know of a model folder's `genai_config.json`.

Knows: where that file keeps the vocabulary's size, the context's length, the end tokens and the provider.
Refuses to know: the rest, which onnxruntime-genai reads itself (and refuses what it does not know).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from attrs import frozen

from foundry_runtime.engine.api import ModelLoadError
from foundry_runtime.engine.provider_options import own_provider

__all__ = ["ModelConfig", "read_config"]

_FILE: Final = "genai_config.json"


@frozen(kw_only=True)
class ModelConfig:
    """A model's own numbers."""

    vocabulary: int
    """How many token ids there are, as many as the logits of one position."""
    context_length: int
    """Most tokens of prompt and output together."""
    end_ids: frozenset[int]
    """The tokens with which the model ends its turn."""
    provider: str
    """The execution provider that it asks for first, `cpu` if for none."""


def read_config(folder: Path) -> ModelConfig:
    """Read a model folder's configuration.

    Raises:
        ModelLoadError: It cannot be read, or lacks what is needed; the text names the file and the field.
    """
    path = folder / _FILE
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelLoadError(f"{folder}: no model folder, there is no {_FILE}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path}: cannot be read: {error}") from error
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict):
        raise ModelLoadError(f"{path}: model: expected an object")
    return ModelConfig(
        vocabulary=_size(path, model, "vocab_size"),
        context_length=_size(path, model, "context_length"),
        end_ids=_end_ids(path, model.get("eos_token_id")),
        provider=own_provider(model),
    )


def _size(path: Path, model: dict[str, object], name: str) -> int:
    value = model.get(name)
    if type(value) is not int or value < 1:
        raise ModelLoadError(f"{path}: model.{name}: expected a positive integer, got {value!r}")
    return value


def _end_ids(path: Path, value: object) -> frozenset[int]:
    values = value if isinstance(value, list) else [value]
    if not values or any(type(one) is not int for one in values):
        raise ModelLoadError(
            f"{path}: model.eos_token_id: expected an integer or an array of integers, got {value!r}"
        )
    return frozenset(values)
