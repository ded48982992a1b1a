"""Linux' control groups: the folders whose files bound what this process may use.

Knows: both versions, and where they are mounted. Refuses to know: which files are in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["iter_groups", "read_file"]


def iter_groups(proc: Path, cgroup: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of this process's control groups and of all groups above them, each with its version.

    A group's limit holds for those below it. The path is the host's inside some containers, where the
    group's own files lie at the mount's root: folders may not exist.
    """
    for line in read_file(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # version 2: one hierarchy for everything, below `unified` in a hybrid system
            mounts = (cgroup, cgroup / "unified")
        elif controller in controllers.split(","):
            mounts = (cgroup / controllers, cgroup / controller)
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for level in (group, *group.parents):
                yield mount / level, 1 if controllers else 2


def read_file(path: Path) -> str:
    """A file's text; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
