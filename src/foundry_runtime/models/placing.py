"""How a whole folder takes its place, so that nobody ever sees half of one.

Knows: that a directory's rename is what makes a model exist, and what a killed process may leave between two
renames. Refuses to know: what is in the folder.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from foundry_runtime.models.folder import IDENTITY_FILE
from foundry_runtime.platform import flush_file, flush_folder

__all__ = ["check_place", "put_in_place", "set_aside"]


def check_place(target: Path) -> None:
    """Make sure that a folder can take this place later; what a killed process has left there is put back.

    One call for a target at a time: the caller sees to that.

    Args:
        target: A place that is free, or has an empty directory or a model folder, which may be replaced.

    Raises:
        FileExistsError: Something else is there.
        OSError: The directory above cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    replaced = set_aside(target)
    if replaced.exists() and not target.exists():
        # Between the two renames of `put_in_place`: the new folder did not make it, the old one has.
        replaced.rename(target)
    if target.exists() and not _is_replaceable(target):
        raise FileExistsError(errno.EEXIST, "not a model folder, so it is not replaced", str(target))


def put_in_place(folder: Path, target: Path) -> None:
    """Move a folder to its place; what was there before is there until then, and goes.

    All of it is brought to the disk first: after a power cut a renamed folder must not hold empty files.

    Args:
        folder: On the same file system.
        target: As `check_place` left it.

    Raises:
        OSError: It cannot be moved: then `target` is as it was, and `folder` too.
    """
    _flush(folder)
    replaced = set_aside(target)
    if replaced.exists():
        shutil.rmtree(replaced)
    if target.exists():
        target.rename(replaced)
    try:
        folder.rename(target)
    except BaseException:
        if replaced.exists():
            replaced.rename(target)
        raise
    flush_folder(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def set_aside(target: Path) -> Path:
    """Where what is replaced at a place waits for the moment that takes; hidden, beside it."""
    return target.with_name(f".{target.name}.replaced")


def _is_replaceable(target: Path) -> bool:
    """Whether a directory can be deleted without regret: a slip in a path must not cost someone's files."""
    return target.is_dir() and ((target / IDENTITY_FILE).is_file() or not any(target.iterdir()))


def _flush(folder: Path) -> None:
    for path, _, names in os.walk(folder):
        for name in names:
            # Who may not write a file has not: it is another name of one that was there before.
            with suppress(PermissionError), Path(path, name).open("r+b") as file:
                flush_file(file.fileno())
        flush_folder(Path(path))
