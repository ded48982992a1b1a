"""What a download wants: files with their sizes, and hashes where their source publishes them.

Knows: which names a model's folder may have, and which of them get in each other's way.
Refuses to know: where the files are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import field, frozen

from foundry_proto.paths import split_path

__all__ = ["BadPlan", "Plan", "WantedFile"]

_MOST_FILES: Final = 100_000


class BadPlan(ValueError):
    """These files cannot lie in one folder, or are no files; the text names the one to blame."""


def _slashed(path: str) -> str:
    return path.replace("\\", "/")


def _lower(text: str | None) -> str | None:
    return text.lower() if text else None


@frozen(kw_only=True)
class WantedFile:
    """A file.

    Raises:
        BadPlan: Its path leads out of the folder, or its size or hash is none.
    """

    path: str = field(converter=_slashed)
    """Where it belongs in the folder, with slashes."""
    size: int
    """Bytes."""
    sha256: str | None = field(default=None, converter=_lower)
    """In hexadecimal, if the source publishes it."""
    tag: str | None = None
    """What tells this content from another of the same path and size, such as an `ETag`."""

    def __attrs_post_init__(self) -> None:
        if split_path(self.path) is None:
            raise BadPlan(f"expected a path within a folder, got {self.path[:200]!r}")
        if self.size < 0:
            raise BadPlan(f"{self.path}: expected a size, got {self.size}")
        if self.sha256 is not None and not _is_sha256(self.sha256):
            raise BadPlan(f"{self.path}: expected a SHA-256 in hexadecimal, got {self.sha256[:80]!r}")


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _all(files: Iterable[WantedFile]) -> tuple[WantedFile, ...]:
    return tuple(files)


@frozen
class Plan:
    """All files of a download.

    Args:
        files: In any order.

    Raises:
        BadPlan: Two have one path in some letter case, or one is a folder of another's.
    """

    files: tuple[WantedFile, ...] = field(converter=_all)

    def __attrs_post_init__(self) -> None:
        if len(self.files) > _MOST_FILES:
            raise BadPlan(f"expected at most {_MOST_FILES} files, got {len(self.files)}")
        paths: set[str] = set()
        for file in self.files:
            if file.path.casefold() in paths:
                raise BadPlan(f"{file.path}: expected this path once, got it twice")
            paths.add(file.path.casefold())
        for file in self.files:
            if (folder := next((one for one in _folders(file.path) if one in paths), None)) is not None:
                raise BadPlan(f"{file.path}: expected a folder {folder}, got a file of this name, too")

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(file.size for file in self.files)


def _folders(path: str) -> Iterable[str]:
    """The folders above a file, as they are compared."""
    names = path.casefold().split("/")
    return ("/".join(names[:count]) for count in range(1, len(names)))
