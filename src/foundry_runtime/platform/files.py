"""Files that several processes share: locks, whole writes, private folders.

Knows: how one process at a time is let in, and how a reader never sees half a file.
Refuses to know: what the lock guards, and what the file says.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

__all__ = ["flush_folder", "make_private_folder", "try_lock", "write_whole"]


def try_lock(file: BinaryIO, *, system: str = sys.platform) -> bool:
    """Take an open file's lock, unless another process, or another open file of this one, has it.

    The lock goes when the file is closed, and with the process, however that ends.

    Args:
        file: Open for writing. What it holds does not matter; it must not be deleted while others may wait.
        system: The operating system, as `sys.platform` names it.
    """
    # Imported by name, since neither module is there on the other's systems.
    if system == "win32":
        msvcrt: Any = import_module("msvcrt")
        file.seek(0)  # a lock is one of bytes, from where the file stands
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
    else:
        fcntl: Any = import_module("fcntl")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def write_whole(path: Path, data: bytes, *, system: str = sys.platform) -> None:
    """Write a file that others read at any time: they see what was there before, or all of the new.

    Only its owner can read it, where the system knows such a thing of a single file.

    Args:
        path: Where; its folder is there.
        data: What.
        system: The operating system, as `sys.platform` names it.

    Raises:
        OSError: It cannot be written; the old one is still there.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(data)
        _replace(unfinished, path, system)
    finally:
        unfinished.unlink(missing_ok=True)


def _replace(source: Path, target: Path, system: str) -> None:
    # Windows replaces no file that somebody has open; readers have this one for a moment only.
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            source.replace(target)
        except PermissionError:
            if system != "win32" or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
        else:
            return


_PATIENCE: Final = 2.0
"""Seconds that a reader may have a file open."""
_PAUSE: Final = 0.01


def make_private_folder(path: Path, *, system: str = sys.platform) -> None:
    """Make a folder that only its owner can look into, if it is not there; those above it are as usual.

    On Windows a folder has the access rights of the one it lies in, and a user's own folder is private.

    Raises:
        OSError: It cannot be made.
    """
    path.mkdir(mode=0o777 if system == "win32" else 0o700, parents=True, exist_ok=True)


def flush_folder(path: Path, *, system: str = sys.platform) -> None:
    """Bring a directory's entries to the disk, so that a rename in it outlives a power cut.

    Windows opens no directory as a file; its own journal keeps renames.

    Raises:
        OSError: The disk has failed.
    """
    if system == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
