"""What is drawn: progress bars and tables. Everything in words stands in `terminal`.

Knows: that a table which nobody looks at is for programs, so that nothing in it is cut, wrapped or coloured.
Refuses to know: what the tables are of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import click
from rich.box import Box
from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

__all__ = ["progress_bar", "show_table", "stderr"]

stderr = Console(stderr=True, highlight=False)

_stdout: Final = Console(highlight=False, width=10_000)
"""Wider than any table, whatever the terminal is: what does not fit is for the terminal to wrap."""
_LINES: Final = Box("    \n    \n────\n    \n────\n    \n    \n    \n")
"""A line below the titles and between groups, and no others."""


class _Bar(Progress):
    """Leaves room at the line's end: a terminal writes `^C` there, and a line that it fills stays behind."""

    def get_renderable(self) -> RenderableType:
        return Constrain(super().get_renderable(), max(stderr.width - 3, 1))


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """Show a bar; gives the function that moves it: (what is worked on, fraction of all that is done)."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with _Bar(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda what, fraction: progress.update(task, description=what, completed=fraction)


def show_table(
    titles: Sequence[str],
    groups: Iterable[Iterable[Sequence[str]]],
    *,
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """Show a table on standard output. No cell is ever broken: what stands there can be copied.

    Args:
        titles: What stands above the columns.
        groups: The rows, cell by cell, in groups with a line between them.
        right: Titles of the columns whose cells stand on the right.
        spare: Titles of the columns that are left out, in this order, where a terminal is too narrow.
    """
    rows = [[*group] for group in groups]
    left_out: list[str] = []
    table = _table(titles, rows, right, left_out)
    for title in spare if _stdout.is_terminal else ():
        if _stdout.measure(table).maximum <= Console().width:
            break
        left_out.append(title)
        table = _table(titles, rows, right, left_out)
    with _stdout.capture() as drawn:
        _stdout.print(table)
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())


def _table(
    titles: Sequence[str],
    groups: Iterable[Iterable[Sequence[str]]],
    right: Sequence[str],
    left_out: Sequence[str],
) -> Table:
    shown = [number for number, title in enumerate(titles) if title not in left_out]
    table = Table(box=_LINES, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number in shown:
        justify: Literal["left", "right"] = "right" if titles[number] in right else "left"
        table.add_column(Text(titles[number]), justify=justify, no_wrap=True)
    for group in groups:
        for row in group:
            table.add_row(*(Text(row[number]) for number in shown))
        table.add_section()
    return table
