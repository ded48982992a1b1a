"""A group whose commands are imported when they are called: none waits for what another one needs.

Knows: where each command stands, and its other names. Refuses to know: what the commands do.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group whose commands are named, not given.

    Args:
        places: Name to `module:attribute`, in the order of the help.
        aliases: Further names, which the help does not show.
        options: What `click.Group` takes.
    """

    def __init__(
        self, *, places: Mapping[str, str], aliases: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._places = places
        self._aliases = aliases or {}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        """Give the commands' names, as the help shows them."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a command."""
        place = self._places.get(self._aliases.get(cmd_name, cmd_name))
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command), place
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that a line calls; usage and help show its first name."""
        name, command, rest = super().resolve_command(ctx, args)
        return (command.name if command is not None else name), command, rest
