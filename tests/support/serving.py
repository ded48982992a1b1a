"""Serving an application in memory, for tests that play the client byte by byte or with the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import trio.testing

from foundry_proto.codec import encode
from foundry_proto.connection import Limits
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_runtime.application import Application
from foundry_runtime.client import Client
from foundry_runtime.server import TimeOuts, serve_connection
from foundry_runtime.transport import Transport, memory_transport_pair
from tests.support.applications import make_test_application

__all__ = ["Served", "at_rest", "raw_request", "read_all", "served", "under_virtual_clock", "until"]


def raw_request(request: ChatCompletionRequest, *headers: str) -> bytes:
    """The bytes of a chat request."""
    body = encode(request)
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "Host: test",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join((*lines, "", "")).encode() + body


async def read_all(transport: Transport) -> bytes:
    """Everything until the end of the stream."""
    data = b""
    while piece := await transport.receive():
        data += piece
    return data


async def until(condition: Callable[[], object], *, pause: float = 0.001) -> None:
    """Wait for something that tells nobody when it happens."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await anyio.sleep(pause)


async def at_rest(look: Callable[[], int], *, pause: float) -> None:
    """Wait until a number stays what it is from one look to the next."""
    before, now = None, look()
    while now != before:
        await anyio.sleep(pause)
        before, now = now, look()


def under_virtual_clock(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on trio, by a clock that jumps to the next deadline when every task waits."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(test, backend="trio", backend_options={"clock": clock})


class Served:
    """A served application: connect to it, or see what its handlers did."""

    def __init__(
        self,
        application: Application[Any],
        journal: Any,
        group: Any,
        time_outs: TimeOuts,
        limits: Limits | None = None,
    ) -> None:
        self.application = application
        self.journal = journal
        self.connections = 0
        self.ended = 0
        """Connections that were served to their end."""
        self._group = group
        self._time_outs = time_outs
        self._limits = limits

    async def connect(self, *, client: str = "127.0.0.1:50123") -> Transport:
        """A new connection from an address, the client's end."""
        ours, theirs = memory_transport_pair(peer=client)
        self.connections += 1
        self._group.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, transport: Transport) -> None:
        await serve_connection(transport, self.application, limits=self._limits, time_outs=self._time_outs)
        self.ended += 1

    def client(self, **more: Any) -> Client:
        """The library's own client."""
        return Client("http://test", connect=self.connect, **more)


@asynccontextmanager
async def served(
    application: Application[Any] | None = None, *, time_outs: TimeOuts | None = None
) -> AsyncIterator[Served]:
    """Serve the test application in memory."""
    application = application or make_test_application()
    async with application.running() as journal, anyio.create_task_group() as group:
        yield Served(application, journal, group, time_outs or TimeOuts())
        group.cancel_scope.cancel()
