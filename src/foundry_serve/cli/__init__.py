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
        # Only now, so that what is absent can be told; commands import what they need when they are called.
        from foundry_serve.cli.root import foundry  # noqa: PLC0415
        from foundry_serve.cli.terminal import speak_utf8  # noqa: PLC0415

        speak_utf8()
        foundry(prog_name="foundry")
    except OSError as error:
        if error.filename is None:  # nothing that a user could look at: a mistake of the program's
            raise
        from foundry_serve.words import words_of  # noqa: PLC0415 - as above

        sys.exit(f"foundry: {words_of(error)}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("foundry_"):
            raise
        sys.exit(
            f"foundry: the package {error.name} is missing; install what the command needs with\n"
            "    pip install 'foundry-proto[all]'"
        )
