"""Files that several processes share: locks, whole writes, private folders.

Knows: how one process at a time is let in, how a reader never sees half a file, what outlives a power cut.
Refuses to know: what the lock guards, and what the file says.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

__all__ = [
    "flush_file",
    "flush_folder",
    "is_link",
    "make_private_folder",
    "reserve",
    "space_taken",
    "take_lock",
    "try_lock",
    "write_whole",
]


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


def take_lock(path: Path, *, system: str = sys.platform) -> BinaryIO | None:
    """Open a file for its lock alone, and take it.

    Who has the lock may delete the file: whoever comes later makes a new one, and who waited for the old one
    finds that it is gone.

    Args:
        path: The file, which need not exist; its folder is there.
        system: The operating system, as `sys.platform` names it.

    Returns:
        The open file, whose lock goes when it is closed; `None` while another has it.

    Raises:
        OSError: The file cannot be made.
    """
    while True:
        file = path.open("ab")
        try:
            if not try_lock(file, system=system):
                file.close()
                return None
            if _is_still(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_still(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_whole(path: Path, data: bytes, *, durable: bool = False, system: str = sys.platform) -> None:
    """Write a file that others read at any time: they see what was there before, or all of the new.

    Only its owner can read it, where the system knows such a thing of a single file.

    Args:
        path: Where; its folder is there.
        data: What.
        durable: Whether the new file outlives a power cut from now on; that takes a while.
        system: The operating system, as `sys.platform` names it.

    Raises:
        OSError: It cannot be written; the old one is still there.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # Path has no way to open a file that must not exist with a mode.
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(data)
            if durable:
                file.flush()
                flush_file(file.fileno(), system=system)
        _replace(unfinished, path, system)
        if durable:
            flush_folder(path.parent, system=system)
    except OSError as error:
        error.filename = str(path)  # not the unfinished one; a full disk names none at all
        raise
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


def flush_file(descriptor: int, *, system: str = sys.platform) -> None:
    """Bring what was written to an open file to the disk, through whatever handle it was written.

    On macOS `fsync` leaves it in the drive's own memory; not every file system has the call that does not.

    Raises:
        OSError: The disk has failed, or is full.
    """
    if system == "darwin":
        fcntl: Any = import_module("fcntl")
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:
            pass
        else:
            return
    os.fsync(descriptor)


def reserve(descriptor: int, size: int, *, system: str = sys.platform) -> None:
    """Give an open, empty file its size, and the room for it on the disk where the system can promise that.

    Raises:
        OSError: There is no room, or a file may not be so large.
    """
    if system == "linux" and size:
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NO_RESERVING:
                raise
    os.truncate(descriptor, size)


_NO_RESERVING: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})
"""What file systems say that promise nothing."""


def space_taken(status: os.stat_result, *, system: str = sys.platform) -> int:
    """How many bytes of the disk a file takes, whatever its size is."""
    return status.st_size if system == "win32" else status.st_blocks * 512


def is_link(status: os.stat_result, *, system: str = sys.platform) -> bool:
    """Whether what `lstat` has looked at leads elsewhere: a link or, on Windows, a junction."""
    if system == "win32" and getattr(status, "st_reparse_tag", 0) == _JUNCTION:
        return True
    return stat.S_ISLNK(status.st_mode)


_JUNCTION: Final = 0xA0000003
"""`IO_REPARSE_TAG_MOUNT_POINT`."""
