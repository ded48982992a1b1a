"""What the terminal is told: progress, errors, and what options several commands share.

Answers go to standard output as they come; all else goes to standard error, so that output can be piped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["NumberRange", "Runtime", "fail", "progress_bar", "runtime_option", "stderr"]

Runtime = Literal["asyncio", "trio"]

stderr = Console(stderr=True, highlight=False)

runtime_option = click.option(
    "--runtime",
    type=click.Choice(["asyncio", "trio"]),
    default="asyncio",
    show_default=True,
    help="The event loop to run on.",
)


class NumberRange(click.FloatRange):
    """A number in a range; click's own takes NaN, which is neither below nor above it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read an option's value; see `click.ParamType.convert`."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def fail(message: str) -> NoReturn:
    """Say why the command can't go on, and end it with status 1."""
    click.echo(f"foundry: {message}", err=True)
    raise SystemExit(1)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """Show a bar; gives the function that moves it: (what is worked on, fraction done from 0 to 1)."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("", total=1.0)
        current = ""

        def move(what: str, fraction: float) -> None:
            nonlocal current
            if what != current:
                current = what
                progress.reset(task, description=what)
            progress.update(task, completed=fraction)

        yield move
