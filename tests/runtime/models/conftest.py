"""What the tests of importing and of the default model begin with: files to import, and a home for models."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundry_runtime.models.directory import ModelDirectory
from tests.runtime.download.published import Publication, publish


@pytest.fixture
def published(tmp_path: Path) -> Publication:
    return publish(tmp_path / "published")


@pytest.fixture
def directory(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "home of Jürgen")
