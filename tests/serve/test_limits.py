"""Each limit that its owner can set, over the wire: what goes over it is told so, and nothing hangs."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest
from attrs import define, field, frozen

from foundry_runtime.engine.batched.model import BatchedModel
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.transport import Transport, TransportBroken, connect_tcp, wrap_socket
from foundry_serve import catalog, serving
from foundry_serve.config import Config, settings
from foundry_serve.tracing import NO_TRACES
from tests.support.asking import Reply, ask
from tests.support.scripted_source import ScriptedSource

MODEL: Final = "tiny-random-generic-cpu"
CHAT: Final = "/v1/chat/completions"
STATUS: Final = "/openai/status"
USER: Final = {"role": "user", "content": "Hello"}
ENDLESS: Final[dict[str, Any]] = {"logit_bias": {"0": -100, "2": -100}, "max_tokens": 400}
"""It would end its answers by itself."""


@define
class Told:
    """How far the server is."""

    port: int = 0
    ready: anyio.Event = field(factory=anyio.Event)

    def listening(self, endpoints: Sequence[str]) -> None:
        self.port = int(endpoints[0].rpartition(":")[2])

    def serving(self) -> None:
        self.ready.set()

    def stopping(self) -> None:
        pass


@frozen
class Running:
    """A server with some limit."""

    port: int

    @asynccontextmanager
    async def connected(self, address: str = "127.0.0.1") -> AsyncIterator[Transport]:
        """A connection from an address of this machine."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((address, 0))
        sock.connect(("127.0.0.1", self.port))
        transport = await wrap_socket(sock)
        try:
            yield transport
        finally:
            await transport.aclose()

    async def ask(self, method: str, target: str, body: Any = None, *headers: tuple[str, str]) -> Reply:
        """One request on a connection of its own."""
        transport = await connect_tcp("127.0.0.1", self.port)
        try:
            data = None if body is None else json.dumps(body).encode()
            return await ask(transport, method, target, data, *headers)
        finally:
            await transport.aclose()

    async def refused(self, status: int, code: str | None, method: str, target: str, *more: Any) -> Reply:
        """The same, for a request that goes over a limit."""
        reply = await self.ask(method, target, *more)
        assert (reply.status, reply.json["error"]["code"]) == (status, code), reply.body
        assert ("retry-after" in reply.headers) == (status in {429, 503})
        return reply


@asynccontextmanager
async def begun(server: Running, target: str, body: Any) -> AsyncIterator[None]:
    """A streamed answer that has begun, and goes on."""
    data = json.dumps(body).encode()
    head = f"POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(data)}\r\n\r\n"
    async with server.connected() as transport:
        await transport.send(head.encode() + data)
        assert (await transport.receive()).startswith(b"HTTP/1.1 200 ")
        yield


def chat(count: int = 1, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [USER] * count, **more}


def download(name: str) -> dict[str, Any]:
    return {"model": {"Name": f"{name}:1", "Uri": "test:mine", "ProviderType": "Test"}}


async def rest(transport: Transport) -> bytes:
    """All that still comes, however the connection ends."""
    said = bytearray()
    try:
        while piece := await transport.receive():
            said += piece
    except TransportBroken:
        pass
    return bytes(said)


async def sizes(server: Running) -> None:
    await server.refused(431, None, "GET", STATUS, None, ("x", "a" * 2048))
    await server.refused(431, None, "GET", STATUS, None, *[("x", "a")] * 16)
    await server.refused(413, "request_too_large", "POST", CHAT, chat(user="a" * 4096))
    deep: Any = 0
    for _ in range(8):
        deep = [deep]
    await server.refused(400, None, "POST", CHAT, chat(metadata=deep))
    await server.refused(400, None, "POST", CHAT, chat(3))
    assert (await server.ask("POST", CHAT, chat(2, max_tokens=1))).status == 200


async def connections(server: Running) -> None:
    async with server.connected(), server.connected():
        await server.refused(429, "too_many_from_there", "GET", STATUS)
        if sys.platform == "linux":  # elsewhere, only one of the loopback's addresses is there
            async with server.connected("127.0.0.2"):
                await server.refused(503, "too_many_connections", "GET", STATUS)


async def requests(server: Running) -> None:
    async with begun(server, "/openai/download", download("one")):
        await server.refused(503, "overloaded", "POST", CHAT, chat())


async def queue(server: Running) -> None:
    # As many choices as the engine has rows.
    async with begun(server, CHAT, chat(n=16, stream=True, **ENDLESS)):
        reply = await server.refused(503, "overloaded", "POST", CHAT, chat())
        assert reply.json["error"]["message"] == "0 requests are waiting for this model already"


async def downloads(server: Running) -> None:
    async with begun(server, "/openai/download", download("one")):
        await server.refused(503, "overloaded", "POST", "/openai/download", download("other"))
        # Who wants the same joins in.
        async with begun(server, "/openai/download", download("one")):
            pass


async def work(server: Running) -> None:
    await server.refused(503, "took_too_long", "POST", CHAT, chat(**ENDLESS))


async def silence(server: Running) -> None:
    for said, status in (
        (b"", b""),
        (b"GET / HT", b"HTTP/1.1 408 "),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n{", b"HTTP/1.1 408 "),
    ):
        async with server.connected() as transport:
            await transport.send(said)
            answer = await rest(transport)
            assert answer[:13] == status


async def reading(server: Running) -> None:
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n"
    size = len((await server.ask("GET", "/openapi.json")).body)
    count = 8 * 1024 * 1024 // size
    while True:
        async with server.connected() as transport:
            await transport.send(asked * count)
            if (await transport.receive()).startswith(b"HTTP/1.1 429 "):
                continue  # Who was there before is still leaving.
            # The one connection that there may be is taken until it is cut.
            while (await server.ask("GET", STATUS)).status == 429:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
            assert len(await rest(transport)) < size * count / 2
            return


Scenario = Callable[[Running], Awaitable[None]]
SCENARIOS: Final[tuple[tuple[Scenario, dict[str, Any]], ...]] = (
    (sizes, {"max_head": 2048, "max_headers": 16, "max_body": 4096, "max_json_depth": 8, "max_messages": 2}),
    (connections, {"max_connections": 3, "max_connections_per_address": 2}),
    (requests, {"max_requests": 1}),
    (queue, {"max_waiting": 0}),
    (downloads, {"max_downloads": 1}),
    (work, {"request_timeout": 0.1}),
    (silence, {"idle_timeout": 0.1, "head_timeout": 0.1, "body_timeout": 0.1}),
    (reading, {"write_timeout": 0.1, "max_connections_per_address": 1}),
)


def test_all_limits_are_shown() -> None:
    limits = {one.name for one in settings() if one.name.startswith("max_") or one.name.endswith("_timeout")}
    assert {name for _, given in SCENARIOS for name in given} == limits


@pytest.mark.anyio
@pytest.mark.parametrize(("scenario", "given"), SCENARIOS, ids=lambda one: getattr(one, "__name__", ""))
async def test_what_goes_over_a_limit_is_told_so(
    tiny_home: ModelDirectory, monkeypatch: pytest.MonkeyPatch, scenario: Scenario, given: dict[str, Any]
) -> None:
    genuine = BatchedModel.decode

    def decode(*arguments: Any) -> Any:
        time.sleep(0.01)
        return genuine(*arguments)

    monkeypatch.setattr(BatchedModel, "decode", decode)
    monkeypatch.setattr(catalog, "make_sources", lambda _: [ScriptedSource(hangs=True)])
    monkeypatch.setattr(serving, "prepare_process", lambda: None)  # which is for a process of its own
    config = Config(host="127.0.0.1", port=0, catalog="off", allowed_hosts=("test",), drain=0, **given)
    told = Told()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serving._serve, config, tiny_home, told, None, NO_TRACES, serving.Ending())
            await told.ready.wait()
            server = Running(told.port)
            await scenario(server)
            # Whoever had been there has left.
            while (await server.ask("GET", STATUS)).status != 200:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
