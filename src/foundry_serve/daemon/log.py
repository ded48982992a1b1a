"""The log of a service in the background: one file that is never too long, and some older ones.

Knows: that all which the process prints ends in it (what native libraries say before they end the process,
too), and how a file is put away that is still written to.
Refuses to know: what is logged, and when.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

__all__ = ["LOG_LIMIT", "LogFile", "last_lines", "put_away"]

LOG_LIMIT: Final = 4 * 1024 * 1024
"""Bytes from which on a log is put away."""
_OLDER: Final = 3
"""How many of those are kept."""
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_STDOUT, _STDERR = 1, 2


class LogFile(logging.Handler):
    """Writes records, and all that the process prints, to a file.

    Args:
        path: The file; its folder is there.
        limit: Bytes from which on it is put away.
    """

    def __init__(self, path: Path, *, limit: int = LOG_LIMIT) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))
        self._path = path
        self._limit = limit
        self._put_away_at = limit
        self._open()

    def _open(self) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._become(file)

    def _become(self, file: int) -> None:
        """Have the process print to a file, which this call closes."""
        for stream in (_STDOUT, _STDERR):
            os.dup2(file, stream)
        os.close(file)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; see `logging.Handler.emit`."""
        try:
            data = f"{self.format(record)}\n".encode(errors="backslashreplace")
            os.write(_STDERR, data)
            if os.fstat(_STDERR).st_size >= self._put_away_at:
                self._turn_over()
        except Exception:  # noqa: BLE001 - whatever it is, logging has its own way to tell
            self.handleError(record)

    def _turn_over(self) -> None:
        # Windows moves no file that is open. What other threads print meanwhile is lost.
        self._become(os.open(os.devnull, os.O_WRONLY))
        try:
            put_away(self._path)
            self._put_away_at = self._limit
        except OSError:  # somebody reads it; it is tried again a while later
            self._put_away_at += self._limit // 10
        finally:
            self._open()


def put_away(path: Path) -> None:
    """Make a log the first of the older ones, and forget the last of those.

    Raises:
        OSError: It cannot be moved; the older ones may have been.
    """
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, _OLDER + 1))]
    for newer, older in reversed([*pairwise(names)]):
        if newer.exists():
            newer.replace(older)


def last_lines(path: Path, count: int, *, since: int = 0) -> Sequence[str]:
    """The end of a log.

    Args:
        path: The file.
        count: The most lines.
        since: Bytes at its beginning that are not meant.

    Returns:
        The lines, oldest first; none where there is no such file.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - count * _LONGEST))
            data = file.read()
    except OSError:
        return []
    return data.decode(errors="replace").splitlines()[-count:]


_LONGEST: Final = 4096
"""Bytes of a line, on average; of longer ones, fewer are shown."""
