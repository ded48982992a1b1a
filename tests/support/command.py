"""The `foundry` command in processes of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click.testing

from foundry_serve.cli.root import foundry as root

__all__ = ["FOUNDRY", "call", "environment", "foundry", "serving"]

FOUNDRY = (sys.executable, "-m", "foundry_serve")


def environment(home: Path) -> dict[str, str]:
    """The variables of a command for this home."""
    return {**os.environ, "FOUNDRY_HOME": str(home), "PYTHONUTF8": "1", "PYTHONWARNINGS": "error"}


def foundry(home: Path, *arguments: object, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which is when all who have its pipes are gone.

    Args:
        home: Its `FOUNDRY_HOME`.
        arguments: What follows `foundry`.
        given: Its standard input.
        more: Further variables.
    """
    command = [*FOUNDRY, *map(str, arguments)]
    return subprocess.run(
        command,
        env={**environment(home), **more},
        input=given,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


def call(home: Path, *arguments: object, given: str = "", **more: str) -> click.testing.Result:
    """Run a command in this process, which takes a hundredth of the time; arguments as for `foundry`."""
    variables = {"FOUNDRY_HOME": str(home), "FORCE_COLOR": None, "COLUMNS": None, **more}
    return click.testing.CliRunner().invoke(
        root, [*map(str, arguments)], input=given, env=variables, catch_exceptions=False
    )


@contextmanager
def serving(
    home: Path, *options: object, program: Sequence[str] = FOUNDRY
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [*program, "serve", "--port", "0", *map(str, options)]
    with subprocess.Popen(
        command, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            announced = re.fullmatch(
                r"Serving on http://127\.0\.0\.1:(\d+)/ \(chat at /v1/chat/completions\); Ctrl-C stops\.\n",
                line,
            )
            assert announced, line
            yield server, int(announced[1])
        finally:
            server.kill()
