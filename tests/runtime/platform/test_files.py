"""Files that several processes share: always whole, and their owner's alone."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, cast

import pytest

from foundry_runtime.platform import (
    files,
    flush_file,
    flush_folder,
    is_link,
    make_private_folder,
    reserve,
    space_taken,
    take_lock,
    try_lock,
    write_whole,
)


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


def test_who_has_the_lock_may_delete_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.lock"
    first = take_lock(path)
    assert first is not None
    assert take_lock(path) is None
    first.close()
    # Between the opening and the locking of the next, who had it before deletes it.
    moments = [path.unlink, lambda: None]

    def lock_late(file: BinaryIO, *, system: str) -> bool:
        moments.pop(0)()
        return try_lock(file, system=system)

    monkeypatch.setattr(files, "try_lock", lock_late)
    second = take_lock(path)
    assert second is not None
    with second:
        assert moments == []
        assert os.path.samestat(os.fstat(second.fileno()), path.stat())


def test_a_lock_that_cannot_be_taken_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[BinaryIO] = []

    def fail(file: BinaryIO, *, system: str) -> bool:
        opened.append(file)
        raise OSError("no locks here")

    monkeypatch.setattr(files, "try_lock", fail)
    with pytest.raises(OSError, match="no locks here"):
        take_lock(tmp_path / "x.lock")
    assert [file.closed for file in opened] == [True]


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


def test_a_durable_file_is_on_the_disk_before_it_has_its_name_and_its_name_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, bool]] = []
    path = tmp_path / "record"

    def note(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        flushed.append((kind, path.exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_whole(path, b"x", durable=True, system="linux")
    assert flushed == [("file", False), ("folder", True)]
    path.unlink()
    write_whole(path, b"x")
    assert len(flushed) == 2


class Fcntl:
    """macOS's way to the disk itself, which not every file system has."""

    F_FULLFSYNC = 51

    def __init__(self, *, has: bool) -> None:
        self._has = has
        self.asked: list[int] = []

    def fcntl(self, _descriptor: int, command: int) -> int:
        self.asked.append(command)
        if not self._has:
            raise OSError(errno.ENOTSUP, "Operation not supported")
        return 0


@pytest.mark.parametrize(("has", "plain"), [(True, 0), (False, 1)])
def test_on_macos_a_file_is_flushed_through_the_drives_own_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has: bool, plain: int
) -> None:
    fcntl = Fcntl(has=has)
    monkeypatch.setitem(sys.modules, "fcntl", fcntl)
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    with (tmp_path / "file").open("wb") as file:
        flush_file(file.fileno(), system="darwin")
    assert (fcntl.asked, len(flushed)) == ([fcntl.F_FULLFSYNC], plain)


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_a_reserved_file_has_its_size(tmp_path: Path, system: str) -> None:
    if system == "linux" and sys.platform != "linux":
        pytest.skip("the call is Linux's")
    with (tmp_path / "file").open("xb") as file:
        reserve(file.fileno(), 100_000, system=system)
        status = os.fstat(file.fileno())
    assert status.st_size == 100_000
    if system == "linux":
        assert space_taken(status) >= 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="the call is Linux's")
@pytest.mark.parametrize(("number", "is_told"), [(errno.EOPNOTSUPP, False), (errno.ENOSPC, True)])
def test_a_file_system_that_promises_no_room_is_no_failure_and_one_that_has_none_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_told: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with (tmp_path / "file").open("xb") as file:
        with pytest.raises(OSError, match="No space") if is_told else nullcontext():
            reserve(file.fileno(), 1000, system="linux")
        assert os.fstat(file.fileno()).st_size == (0 if is_told else 1000)


def test_what_a_file_takes_of_the_disk_is_its_size_where_nothing_else_is_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5)
    assert space_taken((tmp_path / "file").lstat(), system="win32") == 5


def test_a_link_is_told_from_what_it_leads_to_and_so_is_a_junction(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert is_link((tmp_path / "link").lstat())
    assert not is_link(tmp_path.lstat())
    junction = SimpleNamespace(st_reparse_tag=0xA0000003, st_mode=stat.S_IFDIR)
    assert is_link(cast("os.stat_result", junction), system="win32")
    assert not is_link(cast("os.stat_result", junction), system="linux")
