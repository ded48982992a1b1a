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

__all__ = ["LOOPS", "SERVERS", "WEBSOCKET_SERVERS", "ServerKind", "served_by"]

ServerKind = Literal[
    "uvicorn",
    "uvicorn with httptools",
    "uvicorn with websockets",
    "hypercorn on asyncio",
    "hypercorn on trio",
]

SERVERS: Final[tuple[ServerKind, ...]] = ("uvicorn", "hypercorn on asyncio", "hypercorn on trio")
"""What is tried over HTTP; uvicorn is so with h11, and with wsproto."""

WEBSOCKET_SERVERS: Final[tuple[ServerKind, ...]] = (*SERVERS, "uvicorn with websockets")
"""What is tried with WebSockets."""

LOOPS: Final[dict[ServerKind, str]] = {
    "uvicorn": "asyncio",
    "uvicorn with httptools": "asyncio",
    "uvicorn with websockets": "asyncio",
    "hypercorn on asyncio": "asyncio",
    "hypercorn on trio": "trio",
}
"""The event loop that each needs."""


@asynccontextmanager
async def served_by(
    kind: ServerKind, app: Any, *, stop: anyio.Event | None = None, grace: float = 1.0
) -> AsyncIterator[int]:
    """Serve an ASGI application, its lifespan included; give the port.

    Args:
        kind: By which server.
        app: The application.
        stop: When set, the server stops; it does so at the end of the context at the latest.
        grace: Seconds that hypercorn gives then to what still runs.
    """
    stop, ended = stop or anyio.Event(), anyio.Event()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)

        async def serve() -> None:
            try:
                if kind.startswith("uvicorn"):
                    await _run_uvicorn(kind, app, sock, stop)
                else:
                    await _run_hypercorn(kind, app, sock, stop, grace)
            finally:
                ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            try:
                yield sock.getsockname()[1]
            finally:
                stop.set()
                with anyio.move_on_after(10, shield=True):
                    await ended.wait()


async def _run_uvicorn(kind: ServerKind, app: Any, sock: socket.socket, stop: anyio.Event) -> None:
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        http="httptools" if kind == "uvicorn with httptools" else "h11",
        ws="websockets-sansio" if kind == "uvicorn with websockets" else "wsproto",
    )
    server = uvicorn.Server(config)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        await server.serve(sockets=[sock.dup()])


async def _run_hypercorn(
    kind: ServerKind, app: Any, sock: socket.socket, stop: anyio.Event, grace: float
) -> None:
    config = hypercorn.Config()
    config.bind = [f"fd://{sock.dup().detach()}"]
    config.graceful_timeout = grace
    config.errorlog = logging.getLogger("hypercorn.error")
    serve = hypercorn.asyncio.serve if kind == "hypercorn on asyncio" else hypercorn.trio.serve
    await serve(app, config, shutdown_trigger=stop.wait)
