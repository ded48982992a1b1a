"""How an error of the operating system is told in one line.

Knows: that a line names what was refused, and why.
Refuses to know: where the line goes.
"""

from __future__ import annotations

__all__ = ["words_of"]


def words_of(error: OSError) -> str:
    """What the system has refused: of what, where that is a file, and why."""
    why = error.strerror or str(error)
    return why if error.filename is None else f"{error.filename}: {why}"
