"""What is told of a long work: true from its first moment on, in a terminal and elsewhere."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from foundry_runtime.download.work import Share, Work
from foundry_serve.cli import drawing
from foundry_serve.cli.course import Course, shown_bytes, shown_time

MB = 1024 * 1024


def test_what_was_there_before_was_not_fast() -> None:
    course = Course()
    course.told(0.0, "model.onnx.data", Share(600 * MB, 1000 * MB))
    assert str(course) == "model.onnx.data: 60%, 0.6 of 1.0 GB"
    course.told(0.5, "model.onnx.data", Share(601 * MB, 1000 * MB))
    assert course.speed() == ""  # too early
    course.told(2.0, "model.onnx.data", Share(620 * MB, 1000 * MB))
    assert str(course) == "model.onnx.data: 62%, 0.6 of 1.0 GB, 10.0 MB/s, 0:38 left"


def test_only_the_last_seconds_count_for_the_speed() -> None:
    course = Course()
    for second in range(61):
        done = min(second, 30) * 100 * MB  # after 30 seconds nothing comes any more
        course.told(float(second), "x", Share(done, 6000 * MB))
    assert (course.speed(), course.left()) == ("0 B/s", "")
    course.told(61.0, "x", Share(3010 * MB, 6000 * MB))
    assert course.speed() == "1.0 MB/s"


def test_without_bytes_there_is_a_time_and_no_speed() -> None:
    course = Course()
    course.told(0.0, "importing x", 0.0)
    course.told(10.0, "importing x", 0.5)
    assert str(course) == "importing x: 50%, 0:10 left"


def test_another_part_of_the_work_has_a_speed_of_its_own() -> None:
    course = Course()
    course.told(0.0, "wheel", Share(0, 100 * MB, 0.0))
    course.told(5.0, "wheel", Share(100 * MB, 100 * MB, 0.9))
    course.told(6.0, "importing", 0.9)
    assert str(course) == "importing: 90%"
    assert Course().left() == ""


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (7.8 * MB, "7.8 MB"),
        (5e15, "4547.5 TB"),
    ],
)
def test_bytes_are_shown_in_the_unit_that_fits(count: float, shown: str) -> None:
    assert shown_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (9.4, "0:09"), (312, "5:12"), (3723, "1:02:03"), (1e12, "99:59:59")]
)
def test_times_are_shown_in_minutes_and_hours(seconds: float, shown: str) -> None:
    assert shown_time(seconds) == shown


def test_a_share_stays_one_in_a_part_of_a_work() -> None:
    told: list[tuple[str, float]] = []
    work = Work(lambda what, fraction: told.append((what, fraction)))
    with work.part(0.0, 0.5):
        work.report("wheel", Share(30, 60))
    ((_, fraction),) = told
    assert isinstance(fraction, Share)
    assert (float(fraction), fraction.done, fraction.total) == (0.25, 30, 60)
    assert float(Share(0, 0)) == 1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_where_there_is_no_terminal_a_line_comes_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, clock = io.StringIO(), Clock()
    monkeypatch.setattr(drawing, "stderr", Console(file=shown))
    with drawing.progress_bar(clock) as tell:
        for tenth in range(400):
            clock.now = tenth / 10
            tell("model.onnx.data", Share(tenth * MB, 400 * MB))
    assert shown.getvalue() == ""
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "model.onnx.data: 2%, 10.0 of 400.0 MB, 10.0 MB/s, 0:39 left",
        "model.onnx.data: 28%, 110.0 of 400.0 MB, 10.0 MB/s, 0:29 left",
        "model.onnx.data: 52%, 210.0 of 400.0 MB, 10.0 MB/s, 0:19 left",
        "model.onnx.data: 78%, 310.0 of 400.0 MB, 10.0 MB/s, 0:09 left",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_terminal_shows_a_bar_with_all_of_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    shown, clock = io.StringIO(), Clock()
    monkeypatch.setattr(
        drawing, "stderr", Console(file=shown, force_terminal=True, width=width, highlight=False)
    )
    with drawing.progress_bar(clock) as tell:
        for second in range(9):
            clock.now = float(second)
            tell("v3/model.onnx.data", Share(second * 10 * MB, 100 * MB))
    lines = [Text.from_ansi(line).plain for line in re.split("[\r\n]", shown.getvalue())]
    assert max(map(cell_len, lines)) <= width - 3
    if width >= 80:
        last = [line for line in lines if line.strip()][-1]
        assert re.fullmatch(r"v3/model.onnx.data ━.* 80% 80.0 of 100.0 MB 10.0 MB/s 0:02\s*", last)
