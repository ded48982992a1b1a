"""How one process at a time is let in, by a file. Refuses to know: what the lock guards."""

from __future__ import annotations

import sys
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["try_lock"]


def try_lock(file: BinaryIO) -> bool:
    """Take an open file's lock, unless another process, or another open file of this one, has it.

    The lock goes when the file is closed, and with the process, however that ends.

    Args:
        file: Open for writing. What it holds does not matter; it must not be deleted while others may wait.
    """
    if sys.platform == "win32":
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
    else:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
