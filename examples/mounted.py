"""The application inside another one: `uvicorn mounted:app`, or `python mounted.py [PORT]`.

It answers below `/models`: a client's base URL is `http://127.0.0.1:8000/models/v1`.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from foundry_runtime.asgi import ASGIApplication
from greeting import application


async def home(_: Request) -> Response:
    """Answer a route of the outer application."""
    return PlainTextResponse("the models are at /models/v1\n")


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Keep the inner application running: what is mounted is not told of the server's start and end."""
    async with application.running():
        yield


app = Starlette(
    routes=[Route("/", home), Mount("/models", app=ASGIApplication(application))],
    lifespan=lifespan,
)

if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", int([*sys.argv, "8000"][1]))) as sock:
        print(f"http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[sock])
