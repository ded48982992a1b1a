"""The file of known deviations: what a server is known not to do, and why.

    [known]
    "chat.n" = "one answer at a time is all that this engine can do"

Knows: TOML, and that a case which does not exist is a mistake in the file.
Refuses to know: what the cases do.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

__all__ = ["BadKnownFile", "read_known"]


class BadKnownFile(ValueError):
    """The file cannot be read as what it should be; says where and why."""


def read_known(path: Path, ids: Collection[str]) -> Mapping[str, str]:
    """Read a file of known deviations.

    Args:
        path: The file.
        ids: Of all cases.

    Returns:
        The reason of each deviation, by the case's id.

    Raises:
        BadKnownFile: It is no such file, names a case that there is not, or gives no reason for one.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadKnownFile(f"{path}: {error}") from error
    known = document.get("known")
    if not isinstance(known, dict) or set(document) != {"known"}:
        raise BadKnownFile(f"{path}: expected one table, [known]")
    for name, reason in known.items():
        if name not in ids:
            raise BadKnownFile(f"{path}: known: there is no case {name!r}")
        if not isinstance(reason, str) or not reason.strip():
            raise BadKnownFile(f"{path}: known.{name!r}: expected a reason, got {reason!r}")
    return known
