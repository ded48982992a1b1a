"""What is drawn: progress bars and tables. Everything in words stands in `terminal`.

Knows: that a table which nobody looks at is for programs, so that nothing in it is cut, wrapped or coloured.
Refuses to know: what the tables are of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import click
from rich.box import Box
from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from foundry_serve.cli.course import Course

__all__ = ["progress_bar", "show_table", "stderr"]

stderr = Console(stderr=True, highlight=False)

_stdout: Final = Console(highlight=False, width=10_000)
"""Wider than any table, whatever the terminal is: what does not fit is for the terminal to wrap."""
_LINES: Final = Box("    \n    \n────\n    \n────\n    \n    \n    \n")
"""A line below the titles and between groups, and no others."""


class _Bar(Progress):
    """Shows a course as it is when it is drawn, however often it is told of.

    Leaves room at the line's end: a terminal writes `^C` there, and a line that it fills stays behind.
    """

    def __init__(self, course: Course) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}% {task.fields[facts]}"),
        )
        self._course = course
        super().__init__(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
        self.add_task("", total=1.0, facts="")

    def get_renderable(self) -> RenderableType:
        course = self._course
        facts = " ".join(filter(None, (course.amount(), course.speed(), course.left())))
        for task in self.task_ids:  # of which there is none while this object is made
            self.update(task, description=course.what, completed=course.fraction, facts=facts)
        return Constrain(super().get_renderable(), max(stderr.width - 3, 1))


@contextmanager
def progress_bar(clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[str, float], None]]:
    """Show how far a work is: in a terminal a bar, elsewhere a line every few seconds.

    Args:
        clock: Seconds, on a clock that runs evenly.

    Returns:
        The function to tell of it: (what is worked on, fraction of all that is done).
    """
    course = Course()
    next_line = clock() + _FIRST_LINE

    def tell(what: str, fraction: float) -> None:
        nonlocal next_line
        now = clock()
        course.told(now, what, fraction)
        if not stderr.is_terminal and now >= next_line:
            next_line = now + _LINES_EVERY
            click.echo(str(course), err=True)

    with _Bar(course):
        yield tell


_FIRST_LINE: Final = 1.0
"""Seconds until a line is worth it."""
_LINES_EVERY: Final = 10.0


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
