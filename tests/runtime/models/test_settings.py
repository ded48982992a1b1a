"""The user's settings: one decision changes, and all else stays."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from foundry_runtime.models.settings import (
    SETTINGS_FILE,
    BadSettings,
    read_models_folder,
    write_models_folder,
)


def test_a_decision_is_read_as_it_was_written(tmp_path: Path) -> None:
    home = tmp_path / "not yet there"
    assert read_models_folder(home) is None
    write_models_folder(home, tmp_path / "Größe und ☕")
    assert read_models_folder(home) == tmp_path / "Größe und ☕"


def test_a_decision_taken_back_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_text('{"other": [1], "modelDirPath": "/x"}')
    write_models_folder(tmp_path, None)
    assert read_models_folder(tmp_path) is None
    assert json.loads((tmp_path / SETTINGS_FILE).read_text()) == {"other": [1], "version": 1}
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS_FILE]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON: Expecting property name"),
        ("[]", "expected an object, got []"),
        ('{"version": 2}', "version: expected 1, got 2"),
        ('{"modelDirPath": 5}', "modelDirPath: expected an absolute path, got 5"),
        ('{"modelDirPath": "ä"}', 'modelDirPath: expected an absolute path, got "ä"'),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / SETTINGS_FILE
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadSettings, match=re.escape(f"{path}: {message}")):
        read_models_folder(tmp_path)
    assert path.read_text(encoding="utf-8") == text
