"""Which of the files that a place lists are a model's, and where in its folder each belongs.

Knows: that a model is the folder that has `genai_config.json`, wherever it lies; that a folder below with one
of its own is another model; and which names are no reason to write anything.
Refuses to know: how files are listed and fetched, and their sizes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from foundry_proto.paths import split_path
from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.folder import CONFIG_FILE

__all__ = ["check_names", "files_below", "folder_asked", "model_folders"]

_SHOWN: Final = 8
"""The most names that an error tells."""


def folder_asked(path: str, *, where: str) -> str:
    """A request's `Path` as a folder's name with slashes, without one at its end; empty for the top.

    Args:
        path: As it was sent.
        where: What errors call the place.

    Raises:
        DownloadFailed: It leads elsewhere, or no folder can have this name.
    """
    asked = path.removesuffix("/")
    names = split_path(asked) if asked else ()
    if names is None:
        raise DownloadFailed(f"Path: expected a path below {where}, got {path[:200]}")
    return "/".join(names)


def check_names(names: Collection[str], *, where: str) -> None:
    """Refuse a list that has a name which leads out of a folder, whether that file is wanted or not.

    Raises:
        DownloadFailed: It has one.
    """
    for name in names:
        slashed = name.replace("\\", "/")
        if slashed.startswith("/") or ".." in slashed.split("/") or re.match("[A-Za-z]:", slashed):
            raise DownloadFailed(f"{where}: expected names within a folder, got {name[:200]!r}")


def model_folders(names: Collection[str], below: str, *, where: str) -> Sequence[str]:
    """The folders that are models, of those that lie highest: often one, which may be the top itself.

    Args:
        names: All files of a place.
        below: The folder to look in; it may be a model itself.
        where: What errors call the place.

    Returns:
        Their names, `v2` before `v10`.

    Raises:
        DownloadFailed: There is none.
    """
    inside = f"{below}/" if below else ""
    found = {
        name.removesuffix(CONFIG_FILE).removesuffix("/")
        for name in names
        if name.startswith(inside) and name.rpartition("/")[2] == CONFIG_FILE
    }
    if not found:
        shown = sorted(name for name in names if name.startswith(inside))[:_SHOWN]
        there = f" among {', '.join(shown)}, …" if shown else ": there are no files"
        at = f"{where}, {below}" if below else where
        raise DownloadFailed(f"{at}: expected a folder with {CONFIG_FILE}, got none{there}")
    highest = min(map(_depth, found))
    return sorted((folder for folder in found if _depth(folder) == highest), key=_natural)


def files_below(names: Collection[str], folder: str) -> Mapping[str, str]:
    """A model's files: all in its folder and below, but hidden ones and those of models below.

    Args:
        names: All files of a place.
        folder: The model's folder there.

    Returns:
        For each name its path in the model's own folder.
    """
    inside = f"{folder}/" if folder else ""
    paths = {name: name.removeprefix(inside) for name in names if name.startswith(inside)}
    others = {
        path.removesuffix(CONFIG_FILE)
        for path in paths.values()
        if path.rpartition("/")[2] == CONFIG_FILE and path != CONFIG_FILE
    }
    return {
        name: path
        for name, path in paths.items()
        if not any(part.startswith(".") for part in path.split("/")) and others.isdisjoint(_above(path))
    }


def _above(path: str) -> set[str]:
    """The folders that a file lies in, each with a slash at its end."""
    parts = path.split("/")
    return {"/".join(parts[:count]) + "/" for count in range(1, len(parts))}


def _depth(folder: str) -> int:
    return folder.count("/") + 1 if folder else 0


def _natural(name: str) -> list[tuple[int, str]]:
    """Orders numbers by their value, as in `v2`, `v10`."""
    return [
        (int(part), "") if part.isascii() and part.isdecimal() and len(part) < 10 else (-1, part)
        for part in re.split(r"(\d+)", name)
    ]
