"""How the server is: for programs that watch it, and for Prometheus.

Knows: what makes a server unfit for requests.
Refuses to know: what is measured (`foundry_serve.metrics`), and who asks.
"""

from __future__ import annotations

import os

import anyio.to_thread

from foundry_proto.events import Failure, Request, Response
from foundry_proto.messages.service import Health
from foundry_runtime.application import Send
from foundry_runtime.models.directory import ModelDirectory
from foundry_serve.services import Services

__all__ = ["health", "health_live", "health_ready", "metrics"]


async def health(services: Services, _: Request[None], send: Send) -> None:
    """Answer `GET /health`."""
    reason = await _why_not(services)
    if reason is None:
        await send(Response(value=Health(status="ready")))
    else:
        await send(Failure(status=503, message=f"not ready: {reason}", code="not_ready"))


async def health_ready(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /health/ready`."""
    await health(services, request, send)


async def health_live(_services: Services, _request: Request[None], send: Send) -> None:
    """Answer `GET /health/live`: that it comes is all that it says."""
    await send(Response(value=Health(status="live")))


async def metrics(services: Services, _: Request[None], send: Send) -> None:
    """Answer `GET /metrics`."""
    if not services.shows_metrics:
        message = "metrics: expected a server that tells them; this one was started without"
        await send(Failure(status=404, message=message, code="not_enabled"))
        return
    write = services.metrics.render(services.pool.models(), services.downloads.running)
    await send(Response(value=await anyio.to_thread.run_sync(write)))


async def _why_not(services: Services) -> str | None:
    if services.stopping():
        return "the server is stopping"
    return await anyio.to_thread.run_sync(_unreadable, services.directory)


def _unreadable(directory: ModelDirectory) -> str | None:
    """Why models cannot be looked for; a folder that is not there yet has none, which is no fault."""
    try:
        with os.scandir(directory.models):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"the models cannot be read: {error.strerror}"
