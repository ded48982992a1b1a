"""The command's tree: every group and what all of its commands share."""

from __future__ import annotations

import click

from foundry_proto import __version__
from foundry_serve.cli.model import model
from foundry_serve.cli.serve import serve

__all__ = ["foundry"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(version)s")
def foundry() -> None:
    """Serve language models on this machine, and talk to them."""


foundry.add_command(model)
foundry.add_command(serve)
