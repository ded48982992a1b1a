"""`foundry service start|stop|restart|status`: the service in the background.

Knows: what is printed. Refuses to know: how a service is started, found and stopped (`daemon/`).

The official clients run these and read what they print: the words are theirs. They look for the first
`http://HOST:PORT` of `status`, so that it stands there if the service answers, and never otherwise.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

import anyio
import click

from foundry_proto.codec import encode
from foundry_runtime.platform import port_holder
from foundry_serve.cli.asking import NOT_RUNNING, service_files
from foundry_serve.cli.options import asked_for, server_options
from foundry_serve.cli.terminal import configured, fail, json_option, print_json, warn
from foundry_serve.config import DEFAULT_PORT
from foundry_serve.config_sources import Loaded
from foundry_serve.daemon import control
from foundry_serve.daemon.control import Started, StartFailed, StopFailed
from foundry_serve.daemon.state import ServiceFiles, ServiceState
from foundry_serve.words import words_of

__all__ = ["ensure_running", "restart", "start", "status", "stop"]


@click.command()
@server_options
def start(**given: Any) -> None:
    """Start the service in the background, unless it runs."""
    loaded = asked_for(given)
    started = _start(loaded)
    if started.fresh:
        _tell(started)
        return
    click.echo(f"🟢 Service is already running on {started.state.endpoints[0]}/.")
    if loaded.config.shown != started.state.options and loaded.flags:
        warn("it runs with the options that it was started with; `foundry service restart` gives it others")


@click.command()
@click.option("--now", is_flag=True, help="Cut running answers instead of letting them end.")
def stop(now: bool) -> None:
    """Stop the service. Running answers have the time to end that it was started with."""
    if _stop(now) is None:
        click.echo("🔴 Model management service is not running!")
    else:
        click.echo("🔴 Service is stopped.")


@click.command()
@server_options
def restart(**given: Any) -> None:
    """Stop the service, and start it anew. It keeps the options that are not given."""
    before = _stop(now=False)
    _tell(_start(asked_for(given, None if before is None else before.given)))


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Say whether the service runs, and where. The exit status is 0 either way."""
    found = anyio.run(control.find, service_files())
    state = found.state if found is not None and found.problem is None else None
    if as_json:
        print_json({"running": state is not None, **_described(state)})
    elif state is not None:
        click.echo(f"🟢 Model management service is running on {state.endpoints[0]}/openai/status")
    else:
        click.echo(NOT_RUNNING)
    if found is not None and found.problem is not None:
        warn(f"there is a service, but {found.problem}")


def _described(state: ServiceState | None) -> dict[str, Any]:
    if state is None:
        return {}
    # The key is for commands that ask the service, not for a terminal's window or a log.
    return {name: value for name, value in json.loads(encode(state)).items() if name != "key"}


def _start(loaded: Loaded) -> Started:
    files = ServiceFiles(loaded.home)
    try:
        with _busy("starting the service"):
            return anyio.run(control.start, files, loaded)
    except StartFailed as error:
        if error.lines:
            warn(f"the last lines of {files.log}:")
            click.echo("\n".join(error.lines), err=True)
        fail(str(error))
    except OSError as error:
        fail(words_of(error))
    except KeyboardInterrupt:
        fail("interrupted; the service was not started")


def _busy(words: str) -> AbstractContextManager[object]:
    """Show in a terminal that something goes on."""
    from foundry_serve.cli.drawing import stderr  # noqa: PLC0415 - `status`, which clients wait for, needs it not

    return stderr.status(words)


def _stop(now: bool) -> ServiceState | None:
    """Stop the service; gives what it was, if there was one."""
    try:
        with _busy("waiting for running answers"):
            return anyio.run(lambda: control.stop(service_files(), now=now))
    except StopFailed as error:
        fail(str(error))


def ensure_running() -> None:
    """Start the service as it is configured, unless it runs, for a command that cannot do without."""
    started = _start(configured())
    if started.fresh:
        _tell(started, err=True)


def _tell(started: Started, *, err: bool = False) -> None:
    """Say where the service is; and if that is not where clients look first, why, unless it was asked for."""
    url = started.state.endpoints[0]
    click.echo(f"🟢 Service is Started on {url}/, PID {started.state.pid}!", err=err)
    if started.state.options.port is None and not url.endswith(f":{DEFAULT_PORT}"):
        holder = port_holder(DEFAULT_PORT)
        whose = f" by {holder}" if holder else ""
        warn(f"port {DEFAULT_PORT} is taken{whose}, so it took a free one")
