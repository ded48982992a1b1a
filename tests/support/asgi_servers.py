"""ASGI servers that are not ours, in the test's own event loop: uvicorn, hypercorn on asyncio and on trio."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal

import anyio
import hypercorn.asyncio
import hypercorn.trio
import uvicorn

__all__ = ["SERVERS", "ServerKind", "served_by"]

ServerKind = Literal["uvicorn", "hypercorn on asyncio", "hypercorn on trio"]

SERVERS: Final[dict[ServerKind, str]] = {
    "uvicorn": "asyncio",
    "hypercorn on asyncio": "asyncio",
    "hypercorn on trio": "trio",
}
"""The event loop that each needs."""


@asynccontextmanager
async def served_by(kind: ServerKind, app: Any) -> AsyncIterator[int]:
    """Serve an ASGI application, its lifespan included; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        async with anyio.create_task_group() as tasks:
            stop = anyio.Event()
            tasks.start_soon(_run_uvicorn if kind == "uvicorn" else _run_hypercorn, kind, app, sock, stop)
            try:
                yield sock.getsockname()[1]
            finally:
                stop.set()


async def _run_uvicorn(_: ServerKind, app: Any, sock: socket.socket, stop: anyio.Event) -> None:
    config = uvicorn.Config(app, lifespan="on", log_config=None, access_log=False, http="h11", ws="none")
    server = uvicorn.Server(config)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        await server.serve(sockets=[sock.dup()])


async def _run_hypercorn(kind: ServerKind, app: Any, sock: socket.socket, stop: anyio.Event) -> None:
    config = hypercorn.Config()
    config.bind = [f"fd://{sock.dup().detach()}"]
    config.graceful_timeout = 1
    config.errorlog = logging.getLogger("hypercorn.error")
    serve = hypercorn.asyncio.serve if kind == "hypercorn on asyncio" else hypercorn.trio.serve
    await serve(app, config, shutdown_trigger=stop.wait)
