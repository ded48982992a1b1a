"""Files that several processes share: always whole, and their owner's alone."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from foundry_runtime.platform import files, flush_folder, make_private_folder, try_lock, write_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for data in (b"first", b"", b"second"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


class Msvcrt:
    """Windows' locks of a file's first byte, by the open file that has it."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        self._held: dict[int, int] = {}

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (self.LK_NBLCK, 1)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        if self._held.setdefault(os.fstat(descriptor).st_ino, descriptor) != descriptor:
            raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("system", [sys.platform, "win32"])
def test_one_open_file_at_a_time_has_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    if system != sys.platform:
        monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    path = tmp_path / "lock"
    path.write_bytes(b"what it holds does not matter")
    with path.open("ab") as first, path.open("ab") as second, (tmp_path / "other").open("ab") as other:
        assert try_lock(first, system=system)
        assert not try_lock(second, system=system)
        assert try_lock(other, system=system)


def test_what_cannot_be_written_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "kept").touch()
    with pytest.raises(OSError, match="folder"):
        write_whole(path, b"x", system="linux")
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(os.name == "nt", reason="there, access rights are a folder's")
def test_only_the_owner_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "private"
    for _ in range(2):
        make_private_folder(folder, system="linux")
    write_whole(folder / "file", b"x")
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "file")] == ["0o700", "0o600"]
    make_private_folder(tmp_path / "windows", system="win32")
    assert (tmp_path / "windows").is_dir()


def test_windows_waits_for_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    replace, refusals = Path.replace, [None] * 3

    def refuse(source: Path, target: Path) -> Path:
        if refusals:
            refusals.pop()
            raise PermissionError
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    write_whole(path, b"x", system="win32")
    assert path.read_bytes() == b"x"
    refusals = [None] * 1000
    monkeypatch.setattr(files, "_PATIENCE", 0.02)
    with pytest.raises(PermissionError):
        write_whole(path, b"y", system="win32")
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"x", [path])
    refusals = [None]
    with pytest.raises(PermissionError):  # elsewhere it is no reader that is in the way
        write_whole(path, b"y", system="linux")


def test_a_folders_entries_are_brought_to_the_disk_where_a_folder_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    flush_folder(tmp_path, system="win32")
    assert flushed == []
    if os.name != "nt":
        flush_folder(tmp_path, system="linux")
        assert len(flushed) == 1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(flushed[0])
