"""The `foundry` command as a tree that tests can walk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from foundry_serve.cli.root import foundry

__all__ = ["all_commands", "command_named", "options_of"]


def command_named(words: Sequence[str]) -> tuple[click.Command, list[str]]:
    """The command that a line calls, and the words behind its name."""
    command: click.Command = foundry
    context = click.Context(foundry)
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"foundry has no command {name}: {' '.join(words)}"
        command = found
    return command, rest


def options_of(command: click.Command) -> set[str]:
    """All names of a command's options, help included."""
    context = click.Context(command, **foundry.context_settings)
    return {
        name
        for option in command.get_params(context)
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("-")
    }


def all_commands(group: click.Group = foundry, words: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        called = f"{words} {name}".strip()
        if isinstance(command, click.Group):
            yield from all_commands(command, called)
        else:
            yield called, command
