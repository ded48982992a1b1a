"""What the commands say in words, and what options several of them share.

Knows: where answers and complaints go, and with which status a command ends.
Refuses to know: any command.

Answers go to standard output as they come; all else goes to standard error, so that output can be piped.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Mapping
from typing import IO, Any, Final, NoReturn

import click

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.settings import BadSettings
from foundry_serve.config import BadConfig
from foundry_serve.config_sources import Loaded, load_config

__all__ = [
    "INTERRUPTED",
    "CommandFailed",
    "NumberRange",
    "configured",
    "fail",
    "json_option",
    "models_on_disk",
    "print_json",
    "runtime_option",
    "speak_utf8",
    "warn",
]

INTERRUPTED: Final = 130
"""The exit status of a command that Ctrl-C ended, as shells have it."""

runtime_option = click.option(
    "--runtime",
    type=click.Choice(["asyncio", "trio"]),
    default="asyncio",
    show_default=True,
    help="The event loop to run on.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class NumberRange(click.FloatRange):
    """A number in a range; click's own takes NaN, which is neither below nor above it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read an option's value; see `click.ParamType.convert`."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def speak_utf8() -> None:
    """Write UTF-8 to pipes and files whatever the user's language says, and fail on no character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def warn(message: str) -> None:
    """Say what the user should know beside the answer."""
    click.echo(f"foundry: {message}", err=True)


class CommandFailed(click.ClickException):
    """Ends the command with status 1; what it says is printed when all else has left the terminal."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print why; see `click.ClickException.show`."""
        click.echo(self.message, file=file, err=file is None)


def fail(message: str) -> NoReturn:
    """Say why the command can't go on, and end it with status 1."""
    raise CommandFailed(f"foundry: {message}")


def print_json(value: object) -> None:
    """Answer with JSON, for programs."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def configured(flags: Mapping[str, object] | None = None) -> Loaded:
    """The user's configuration; where it cannot be used, the command ends with status 1.

    Args:
        flags: What the command line says of it, by the setting's name.
    """
    try:
        return load_config(flags)
    except (BadConfig, BadSettings) as error:
        fail(str(error))


def models_on_disk() -> ModelDirectory:
    """The user's models."""
    return configured().directory
