"""Which engine drives which model, and what is said when it is the other one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundry_runtime.engine.api import Engine, ModelLoadError
from foundry_runtime.engine.batched.engine import BatchedEngine
from foundry_runtime.engine.genai.engine import GenaiEngine
from foundry_runtime.models.engines import EngineKind, make_engine
from foundry_runtime.models.folder import ModelFolder
from tests.support.tiny_model import MODEL_ID, tiny_model_folder


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder.read(tiny_model_folder(tmp_path))


@pytest.fixture
def ungrouped(folder: ModelFolder) -> ModelFolder:
    """A model that only onnxruntime-genai knows how to drive."""
    path = folder.path / "genai_config.json"
    document = json.loads(path.read_text())
    document["search"]["past_present_share_buffer"] = False
    path.write_text(json.dumps(document))
    return folder


def made(folder: ModelFolder, kind: EngineKind) -> Iterator[Engine]:
    engine = make_engine(folder, kind, threads=1)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("kind", "expected"), [("auto", BatchedEngine), ("batched", BatchedEngine), ("genai", GenaiEngine)]
)
def test_a_plain_decoder_is_driven_in_batches_unless_asked_otherwise(
    folder: ModelFolder, kind: EngineKind, expected: type
) -> None:
    assert all(type(engine) is expected for engine in made(folder, kind))


def test_what_does_not_run_on_the_processor_is_not_driven_in_batches(folder: ModelFolder) -> None:
    with pytest.raises(ModelLoadError) as error:
        make_engine(folder, "batched", provider="nowhere")
    assert str(error.value) == f"{folder.path}: the batched engine runs on cpu alone, got nowhere"
    with pytest.raises(ModelLoadError, match="the model was asked to run on nowhere, which is not available"):
        make_engine(folder, "auto", provider="nowhere")


def test_another_model_is_driven_by_its_own_package_and_the_log_says_why(
    ungrouped: ModelFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert all(type(engine) is GenaiEngine for engine in made(ungrouped, "auto"))
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{MODEL_ID} is driven by onnxruntime-genai's own generator: "
        "search.past_present_share_buffer: expected true"
    )


def test_who_asks_for_batches_is_told_that_a_model_is_not_for_them(ungrouped: ModelFolder) -> None:
    with pytest.raises(ModelLoadError) as caught:
        make_engine(ungrouped, "batched")
    assert str(caught.value) == (
        f"{ungrouped.path}: not for the batched engine: search.past_present_share_buffer: expected true"
    )


@pytest.mark.parametrize("kind", ["auto", "genai"])
def test_a_folder_whose_files_are_gone_is_a_model_that_cannot_be_loaded(
    folder: ModelFolder, kind: EngineKind
) -> None:
    for path in folder.path.iterdir():
        path.unlink()
    with pytest.raises(ModelLoadError, match=r"no model folder, there is no genai_config.json$"):
        make_engine(folder, kind)
