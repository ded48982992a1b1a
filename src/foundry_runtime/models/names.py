"""How models are called: ids, versions and aliases.

Knows: that an id is `NAME:VERSION`, that letter case never counts, and by what other names an id is meant.
Refuses to know: which models there are.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "DEFAULT_ALIAS",
    "DEFAULT_ID",
    "alias_of",
    "canonical_id",
    "is_meant",
    "version_of",
    "versioned_id",
]

DEFAULT_ID: Final = "smollm2-135m-instruct-generic-cpu:1"
"""The model that is fetched when there is none."""
DEFAULT_ALIAS: Final = "smollm2-135m"


def canonical_id(name: str) -> str:
    """The id that a folder's `Name` stands for: without a version it is version 0."""
    return name if ":" in name else f"{name}:0"


def versioned_id(name: str) -> str:
    """The id that a user gives a model: version 1 if they name none.

    Raises:
        ValueError: What stands behind the colon is no version.
    """
    base, version = _split(name)
    if version is not None:
        return name
    if ":" in base:
        raise ValueError(f"model id: expected NAME or NAME:NUMBER, got {name}")
    return f"{name}:1"


def alias_of(model_id: str) -> str:
    """The short name of a model: the default model's own, and for any other its id without the version."""
    base, _ = _split(model_id)
    return DEFAULT_ALIAS if base.casefold() == _split(DEFAULT_ID)[0] else base


def version_of(model_id: str) -> int:
    """The version as a number; -1 where the id has none, or one that is no number."""
    return -1 if (version := _split(model_id)[1]) is None else version


def is_meant(model_id: str, name: str) -> bool:
    """Whether a user who writes `name` may mean this model: by its id, its id without the version, or its
    alias with or without the version, in any letter case."""
    base, version = _split(name)
    its_base, its_version = _split(model_id)
    return base.casefold() in {its_base.casefold(), alias_of(model_id).casefold()} and version in {
        None,
        its_version,
    }


def _split(name: str) -> tuple[str, int | None]:
    base, colon, version = name.rpartition(":")
    if colon and version.isascii() and version.isdecimal() and len(version) < 10:
        return base, int(version)
    return name, None
