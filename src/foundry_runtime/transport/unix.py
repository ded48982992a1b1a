"""Unix sockets: a path instead of an address, and a file's mode that says who may connect.

Knows: that nobody can connect before the mode is set, and how a path that a dead server left is told from one
that is in use.
Refuses to know: what a connection is for.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

import anyio

from foundry_runtime.platform import unix_socket_family
from foundry_runtime.transport.api import Transport
from foundry_runtime.transport.listener import Listener
from foundry_runtime.transport.sockets import wrap_socket

__all__ = ["connect_unix", "open_unix_listener"]

BACKLOG: Final = 512
"""Connections that the system holds ready to be accepted; it may allow fewer."""

_AGAIN: Final = (errno.EAGAIN, errno.EINTR)
"""What a connection is told while the server's queue is full."""
_PAUSE: Final = 0.01


def open_unix_listener(path: Path, mode: int = 0o600) -> Listener:
    """Listen on a Unix socket; its file goes when the listener closes.

    Args:
        path: Where; its folder is there. A socket on which nobody listens any more is replaced.
        mode: Who may connect: those who may write to the file.

    Raises:
        OSError: Somebody listens there, something else lies there, or the system has no such sockets; the
            text names the path.
    """
    try:
        sock = _bind(path, mode)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {path}: {error.strerror or error}") from error
    identity = _identity(path)

    def remove() -> None:
        if _identity(path) == identity:  # another server may have it by now
            path.unlink(missing_ok=True)

    return Listener(sock, on_close=remove)


def _bind(path: Path, mode: int) -> socket.socket:
    sock = socket.socket(unix_socket_family(), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            sock.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_left_over(path):
                raise
            path.unlink()
            sock.bind(str(path))
        # Before `listen` nobody is let in: the mode counts from the first connection on.
        path.chmod(mode)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_left_over(path: Path) -> bool:
    """Whether a path is a socket's on which nobody listens."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return False
    with socket.socket(unix_socket_family(), socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


async def connect_unix(path: Path) -> Transport:
    """Connect to a server on a Unix socket.

    Args:
        path: The socket's file.

    Raises:
        OSError: Nobody listens there; the text names the path.
    """
    sock = socket.socket(unix_socket_family(), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while (status := sock.connect_ex(str(path))) in _AGAIN:  # noqa: ASYNC110 - nothing tells when
            await anyio.sleep(_PAUSE)
        if status:
            raise OSError(status, f"cannot connect to {path}: {os.strerror(status)}")  # noqa: TRY301  (as `connect` would raise it)
    except BaseException:
        sock.close()
        raise
    return await wrap_socket(sock)
