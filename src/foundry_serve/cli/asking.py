"""Asks the service, for the commands that want what only it knows.

Knows: that it may not run, and how what went wrong is told. Refuses to know: what is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

import anyio

from foundry_proto.errors import RemoteProtocolError
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.transport import TransportBroken, TransportClosed
from foundry_serve.cli.terminal import CommandFailed, fail, models_on_disk
from foundry_serve.daemon import control
from foundry_serve.daemon.reaching import client_of
from foundry_serve.daemon.state import ServiceFiles

__all__ = ["NOT_RUNNING", "ask_service", "service_files"]

NOT_RUNNING: Final = (
    "🔴 Model management service is not running!\n"
    "To start the service, run the following command: foundry service start"
)

T = TypeVar("T")


def service_files() -> ServiceFiles:
    """The files by which the user's service is found."""
    return ServiceFiles(models_on_disk().home)


def _not_running() -> NoReturn:
    raise CommandFailed(NOT_RUNNING)


def ask_service(ask: Callable[[Client], Awaitable[T]], *, absent: Callable[[], T] = _not_running) -> T:
    """Ask the service that runs; where it cannot do it, the command ends with status 1.

    Args:
        ask: Asks it.
        absent: Gives the answer where there is none that answers; by default the command ends then, too.
    """
    try:
        return anyio.run(_ask, service_files(), ask, absent)
    except (ServerFailure, RemoteProtocolError, TransportBroken, TransportClosed, OSError) as error:
        fail(str(error) or "the service is silent")
    except KeyboardInterrupt:
        fail("interrupted")


async def _ask(files: ServiceFiles, ask: Callable[[Client], Awaitable[T]], absent: Callable[[], T]) -> T:
    found = await control.find(files)
    if found is None or found.problem is not None:
        return absent()
    async with client_of(found.state) as client:
        return await ask(client)
