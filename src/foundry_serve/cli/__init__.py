"""The `foundry` command: prints, and decides nothing.

This module imports nothing outside the standard library, so that the installed script can say which extra is
missing instead of failing with a traceback.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; the installed `foundry` script calls this."""
    try:
        from foundry_serve.cli.root import foundry  # noqa: PLC0415 - only now, so that its absence can be told
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("foundry_"):
            raise
        sys.exit(
            f"foundry: the package {error.name} is missing; install what the command needs with\n"
            "    pip install 'foundry-proto[all]'"
        )
    foundry()
