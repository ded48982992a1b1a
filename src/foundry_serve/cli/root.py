"""The command's tree: every group, and where its commands stand."""

from __future__ import annotations

from typing import Final

import click

from foundry_proto._version import __version__
from foundry_serve.cli.lazy import LazyGroup

__all__ = ["foundry", "model"]

_HERE: Final = "foundry_serve.cli"


@click.group(
    cls=LazyGroup,
    places={"model": f"{_HERE}.root:model", "serve": f"{_HERE}.serve:serve"},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(version)s")
def foundry() -> None:
    """Serve language models on this machine, and talk to them."""


@click.group(cls=LazyGroup, places={"run": f"{_HERE}.run:run", "import": f"{_HERE}.getting:import_"})
def model() -> None:
    """Run and import models."""
