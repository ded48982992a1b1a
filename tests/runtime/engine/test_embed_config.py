"""How a folder's vectors are made: what counts, and how what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from foundry_runtime.engine.api import ModelLoadError
from foundry_runtime.engine.embed_config import EmbedConfig, gives_embeddings, read_embed_config


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content), "utf-8")


def make(folder: Path, model: object, *outputs: str, graph: str = "model.onnx") -> Path:
    """A folder whose graph gives these outputs."""
    write(folder, "genai_config.json", {"model": model})
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in outputs]
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in outputs]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], values)), folder / graph)
    return folder


@pytest.mark.parametrize(
    ("model", "outputs", "expected"),
    [
        ({"decoder": {}}, ["logits", "present.0.key"], False),
        ({"decoder": {}}, ["logits", "hidden_states"], True),
        ({"decoder": {"filename": "model.onnx"}}, ["last_hidden_state"], True),
        ({"decoder": {}, "encoder": {}}, ["logits"], False),
        ({"decoder": {"filename": "no.onnx"}}, ["hidden_states"], False),
        ({"decoder": {"filename": "genai_config.json"}}, ["hidden_states"], False),
        ({"encoder": {}}, ["anything"], True),
        ({}, ["hidden_states"], False),
        (None, ["hidden_states"], False),
    ],
)
def test_encoders_and_graphs_with_hidden_states_give_embeddings(
    tmp_path: Path, model: Any, outputs: list[str], expected: bool
) -> None:
    assert gives_embeddings(make(tmp_path, model, *outputs), model) is expected


@pytest.mark.parametrize(
    ("part", "outputs", "graph", "output"),
    [
        ({}, ["logits", "hidden_states"], "model.onnx", "hidden_states"),
        ({"filename": "other.onnx"}, ["token_embeddings"], "other.onnx", "token_embeddings"),
        ({"outputs": {"hidden_states": "x"}}, ["hidden_states", "x"], "model.onnx", "x"),
        (
            {"outputs": {"logits": "logits"}},
            ["logits", "last_hidden_state"],
            "model.onnx",
            "last_hidden_state",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_the_output_is_the_one_that_is_named_or_known(
    tmp_path: Path, kind: str, part: dict[str, Any], outputs: list[str], graph: str, output: str
) -> None:
    folder = make(tmp_path, {kind: part}, *outputs, graph=graph)
    assert read_embed_config(folder) == EmbedConfig(graph=folder / graph, output=output, pooling="mean")


def test_pooling_is_found_where_the_modules_say(tmp_path: Path) -> None:
    make(tmp_path, {"encoder": {}}, "hidden_states")
    names = {"0": "Transformer", "pool": "Pooling", "2": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in names.items()]
    write(tmp_path, "modules.json", modules)
    write(tmp_path, "1_Pooling/config.json", {"pooling_mode_max_tokens": True})
    assert read_embed_config(tmp_path).pooling == "mean"
    write(tmp_path, "pool/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    assert read_embed_config(tmp_path).pooling == "first"


POOLINGS = (
    "expected one of pooling_mode_mean_tokens, pooling_mode_mean_sqrt_len_tokens, pooling_mode_max_tokens, "
    "pooling_mode_cls_token, pooling_mode_lasttoken, got "
)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("genai_config.json", {"model": {}}, "expected model.encoder or model.decoder, which name a graph"),
        ("genai_config.json", [], "expected model.encoder or model.decoder, which name a graph"),
        ("modules.json", [{"type": "m.Dense"}], "expected Transformer, Pooling, Normalize, got Dense"),
        ("1_Pooling/config.json", {"pooling_mode_x": True}, f"{POOLINGS}pooling_mode_x"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
            f"{POOLINGS}pooling_mode_cls_token and pooling_mode_max_tokens",
        ),
        ("1_Pooling/config.json", {"include_prompt": True}, f"{POOLINGS}none"),
        ("1_Pooling/config.json", [], f"{POOLINGS}none"),
    ],
)
def test_what_cannot_be_honoured_is_named_with_its_file(
    tmp_path: Path, file: str, content: object, message: str
) -> None:
    make(tmp_path, {"encoder": {}}, "hidden_states")
    write(tmp_path, file, content)
    with pytest.raises(ModelLoadError) as caught:
        read_embed_config(tmp_path)
    assert str(caught.value) == f"{tmp_path / file}: {message}"


def test_a_graph_without_hidden_states_or_without_sense_is_named(tmp_path: Path) -> None:
    def refused(encoder: dict[str, Any]) -> str:
        write(tmp_path, "genai_config.json", {"model": {"encoder": encoder}})
        with pytest.raises(ModelLoadError) as caught:
            read_embed_config(tmp_path)
        return str(caught.value)

    make(tmp_path, {}, "logits", "x")
    graph = tmp_path / "model.onnx"
    assert refused({}) == (
        f"{graph}: expected an output hidden_states, last_hidden_state or token_embeddings, got logits, x"
    )
    named = {"outputs": {"hidden_states": "y"}}
    assert refused(named) == f"{graph}: expected an output y, got logits, x"
    assert refused({"filename": "no.onnx"}).startswith(f"{tmp_path / 'no.onnx'}: ")
    graph.write_text("{}")
    assert refused({}) == f"{graph}: expected an ONNX file, got a field of the unknown kind 3"
    (tmp_path / "genai_config.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"genai_config\.json: cannot be read: "):
        read_embed_config(tmp_path)
