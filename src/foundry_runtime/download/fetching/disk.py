"""The folder that a download fills, as the disk has it.

Knows: that nothing outside of the folder is ever written, by no name and through no link; that what is said
to be flushed outlives a power cut; what is missing when the disk is full. Refuses to know: what comes when.

All of it blocks, and belongs into threads.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import RawIOBase
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Final

from attrs import define, field, frozen

from foundry_proto.transfer import Plan
from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.folder import UNFINISHED_FILE
from foundry_runtime.platform import flush_file, flush_folder, is_link, reserve, space_taken, write_whole

__all__ = ["Disk", "Found", "OpenFile"]

_CHUNK: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""There is no room, or none for this user, or for so large a file."""


@frozen(kw_only=True)
class Found:
    """What an earlier attempt has left."""

    sizes: Mapping[str, int]
    """Of the wanted files that are there."""
    record: bytes | None


@define(eq=False)
class OpenFile:
    """A file that is being written, open from the first time on; one thread at a time uses it."""

    path: str
    _file: RawIOBase | None = field(init=False, default=None)

    def write(self, place: Path, pieces: Iterable[bytes], position: int) -> None:
        """Write pieces from a position on, one behind the other."""
        file = self._file = self._file or place.open("r+b", buffering=0)
        file.seek(position)
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[file.write(rest) :]

    def flush(self) -> None:
        """Bring to the disk what was written, through this and any other open file of the path."""
        if self._file is not None:
            flush_file(self._file.fileno())

    def close(self) -> None:
        """Write nothing more."""
        if self._file is not None:
            self._file.close()


@define(eq=False)
class Disk:
    """A folder that a plan's files come into, and no others.

    Args:
        folder: Need not be there.
        plan: Which files.

    Raises:
        DownloadFailed: A file has the name under which the record is kept.
    """

    _folder: Path
    _plan: Plan
    _unflushed_folders: set[Path] = field(init=False, factory=set)
    """In which files were made since."""

    def __attrs_post_init__(self) -> None:
        for file in self._plan.files:
            if file.path.partition("/")[0].casefold() == UNFINISHED_FILE:
                raise DownloadFailed(
                    f"{file.path}: expected another name, this one is used for what is unfinished"
                )

    @property
    def _record(self) -> Path:
        # In the folder itself: without it, what is half done would look whole. And a folder that has it is no
        # model, wherever it comes to lie.
        return self._folder / UNFINISHED_FILE

    def open(self) -> Found:
        """Make the folder, or see what it holds; what does not belong into it goes, links above all.

        Raises:
            OSError: It cannot be made or read.
            DownloadFailed: There is not room enough for what is missing.
        """
        if self._folder.is_symlink():
            self._folder.unlink()
        self._folder.mkdir(parents=True, exist_ok=True)
        files = {file.path: file for file in self._plan.files}
        sizes: dict[str, int] = {}
        missing = self._plan.size
        for path, status in self._entries(files.keys()):
            sizes[path] = status.st_size
            missing -= min(space_taken(status), files[path].size)
        try:
            record = self._record.read_bytes()
        except FileNotFoundError:
            record = None
        self._check_room(missing)
        return Found(sizes=sizes, record=record)

    def _entries(self, wanted: Collection[str]) -> Iterator[tuple[str, os.stat_result]]:
        """The wanted files that are there; all else goes."""
        folders = {str(above) for path in wanted for above in PurePosixPath(path).parents}
        waiting = [""]
        while waiting:
            above = waiting.pop()
            with os.scandir(self._folder / above) as entries:
                for entry in entries:
                    path = f"{above}/{entry.name}" if above else entry.name
                    status = entry.stat(follow_symlinks=False)
                    is_folder = entry.is_dir(follow_symlinks=False) and not is_link(status)
                    if is_folder and path in folders:
                        waiting.append(path)
                    elif entry.is_file(follow_symlinks=False) and path in wanted:
                        yield path, status
                    elif path != UNFINISHED_FILE or is_folder or is_link(status):
                        _remove(Path(entry.path), is_folder=is_folder)

    def _check_room(self, missing: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if missing > free:
            raise DownloadFailed(
                f"{self._folder}: expected {missing} bytes of free disk space for what is missing,"
                f" got {free}. What is here is kept: make room, then ask again"
            )

    def save(self, record: bytes) -> None:
        """Keep a record in place of the earlier one."""
        with self._explained(UNFINISHED_FILE):
            write_whole(self._record, record, durable=True)

    def finish(self) -> None:
        """Say that all files are whole."""
        self._record.unlink(missing_ok=True)
        flush_folder(self._folder)

    def make(self, files: Iterable[tuple[str, int]]) -> None:
        """Make files anew, of these sizes, with room for all that shall come."""
        for path, size in files:
            self._make(path, size)

    def _make(self, path: str, size: int) -> None:
        place = self._folder / path
        with self._explained(path):
            self._make_folders(path)
            place.unlink(missing_ok=True)
            # Exclusively: a link that has come here in the meantime is not followed.
            with place.open("xb", buffering=0) as file:
                try:
                    reserve(file.fileno(), size)
                except OSError:
                    file.close()
                    place.unlink()
                    raise
        self._unflushed_folders.add(place.parent)

    def _make_folders(self, path: str) -> None:
        folder = self._folder
        for name in path.split("/")[:-1]:
            above, folder = folder, folder / name
            with suppress(FileExistsError):
                folder.mkdir()
                self._unflushed_folders.add(above)

    def write(self, file: OpenFile, pieces: Sequence[bytes], position: int) -> None:
        """Write pieces to a file that was made, from a position on, one behind the other."""
        with self._explained(file.path):
            file.write(self._folder / file.path, pieces, position)

    def flush(self, dirty: Iterable[OpenFile], over: Iterable[OpenFile]) -> None:
        """Bring to the disk what was written to files, and that they are there.

        Args:
            dirty: What was written to; of several that are one file, one is enough.
            over: What is closed then.
        """
        folders, self._unflushed_folders = self._unflushed_folders, set()
        try:
            for path, file in {file.path: file for file in dirty}.items():
                with self._explained(path):
                    file.flush()
            for folder in folders:
                flush_folder(folder)
        except OSError:
            self._unflushed_folders |= folders
            raise
        for file in over:
            file.close()

    def sha256(self, path: str, stop: Event) -> str | None:
        """A file's SHA-256 in hexadecimal; `None` if it was told to stop."""
        digest = hashlib.sha256()
        with (self._folder / path).open("rb", buffering=0) as file:
            while not stop.is_set():
                if not (chunk := file.read(_CHUNK)):
                    return digest.hexdigest()
                digest.update(chunk)
        return None

    def _explained(self, path: str) -> _Explained:
        return _Explained(self._folder, path)


@frozen
class _Explained:
    """Says what to do where the disk is full, and which file it is about."""

    _folder: Path
    _path: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            free = shutil.disk_usage(self._folder).free
            raise DownloadFailed(
                f"{self._path}: the disk is full: {error.strerror}; {free} bytes are free for {self._folder}."
                " What is here is kept: make room, then ask again"
            ) from error
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(self._folder / self._path)


def _remove(path: Path, *, is_folder: bool) -> None:
    if is_folder:
        shutil.rmtree(path)
        return
    try:
        path.unlink()
    except PermissionError:
        path.rmdir()  # on Windows a link to a folder goes as a folder does
