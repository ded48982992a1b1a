"""How models go: at once, whole, and never while one is on its way.

Knows: that a folder is no model any more as soon as it has another name; what belongs to a download; and
which files of a home this program has made.
Refuses to know: which models are in memory, and who is asked first.

On Windows a folder in use cannot be renamed, so that it stays whole there.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.placing import set_aside
from foundry_runtime.models.published.kept import KEPT_FILE
from foundry_runtime.models.registered import REGISTERED_FILE
from foundry_runtime.models.settings import SETTINGS_FILE
from foundry_runtime.platform import take_lock

__all__ = ["InUse", "empty_home", "remove_model"]

_LEAVING: Final = ".removed-"
"""How a folder is called that is no model any more; names with a dot are passed over."""
_OURS: Final = (
    SETTINGS_FILE,
    f"{REGISTERED_FILE}*",
    f"cache/{KEPT_FILE}",
    "run/service.json",
    "logs/service.log*",
)
"""Files of a home, beside the models and what belongs to them."""
_LOCKS: Final = ("*.lock", "cache/*.lock", "run/*.lock")


class InUse(OSError):
    """It is not removed, since somebody is at it; the text says what."""


def remove_model(directory: ModelDirectory, model_id: str, folder: Path | None) -> None:
    """Take a model away, and whatever of a download of it is not finished.

    Args:
        directory: Where it is.
        model_id: Its id.
        folder: Its folder; `None` where there is only an unfinished download.

    Raises:
        InUse: It is being downloaded.
        OSError: Its files cannot be removed.
    """
    directory.downloads.mkdir(parents=True, exist_ok=True)
    with _locked(directory.lock_for(model_id), f"{model_id} is being downloaded"):
        if folder is not None:
            _remove_folder(folder, directory.models)
            shutil.rmtree(set_aside(folder), ignore_errors=True)  # it would come back
            _remove_empty(folder.parent, directory.models)
        unfinished = directory.unfinished(model_id)
        if unfinished.exists():
            shutil.rmtree(unfinished)
    _remove_lock(directory.lock_for(model_id))
    _remove_empty(directory.downloads, directory.home)


def empty_home(directory: ModelDirectory) -> Sequence[Path]:
    """Take away all models, and whatever else this program has put into a home.

    No service of the home may run: the caller sees to that.

    Returns:
        What is left in the home, since somebody else has put it there.

    Raises:
        InUse: A model is being downloaded; all is as it was.
        OSError: Something cannot be removed; the rest is gone, or still there.
    """
    home = directory.home
    with ExitStack() as stack:
        for lock in sorted(directory.downloads.glob("*.lock")):
            name = lock.name.removesuffix(".lock")
            stack.enter_context(_locked(lock, f"{name} is being downloaded"))
        for entry in directory.entries():
            _remove_folder(entry.path, directory.models)
            _remove_empty(entry.path.parent, directory.models)
        for pattern in ("*", "*/*"):
            for leftover in directory.models.glob(set_aside(Path(pattern)).as_posix()):
                shutil.rmtree(leftover)
                _remove_empty(leftover.parent, directory.models)
        for unfinished in directory.downloads.glob("*/"):
            shutil.rmtree(unfinished)
    for path in (path for pattern in _OURS for path in home.glob(pattern)):
        path.unlink()
    for path in (*directory.downloads.glob("*.lock"), *(one for name in _LOCKS for one in home.glob(name))):
        _remove_lock(path)
    for place in (directory.downloads, directory.models, home / "cache", home / "run", home / "logs"):
        _remove_empty(place, (home if place.is_relative_to(home) else directory.models).parent)
    return sorted(path for path in home.rglob("*") if not path.is_dir())


@contextmanager
def _locked(lock: Path, otherwise: str) -> Iterator[None]:
    """Let no download begin meanwhile.

    Raises:
        InUse: One is under way.
    """
    file = take_lock(lock)
    if file is None:
        raise InUse(otherwise)
    with file:
        yield


def _remove_lock(path: Path) -> None:
    """Delete a file that is there for its lock alone, unless somebody has that.

    Only who has the lock may, and on Windows nobody while the file is open.
    """
    file = take_lock(path)
    if file is None:
        return
    with file:
        try:
            path.unlink()
        except PermissionError:
            is_gone = False
        else:
            is_gone = True
    if not is_gone:
        with suppress(PermissionError):
            path.unlink(missing_ok=True)


def _remove_folder(folder: Path, models: Path) -> None:
    """Have a model be gone at once, and its files a moment later."""
    for leftover in models.glob(f"{_LEAVING}*"):  # of a removal that was interrupted
        shutil.rmtree(leftover)
    if folder.is_symlink():  # what it leads to is somebody else's
        folder.unlink()
        return
    leaving = models / f"{_LEAVING}{secrets.token_hex(8)}"
    folder.rename(leaving)
    shutil.rmtree(leaving)


def _remove_empty(folder: Path, end: Path) -> None:
    """Remove folders that nothing is in, from one up to another, which stays."""
    while folder != end and folder.is_relative_to(end):
        if folder.exists():
            if any(folder.iterdir()):
                return
            folder.rmdir()
        folder = folder.parent
