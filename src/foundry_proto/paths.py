"""Names that files and folders can have everywhere, and paths of files within a folder.

Knows: what Linux, macOS or Windows would not store, or would take for something else.
Refuses to know: any disk.

A name that is only strange may come from anybody's server: it is refused, never repaired, for two names
repaired alike would be one file.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_file_name", "split_path"]

_FORBIDDEN: Final = frozenset('/\\:*?"<>|')
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE | re.DOTALL)
"""What Windows takes for a device, whatever follows the dot."""
_LONGEST: Final = 255
"""Bytes of a name, in UTF-8."""


def is_file_name(name: str) -> bool:
    """Whether a file or a folder can have this name on every system."""
    return (
        bool(name)
        and name == name.strip(" ").rstrip(".")
        and name not in {".", ".."}
        and name.isprintable()
        and _FORBIDDEN.isdisjoint(name)
        and not _DEVICES.fullmatch(name)
        and len(name.encode("utf-8", "surrogatepass")) <= _LONGEST
    )


def split_path(path: str) -> tuple[str, ...] | None:
    """Split a path within a folder at its slashes, of either kind.

    Returns:
        Its names; `None` where one of them is none, as in a path that leads out of the folder.
    """
    names = tuple(path.replace("\\", "/").split("/"))
    return names if all(is_file_name(name) for name in names) else None
