"""Which folders the engine takes, and what it tries before it trusts one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from foundry_runtime.engine.api import ModelLoadError
from foundry_runtime.engine.batched.engine import BatchedEngine
from foundry_runtime.engine.batched.layout import NotBatchable, read_layout
from foundry_runtime.engine.batched.memory import RowMemory
from foundry_runtime.engine.batched.model import BatchedModel
from tests.runtime.engine.conftest import Spoil

Change = Callable[[dict[str, Any]], object]


def configured(folder: Path, change: Change) -> Path:
    """Change a folder's configuration."""
    path = folder / "genai_config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return folder


def load(folder: Path, *, vocabulary: int = 380) -> BatchedModel:
    """Load a model; what it cannot use goes, however that is found."""
    layout = read_layout(folder)
    memory = RowMemory(layout, 3, 64)
    try:
        return BatchedModel(layout, vocabulary=vocabulary, threads=1, memory=memory)
    except (ModelLoadError, NotBatchable):
        assert memory._memory.buffer.closed
        raise


def test_the_numbers_are_those_of_the_file(tiny_folder: Path) -> None:
    layout = read_layout(tiny_folder)
    assert (layout.path, layout.layers, layout.kv_heads, layout.head_size) == (
        tiny_folder / "model.onnx",
        2,
        2,
        16,
    )
    assert layout.past[1] == ("past_key_values.1.key", "past_key_values.1.value")
    assert layout.present[0] == ("present.0.key", "present.0.value")
    assert layout.bytes_per_token == 2 * 2 * 2 * 16 * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda all_: all_["model"].update(vision={"filename": "v.onnx"}),
            "model.vision: the model has more parts than a decoder",
        ),
        (
            lambda all_: all_["model"]["decoder"].update(sliding_window={"window_size": 4}),
            "model.decoder: a pipeline or a sliding window is not for batches",
        ),
        (
            lambda all_: all_["search"].update(past_present_share_buffer=False),
            "search.past_present_share_buffer: expected true",
        ),
        (
            lambda all_: all_["model"]["decoder"]["session_options"].update(provider_options=[{"cuda": {}}]),
            "model.decoder.session_options.provider_options: expected none but cpu",
        ),
        (
            lambda all_: all_["model"]["decoder"]["inputs"].update(position_ids="position_ids"),
            "model.decoder: expected the inputs and outputs of a plain decoder, not for position_ids",
        ),
        (
            lambda all_: all_["model"]["decoder"].update(head_size="16"),
            "model.decoder.head_size: expected a positive integer, got '16'",
        ),
        (
            lambda all_: all_["model"]["decoder"]["inputs"].update(past_key_names="past"),
            "model.decoder: expected a name with one %d for each layer, got 'past'",
        ),
        (lambda all_: all_["model"].update(decoder=[]), "model.decoder: expected an object"),
        (lambda all_: all_.clear(), "model: expected an object"),
    ],
    ids=lambda one: one.split(":")[0] if isinstance(one, str) else "",
)
def test_a_model_that_is_no_plain_decoder_is_for_another_engine(
    spoiled: Spoil, change: Change, message: str
) -> None:
    with pytest.raises(NotBatchable) as caught:
        read_layout(configured(spoiled(), change))
    assert str(caught.value) == message


def test_what_is_no_json_is_for_another_engine_to_complain_about(tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text("{")
    with pytest.raises(NotBatchable, match=r"^genai_config.json: expected JSON: "):
        read_layout(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_layout(tmp_path / "nowhere")


def test_a_provider_that_is_the_processor_is_none(spoiled: Spoil) -> None:
    def change(all_: dict[str, Any]) -> None:
        all_["model"]["decoder"]["session_options"]["provider_options"] = [{"cpu": {}}]

    assert read_layout(configured(spoiled(), change)).layers == 2


def edited(folder: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """Change a folder's graph."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model)
    onnx.save(model, folder / "model.onnx")
    return folder


def test_names_that_the_graph_has_not_are_found(spoiled: Spoil) -> None:
    def wrong_input(all_: dict[str, Any]) -> None:
        all_["model"]["decoder"]["inputs"]["input_ids"] = "ids"

    def wrong_output(all_: dict[str, Any]) -> None:
        all_["model"]["decoder"]["outputs"]["logits"] = "scores"

    with pytest.raises(NotBatchable, match=r"^model.onnx: its inputs are not those of a plain decoder$"):
        load(configured(spoiled("inputs"), wrong_input))
    with pytest.raises(NotBatchable, match=r"^model.onnx: its outputs are not those of a plain decoder$"):
        load(configured(spoiled("outputs"), wrong_output))


def test_a_wrong_vocabulary_is_found(tiny_folder: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"the model gives 380 logits, but its vocab_size is 400$"):
        load(tiny_folder, vocabulary=400)


def test_a_graph_that_forgets_where_its_rows_are_is_found(spoiled: Spoil) -> None:
    """Every position counts as the first: the logits are finite, and wrong from the second token on."""

    def forget(model: onnx.ModelProto) -> None:
        (lengths,) = (node for node in model.graph.node if node.output[0] == "last_positions_int64")
        lengths.op_type = "Sub"
        lengths.input[1] = lengths.input[0]

    with pytest.raises(NotBatchable) as caught:
        load(edited(spoiled(), forget))
    assert str(caught.value) == (
        "model.onnx: tokens that are computed one by one, in two rows, do not give the logits of the whole"
    )


def test_a_graph_that_cannot_run_in_batches_is_found(spoiled: Spoil) -> None:
    def split(model: onnx.ModelProto) -> None:
        """Of the mask only one row is allowed."""
        (mask,) = (one for one in model.graph.input if one.name == "attention_mask")
        mask.type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(NotBatchable, match=r"^model.onnx: cannot be run in batches: "):
        load(edited(spoiled(), split))


def test_what_is_no_model_is_said(spoiled: Spoil) -> None:
    folder = spoiled()
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelLoadError, match=r"model.onnx: the model cannot be loaded: "):
        BatchedEngine(folder)


def test_a_graph_with_the_logits_of_all_positions_gives_the_last_ones(
    tiny_folder: Path, spoiled: Spoil
) -> None:
    def unprune(model: onnx.ModelProto) -> None:
        (gather,) = (node for node in model.graph.node if node.output[0] == "last_hidden")
        for node in model.graph.node:
            node.input[:] = [gather.input[0] if name == "last_hidden" else name for name in node.input]
        model.graph.node.remove(gather)
        (logits,) = (one for one in model.graph.output if one.name == "logits")
        logits.type.tensor_type.shape.dim[1].ClearField("dim_value")
        logits.type.tensor_type.shape.dim[1].dim_param = "sequence_length"

    pruned, whole = load(tiny_folder), load(edited(spoiled(), unprune))
    for tokens in ([7], [7, 8, 9], list(range(3, 40))):
        np.testing.assert_allclose(
            whole.compute(1, tokens, 0), pruned.compute(1, tokens, 0), rtol=1e-4, atol=1e-5
        )
    assert whole.decode([5, 6], [2, 3]).shape == (2, 380)
    pruned.close()
    whole.close()
