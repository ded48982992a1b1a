"""Both kinds of worker; a model folder that engines load in milliseconds, and ways to spoil a copy of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tiny_model import tiny_model_folder


@pytest.fixture(params=["thread", "inline"])
def kind(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model: 380 tokens, a context of 512, the end tokens 0 and 2."""
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


Spoil = Callable[..., Path]


@pytest.fixture
def spoiled(tiny_folder: Path, tmp_path: Path) -> Spoil:
    """Copy the tiny folder and change entries of its configuration's `model`."""

    def spoil(name: str = "spoiled", **model: object) -> Path:
        folder = tmp_path / name
        shutil.copytree(tiny_folder, folder)
        path = folder / "genai_config.json"
        document = json.loads(path.read_text())
        document["model"].update(model)
        path.write_text(json.dumps(document))
        return folder

    return spoil
