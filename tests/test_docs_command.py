"""`docs/command.md` has every command with its arguments, its options and its further names."""

from __future__ import annotations

import re
from typing import Final

import click
import pytest

from tests.support.command_tree import all_commands, command_named
from tests.support.pages import ROOT, table

ROW: Final = re.compile(
    r"`foundry (?P<words>[a-z ]+?)(?P<arguments>( \[?[A-Z]+\]?)*)`( \(`(?P<alias>[a-z]+)`\))?"
)
ROWS: Final = table(ROOT / "docs" / "command.md", "command")
COMMANDS: Final = dict(all_commands())


def read(cell: str) -> re.Match[str]:
    row = ROW.fullmatch(cell)
    assert row, cell
    return row


def test_every_command_has_a_row() -> None:
    assert sorted(read(row[0])["words"] for row in ROWS) == sorted(COMMANDS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: read(row[0])["words"])
def test_a_row_has_what_the_command_takes(row: list[str]) -> None:
    named, (_, what, options) = read(row[0]), row
    command = COMMANDS[named["words"]]
    assert what
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    names = [one.human_readable_name.upper() for one in arguments]
    assert named["arguments"].replace("[", "").replace("]", "").split() == names
    assert named["arguments"].count("[") == sum(not one.required for one in arguments)
    elsewhere = "](" in options or options.startswith("as ")
    for option in () if elsewhere else command.params:
        if isinstance(option, click.Option):
            assert f"`{option.opts[0]}`" in options
    if (alias := named["alias"]) is not None:
        *group, _ = named["words"].split()
        assert command_named([*group, alias]) == (command, [])
