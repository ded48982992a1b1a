"""What catches every exception says whose border it is, and what a tool shall pass over says why."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
WHOLE: Final = {"Exception", "BaseException"}
"""Classes of exceptions that are too wide to say what is expected."""
REASON: Final = re.compile(r"# (noqa: [A-Z0-9]+(, [A-Z0-9]+)*|type: ignore\[[^]]+\]) +(- |\()[\w`]")
"""What has a tool pass over a line, and a word why."""


def found_in(look: Callable[[str], list[int]], *folders: str) -> dict[str, list[int]]:
    """What is found in all files of these folders: the lines' numbers, by file."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = {path.relative_to(ROOT).as_posix(): look(path.read_text(encoding="utf-8")) for path in files}
    assert found
    return {place: numbers for place, numbers in found.items() if numbers}


def unexplained(text: str) -> list[int]:
    """The lines that catch whatever there is, end it there, and do not say whose border it is."""
    lines = text.splitlines()
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ExceptHandler(type=kind, body=body) if kind is None or ast.unparse(kind) in WHOLE:
                again = isinstance(body[-1], ast.Raise) and body[-1].exc is None
                above, own = lines[node.lineno - 2], lines[node.lineno - 1 : body[0].lineno - 1]
                if not again and not above.lstrip().startswith("# ") and not any("# " in one for one in own):
                    found.append(node.lineno)
            case _:
                pass
    return found


def test_who_catches_whatever_there_is_raises_it_again_or_says_why() -> None:
    assert found_in(unexplained, "src") == {}


def test_a_border_without_a_word_is_found() -> None:
    caught = "try:\n    f()\nexcept Exception{}:\n    {}\n"
    assert unexplained(caught.format("", "g()")) == [3]
    assert unexplained(caught.format(" as error", "raise Mine from error")) == [3]
    assert unexplained(caught.format("", "raise")) == []
    assert unexplained(caught.format(":  # whatever a handler fails by", "g()").replace("::", ":")) == []


def silenced(text: str) -> list[int]:
    """The lines that a tool shall pass over, and that neither say why nor stand below who does."""
    lines = text.splitlines()
    found = []
    explained = False
    for number, line in enumerate(lines, 1):
        above = number > 1 and lines[number - 2].lstrip().startswith("# ")
        if "# noqa" in line or "# type: ignore" in line:
            # What stands above the first of several lines counts for them all.
            explained = explained or above or REASON.search(line) is not None
            if not explained:
                found.append(number)
        else:
            explained = False
    return found


def test_a_check_that_is_switched_off_is_so_for_a_reason() -> None:
    assert found_in(silenced, "src", "benchmarks", "examples") == {}


def test_a_check_that_is_switched_off_without_a_word_is_found() -> None:
    assert silenced("a = 1  # noqa: E501\n") == [1]
    assert silenced("a = 1  # type: ignore[misc]\nb = 2  # noqa\n") == [1, 2]
    assert silenced("a = 1  # noqa: E501 - a table\nb = 2  # noqa: E501\n\nc = 3  # noqa: E501\n") == [4]
    assert silenced("# A table.\na = 1  # noqa: E501, S603\n") == []
    assert silenced("a = 1  # noqa: E501 (a table)\n") == []
