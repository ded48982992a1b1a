"""`foundry serve`: the server in the foreground.

Knows: what a terminal is told of a server that comes and goes.
Refuses to know: how it is served (`serving.py`).

It is the home's service, which the other commands and the official clients find, unless there is one already.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import click
from attrs import evolve, frozen

from foundry_serve.cli.options import asked_for, server_options
from foundry_serve.cli.terminal import fail, warn
from foundry_serve.config import DEFAULT_PORT, BadConfig
from foundry_serve.daemon.state import Published, ServiceFiles, ServiceState
from foundry_serve.logs import set_up_logging
from foundry_serve.serving import run_server
from foundry_serve.words import words_of

__all__ = ["serve"]

_UNFOUND: Final = "other commands will not find this server"


@click.command()
@server_options
def serve(**given: Any) -> None:
    """Serve the models on this machine until interrupted."""
    loaded = asked_for(given)
    config = loaded.config
    if config.port is None:  # who starts a server in a terminal wants that port, or to know who has it
        config = evolve(config, port=DEFAULT_PORT)
    level = logging.INFO if config.verbose else logging.WARNING
    set_up_logging(config.log_format, logging.StreamHandler(), level=level)
    directory = loaded.directory
    claim = published = own_key = None
    try:
        claim = ServiceFiles(directory.home).claim()
    except OSError as error:  # models can be served from where nothing can be written
        warn(f"{_UNFOUND}: {words_of(error)}")
    if claim is not None:
        state = ServiceState.starting(loaded)
        published, own_key = Published(claim, state), state.key
    try:
        run_server(config, directory, _Told(published), own_key=own_key)
    except OSError as error:
        fail(words_of(error))
    except BadConfig as error:
        fail(str(error))
    finally:
        if claim is not None:
            claim.release()


@frozen
class _Told:
    """Tells the terminal how far the server is, and who looks for it."""

    _published: Published | None

    def listening(self, endpoints: Sequence[str]) -> None:
        if self._published is not None:
            try:
                self._published.listening(endpoints)
            except OSError as error:
                warn(f"{_UNFOUND}: {words_of(error)}")
        click.echo(f"Serving on {endpoints[0]}/ (chat at /v1/chat/completions); Ctrl-C stops.")

    def serving(self) -> None:
        if self._published is not None:
            self._published.serving()

    def stopping(self) -> None:
        click.echo("Stopping; again to stop at once.", err=True)
        if self._published is not None:
            self._published.stopping()
