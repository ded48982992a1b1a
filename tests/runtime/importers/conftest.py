"""Where the real default model's GGUF file comes from."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def default_model_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file inside the wheel that the environment names."""
    wheel = os.environ.get("FOUNDRY_TEST_WHEEL")
    if wheel is None:
        pytest.skip("FOUNDRY_TEST_WHEEL names no wheel")
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        return Path(archive.extract(name, tmp_path_factory.mktemp("default-model")))
