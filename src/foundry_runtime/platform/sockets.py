"""Whether there are Unix sockets.

Knows: that Python has none on Windows. Refuses to know: what they are for.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

__all__ = ["unix_socket_family"]


def unix_socket_family(*, sockets: Any = socket) -> int:
    """The family of Unix sockets.

    Args:
        sockets: The module that has it, or has it not.

    Raises:
        OSError: The system has none.
    """
    family: int | None = getattr(sockets, "AF_UNIX", None)
    if family is None:
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets")
    return family
