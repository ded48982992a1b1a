"""Which execution providers can be used on this machine, with the wheel that is installed.

Knows: that trying is the only way to know: the wheel's own questions answer "yes" for some providers whatever
is installed, and for others from what it was compiled with. So a graph of one node is loaded on each.
Refuses to know: whether a model would fit a device, or be faster there.

A try costs milliseconds, and what it finds is kept for as long as the process lives.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from foundry_proto.providers import PROVIDERS
from foundry_runtime.engine.genai.binding import GenaiError, Model, load_library

__all__ = ["available_providers", "why_not"]

_CONFIG: Final = {
    "model": {
        "type": "llama",
        "vocab_size": 1,
        "context_length": 1,
        "eos_token_id": 0,
        "decoder": {"filename": "graph.onnx"},
    },
    "search": {"max_length": 1},
}


def _field(number: int, value: bytes | int) -> bytes:
    """A field of a protocol buffer, short enough for a length of one byte."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    return bytes((number << 3 | 2, len(value))) + value


def _tensor(name: bytes) -> bytes:
    """A `ValueInfoProto`: one 64-bit integer."""
    shape = _field(1, _field(1, 1))
    return _field(1, name) + _field(2, _field(1, _field(1, 7) + _field(2, shape)))


def _graph() -> bytes:
    """An ONNX model that gives back what it gets."""
    node = _field(1, b"input_ids") + _field(2, b"logits") + _field(4, b"Identity")
    graph = _field(1, node) + _field(2, b"g")
    graph += _field(11, _tensor(b"input_ids")) + _field(12, _tensor(b"logits"))
    return _field(1, 8) + _field(8, _field(2, 17)) + _field(7, graph)


@functools.cache
def available_providers() -> Sequence[str]:
    """The providers of `foundry_proto.providers.PROVIDERS` that can be used here.

    Blocks for a moment, the first time for as long as loading the library takes. Where that can't be loaded,
    there are none.
    """
    try:
        return tuple(name for name in PROVIDERS if why_not(name) is None)
    except GenaiError:
        return ()


@functools.lru_cache(maxsize=32)
def why_not(provider: str) -> str | None:
    """Why a provider can't be used here, in onnxruntime-genai's own words; `None` if it can.

    Args:
        provider: Any name that onnxruntime-genai may know.

    Raises:
        GenaiError: Nothing can be used: the library cannot be loaded.
    """
    library = load_library()
    with tempfile.TemporaryDirectory(prefix="foundry-provider-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "genai_config.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
        (folder / "graph.onnx").write_bytes(_graph())
        try:
            Model(library, folder, "{}", provider=provider).close()
        except GenaiError as error:
            return str(error)
    return None
