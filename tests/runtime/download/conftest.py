"""What all tests of downloads share."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from foundry_runtime.download.sources.api import Place


@pytest.fixture(scope="session")
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "one.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.fixture(autouse=True)
def few_authorities(_one_authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client for HTTP knows one authority instead of all of the world, which takes 0.07 s to read."""
    monkeypatch.setenv("SSL_CERT_FILE", str(_one_authority))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    around = tmp_path / "ein Ort mit Ä und 空白"
    return Place(folder=around / "model", scratch=around / "scratch")
