"""What a model folder must be, and how one that is not is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foundry_runtime.engine.api import ModelLoadError
from foundry_runtime.engine.genai import GenaiEngine
from foundry_runtime.engine.genai.binding import Generator
from tests.runtime.engine.conftest import Spoil


def test_a_path_with_blanks_and_letters_of_any_language_will_do(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mit Leerzeichen, ümläut, 模型, 🙂"
    shutil.copytree(tiny_folder, folder)
    engine = GenaiEngine(folder)
    assert engine.context_length == 512
    engine.close()


def cut(name: str) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:3000])

    return work


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), "File doesn't exist"),
        (cut("model.onnx"), "Protobuf parsing failed."),
        (cut("model.onnx.data"), "rotary_cos"),
        (lambda folder: (folder / "model.onnx.data").unlink(), "model.onnx.data"),
    ],
    ids=["no model", "cut model", "cut data", "no data"],
)
def test_a_folder_that_cannot_be_loaded_is_named_with_the_cause(
    spoiled: Spoil, spoil: Callable[[Path], None], cause: str
) -> None:
    folder = spoiled()
    spoil(folder)
    with pytest.raises(ModelLoadError) as caught:
        GenaiEngine(folder)
    assert str(caught.value).startswith(f"{folder}: the model cannot be loaded: ")
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_vocabulary_shows_at_the_first_token_and_so_at_the_load(spoiled: Spoil) -> None:
    folder = spoiled(vocab_size=381)
    with pytest.raises(ModelLoadError) as caught:
        GenaiEngine(folder)
    assert str(caught.value) == (
        f"{folder}: the model cannot be loaded: Got invalid dimensions for output: logits for the following "
        "indices index: 2 Got: 381 Expected: 380 Please fix either the inputs/outputs or the model."
    )


def test_a_model_that_gives_other_logits_than_it_says_is_not_taken(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Generator, "logits", lambda _: np.zeros(7, dtype=np.float32))
    with pytest.raises(ModelLoadError) as caught:
        GenaiEngine(tiny_folder)
    assert str(caught.value) == f"{tiny_folder}: the model gives 7 logits, but its vocab_size is 380"


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        GenaiEngine(tmp_path)
    assert str(caught.value) == f"{tmp_path}: no model folder, there is no genai_config.json"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"vocab_size": "380"}, "model.vocab_size: expected a positive integer, got '380'"),
        ({"vocab_size": True}, "model.vocab_size: expected a positive integer, got True"),
        ({"context_length": 0}, "model.context_length: expected a positive integer, got 0"),
        (
            {"eos_token_id": None},
            "model.eos_token_id: expected an integer or an array of integers, got None",
        ),
        (
            {"eos_token_id": [2, "x"]},
            "model.eos_token_id: expected an integer or an array of integers, got [2, 'x']",
        ),
        ({"eos_token_id": []}, "model.eos_token_id: expected an integer or an array of integers, got []"),
    ],
    ids=str,
)
def test_a_configuration_that_lacks_what_is_needed_is_named(
    spoiled: Spoil, changes: dict[str, object], expected: str
) -> None:
    folder = spoiled(**changes)
    with pytest.raises(ModelLoadError) as caught:
        GenaiEngine(folder)
    assert str(caught.value) == f"{folder / 'genai_config.json'}: {expected}"


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000])
def test_a_configuration_that_is_no_json_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "genai_config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelLoadError) as caught:
        GenaiEngine(tmp_path)
    assert str(caught.value).startswith(f"{path}: cannot be read: ")


@pytest.mark.parametrize("document", [[], {}, {"model": 5}])
def test_a_configuration_without_a_model_is_named(tmp_path: Path, document: object) -> None:
    path = tmp_path / "genai_config.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ModelLoadError) as caught:
        GenaiEngine(tmp_path)
    assert str(caught.value) == f"{path}: model: expected an object"
