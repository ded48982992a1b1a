"""What is drawn: progress bars and tables. Everything in words stands in `terminal`.

Knows: that a table which nobody looks at is for programs, so that nothing in it is cut, wrapped or coloured.
Refuses to know: what the tables are of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

__all__ = ["progress_bar", "show_table", "stderr"]

stderr = Console(stderr=True, highlight=False)
_stdout: Final = Console(highlight=False)

_ANY_WIDTH: Final = 10_000
"""Columns of what is no terminal."""


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


def show_table(
    titles: Sequence[str], groups: Iterable[Iterable[Sequence[str]]], *, right: Sequence[str] = ()
) -> None:
    """Show a table on standard output.

    Args:
        titles: What stands above the columns.
        groups: The rows, cell by cell, in groups with a line between them.
        right: Titles of the columns whose cells stand on the right.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in titles:
        # An id that is broken in two cannot be copied: the other columns give way.
        table.add_column(Text(title), justify="right" if title in right else "left", overflow="fold")
    for group in groups:
        for row in group:
            table.add_row(*map(Text, row))
        table.add_section()
    _stdout.print(table, width=None if _stdout.is_terminal else _ANY_WIDTH)
