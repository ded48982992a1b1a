"""The command's tree: every group, and where its commands stand.

Knows: names and places alone, so that `foundry --help` imports nothing of what commands need.
Refuses to know: what a command does.
"""

from __future__ import annotations

from typing import Final

import click

from foundry_proto._version import __version__
from foundry_serve.cli.lazy import LazyGroup

__all__ = ["cache", "config", "foundry", "model", "service"]

_HERE: Final = "foundry_serve.cli"


@click.group(
    cls=LazyGroup,
    places={
        "model": f"{_HERE}.root:model",
        "service": f"{_HERE}.root:service",
        "cache": f"{_HERE}.root:cache",
        "config": f"{_HERE}.root:config",
        "serve": f"{_HERE}.serve:serve",
        "conformance": f"{_HERE}.conformance:conformance",
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(version)s")
def foundry() -> None:
    """Serve language models on this machine, and talk to them."""


@click.group(
    cls=LazyGroup,
    places={
        "list": f"{_HERE}.models:list_",
        "info": f"{_HERE}.models:info",
        "download": f"{_HERE}.getting:download",
        "import": f"{_HERE}.getting:import_",
        "run": f"{_HERE}.run:run",
        "load": f"{_HERE}.loading:load",
        "unload": f"{_HERE}.loading:unload",
    },
    aliases={"ls": "list"},
)
def model() -> None:
    """Find, get, run and load models."""


@click.group(
    cls=LazyGroup,
    places={
        "start": f"{_HERE}.service:start",
        "stop": f"{_HERE}.service:stop",
        "restart": f"{_HERE}.service:restart",
        "status": f"{_HERE}.service:status",
        "ps": f"{_HERE}.loading:ps",
        "diag": f"{_HERE}.diagnosis:diag",
    },
    aliases={"list": "ps"},
)
def service() -> None:
    """Start, stop and look at the server in the background."""


@click.group(
    cls=LazyGroup,
    places={
        "location": f"{_HERE}.cache:location",
        "list": f"{_HERE}.cache:list_",
        "remove": f"{_HERE}.cache:remove",
        "cd": f"{_HERE}.cache:cd",
    },
    aliases={"ls": "list", "rm": "remove"},
)
def cache() -> None:
    """Look at the models on this machine, move and remove them."""


@click.group(
    cls=LazyGroup,
    places={
        "show": f"{_HERE}.configuration:show",
        "path": f"{_HERE}.configuration:path",
    },
)
def config() -> None:
    """Look at the server's settings."""
