"""A folder takes its place at once; what was there stays until then, and after whatever went wrong."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from foundry_runtime.models.placing import check_place, put_in_place
from tests.runtime.models.folders import write_folder


def test_a_folder_replaces_a_model_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    target, folder = tmp_path / "models" / "mine-1", write_folder(tmp_path / "new")
    check_place(target)
    put_in_place(folder, target)
    assert sorted(path.name for path in target.iterdir()) == ["genai_config.json", "inference_model.json"]
    newer = write_folder(tmp_path / "newer")
    (newer / "v1").mkdir()
    (newer / "v1" / "part").touch()
    check_place(target)
    put_in_place(newer, target)
    assert (target / "v1" / "part").exists()
    assert [path.name for path in target.parent.iterdir()] == ["mine-1"]


def test_a_folder_that_cannot_be_moved_leaves_the_model_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = write_folder(tmp_path / "mine-1", "old:1"), write_folder(tmp_path / "new")
    move = Path.rename

    def rename(self: Path, to: Path) -> Path:
        if self == folder:
            raise PermissionError(errno.EACCES, "somebody has it open", str(self))
        return move(self, to)

    monkeypatch.setattr(Path, "rename", rename)
    check_place(target)
    with pytest.raises(PermissionError, match="somebody has it open"):
        put_in_place(folder, target)
    assert "old:1" in (target / "inference_model.json").read_text()
    assert folder.exists()


def test_what_a_killed_process_has_moved_away_is_put_back(tmp_path: Path) -> None:
    write_folder(tmp_path / ".mine-1.replaced", "old:1")
    check_place(tmp_path / "mine-1")
    assert "old:1" in (tmp_path / "mine-1" / "inference_model.json").read_text()
    assert not (tmp_path / ".mine-1.replaced").exists()


def test_a_place_with_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "thesis").mkdir(parents=True)
    for name in ("file", "folder"):
        with pytest.raises(FileExistsError, match="not a model folder, so it is not replaced"):
            check_place(tmp_path / name)
    (tmp_path / "empty").mkdir()
    check_place(tmp_path / "empty")
