"""What a model folder says of how its model makes vectors: which graph, which output, how it is pooled.

Knows: `genai_config.json` as far as it names a graph, and the files by which sentence-transformers tells how
a model's hidden states become one vector.
Refuses to know: onnxruntime, tokenizers, and the rest of both.

A graph that gives hidden states makes vectors. So does an encoder, which `genai_config.json` describes in
`model.encoder`, with no `model.decoder` beside it.

Choice: hidden states are averaged over the tokens, unless the folder says otherwise as sentence-transformers
says it: in `modules.json` and `1_Pooling/config.json`. The vector is normalised in any case.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from attrs import frozen

from foundry_runtime.engine.api import ModelLoadError
from foundry_runtime.engine.onnx_file import output_names

__all__ = ["HIDDEN_STATES", "EmbedConfig", "Pooling", "gives_embeddings", "read_embed_config"]

HIDDEN_STATES: Final = ("hidden_states", "last_hidden_state", "token_embeddings")
"""What exporters call the output that has a vector for each token."""

Pooling = Literal["mean", "max", "first", "last"]
"""How the tokens' vectors become one: their mean, the largest of each number, or one token's own."""

_GRAPH_FILE: Final = "model.onnx"

# The mean over the square root of the count points where the mean does, and its length is set to 1 anyway.
_POOLINGS: Final[Mapping[str, Pooling]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}
_MODULES: Final = ("Transformer", "Pooling", "Normalize")


@frozen(kw_only=True)
class EmbedConfig:
    """Where a model's hidden states come from, and what becomes of them."""

    graph: Path
    output: str
    """The output with a vector for each token."""
    pooling: Pooling


def gives_embeddings(folder: Path, model: object) -> bool:
    """Whether a folder's model is there for embeddings.

    Args:
        folder: The model folder.
        model: What `genai_config.json` has under `model`.

    A graph that cannot be read gives none: whoever loads it will say why.
    """
    part = _part(model)
    if part is None:
        return False
    if part is _get(model, "encoder"):
        return True
    try:
        outputs = output_names(_graph(folder, part))
    except (OSError, ValueError):
        return False
    return not set(HIDDEN_STATES).isdisjoint(outputs)


def read_embed_config(folder: Path) -> EmbedConfig:
    """Read how a model folder's vectors are made.

    Raises:
        ModelLoadError: They cannot be made here; the text names the file and says why.
    """
    config = folder / "genai_config.json"
    part = _part(_get(_read(config), "model"))
    if part is None:
        raise ModelLoadError(f"{config}: expected model.encoder or model.decoder, which name a graph")
    graph = _graph(folder, part)
    try:
        outputs = output_names(graph)
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{graph}: {error}") from error
    named = _get(part.get("outputs"), "hidden_states")
    for name in (named,) if isinstance(named, str) else HIDDEN_STATES:
        if name in outputs:
            return EmbedConfig(graph=graph, output=name, pooling=_pooling(folder))
    expected = named if isinstance(named, str) else ", ".join(HIDDEN_STATES[:-1]) + " or " + HIDDEN_STATES[-1]
    raise ModelLoadError(f"{graph}: expected an output {expected}, got {', '.join(outputs)}")


def _part(model: object) -> Mapping[str, object] | None:
    """What describes the graph: `decoder`, or `encoder` where there is none."""
    for name in ("decoder", "encoder"):
        part = _get(model, name)
        if isinstance(part, Mapping):
            return part
    return None


def _graph(folder: Path, part: Mapping[str, object]) -> Path:
    return folder / str(part.get("filename") or _GRAPH_FILE)


def _pooling(folder: Path) -> Pooling:
    path = folder / "1_Pooling" / "config.json"
    modules = folder / "modules.json"
    if modules.is_file():
        for module in _list(_read(modules)):
            kind = str(_get(module, "type")).rpartition(".")[2]
            if kind not in _MODULES:
                raise ModelLoadError(f"{modules}: expected {', '.join(_MODULES)}, got {kind}")
            if kind == "Pooling":
                path = folder / str(_get(module, "path")) / "config.json"
    if not path.is_file():
        return "mean"
    content = _read(path)
    modes = [
        name for name, value in (content.items() if isinstance(content, Mapping) else ()) if value is True
    ]
    chosen = [name for name in modes if name.startswith("pooling_mode_")]
    if len(chosen) == 1 and chosen[0] in _POOLINGS:
        return _POOLINGS[chosen[0]]
    raise ModelLoadError(
        f"{path}: expected one of {', '.join(_POOLINGS)}, got {' and '.join(chosen) or 'none'}"
    )


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path}: cannot be read: {error}") from error


def _get(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, Mapping) else None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
