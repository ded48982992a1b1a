"""A home with one tiny model, for tests that need a real tokenizer and template but no real answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundry_runtime.models.directory import ModelDirectory
from tests.support.tiny_model import tiny_model_folder


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    """Its path has a blank and letters beyond ASCII."""
    directory = ModelDirectory(Path(tmp_path_factory.mktemp("Zuhause mit Ä und ☕")))
    target = directory.models / "Test"
    target.mkdir(parents=True)
    tiny_model_folder(target)
    return directory
