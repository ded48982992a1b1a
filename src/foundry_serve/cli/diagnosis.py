"""`foundry service diag`: what somebody who is to help wants to know.

Knows: which versions, places and states are worth a look. Refuses to know: how a service is found.
"""

from __future__ import annotations

import platform
import shutil
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import anyio
import click

from foundry_proto import __version__
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.operations.models import LOADED_MODELS
from foundry_proto.operations.service import HEALTH
from foundry_runtime.client import ServerFailure
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.platform import resident_memory, usable_cores
from foundry_runtime.transport import TransportBroken, TransportClosed
from foundry_serve.cli.terminal import json_option, models_on_disk, print_json, warn
from foundry_serve.daemon import control
from foundry_serve.daemon.log import last_lines
from foundry_serve.daemon.reaching import client_of
from foundry_serve.daemon.state import ServiceFiles, ServiceState

__all__ = ["diag"]

_PACKAGES: Final = (
    *("onnxruntime-genai", "onnxruntime", "tokenizers", "llguidance", "numpy", "anyio", "trio"),
    *("h11", "prometheus-client", "opentelemetry-sdk"),
)
_PATIENCE: Final = 5.0
"""Seconds that the service has to say how it is."""


@click.command()
@click.option("--logs", is_flag=True, help="Print the end of the service's log instead.")
@click.option(
    "--lines", default=100, show_default=True, type=click.IntRange(1), help="How many lines of the log."
)
@json_option
def diag(logs: bool, lines: int, as_json: bool) -> None:
    """Print versions, places and state, for who is to help."""
    directory = models_on_disk()
    files = ServiceFiles(directory.home)
    if logs:
        _print_log(files.log, lines, as_json=as_json)
        return
    facts = anyio.run(_facts, directory, files)
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for what, value in facts.items():
        click.echo(f"{what:{width}}  {value}")


def _print_log(log: Path, lines: int, *, as_json: bool) -> None:
    found = last_lines(log, lines)
    if as_json:
        print_json(found)
        return
    if not found:
        warn(f"there is no log yet at {log}")
    for line in found:
        click.echo(line)


async def _facts(directory: ModelDirectory, files: ServiceFiles) -> dict[str, str]:
    found = await control.find(files)
    facts = {
        "version": __version__,
        "python": f"{platform.python_version()} at {sys.executable}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(usable_cores()),
        **{name: installed for name in _PACKAGES if (installed := _installed(name))},
        "home": str(directory.home),
        "models": f"{directory.models} ({_count(directory)}, {_free(directory.home)} free)",
        "log": str(files.log),
    }
    if found is None:
        return {**facts, "service": "is not running"}
    state = found.state
    return {
        **facts,
        **({} if state.log else {"log": f"standard error of process {state.pid}"}),
        "service": found.problem or f"is running since {_clock(state.began)}",
        "process": str(state.pid),
        "endpoints": ", ".join(state.endpoints),
        "memory": _size(resident_memory(state.pid)),
        **({} if found.problem else await _said(state)),
        "settings": state.options.differences,
    }


async def _said(state: ServiceState) -> dict[str, str]:
    """What the service says of itself; one that cannot say it is what somebody looks for."""
    try:
        with anyio.fail_after(_PATIENCE):
            async with client_of(state) as client:
                health = (await client.call(HEALTH)).status
                loaded = await client.call(LOADED_MODELS)
    except (ServerFailure, RemoteProtocolError, TransportBroken, TransportClosed, OSError) as error:
        return {"health": str(error) or f"silent for {_PATIENCE:g} seconds"}
    return {"health": health, "loaded": ", ".join(loaded) or "no models"}


def _count(directory: ModelDirectory) -> str:
    number = len(directory.entries())
    return "1 model" if number == 1 else f"{number} models"


def _size(number: int | None) -> str:
    return "unknown" if number is None else f"{number / 1024**2:.0f} MB"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _free(folder: Path) -> str:
    """How much room there is on a folder's disk, also for one that is not there yet."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return f"{shutil.disk_usage(there).free / 1024**3:.1f} GB"
