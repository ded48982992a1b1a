"""`foundry config …`: the settings of the server, and where each value came from.

Knows: how a setting is shown. Refuses to know: which there are (`config.py`), and how they are read.
"""

from __future__ import annotations

from typing import Any, Final

import click

from foundry_serve.cli.drawing import show_table
from foundry_serve.cli.options import asked_for, server_options
from foundry_serve.cli.terminal import configured, json_option, print_json
from foundry_serve.config import settings

__all__ = ["path", "show"]

_DEFAULT: Final = "default"


@click.command()
@server_options
@json_option
def show(as_json: bool, **given: Any) -> None:
    """Print every setting, its value, and where that came from; with options, as if a server had them."""
    loaded = asked_for(given)
    rows = [
        (one.name, one.show(getattr(loaded.config, one.name)), loaded.sources.get(one.name, _DEFAULT))
        for one in settings()
    ]
    if as_json:
        public = loaded.config.shown
        print_json(
            [
                {"name": name, "value": getattr(public, name), "shown": shown, "from": source}
                for name, shown, source in rows
            ]
        )
        return
    show_table(["Setting", "Value", "From"], [rows])


@click.command()
def path() -> None:
    """Say which file the settings are read from, which need not exist."""
    click.echo(str(configured().file))
