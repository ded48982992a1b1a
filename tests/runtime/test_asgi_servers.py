"""The application under ASGI servers of others, asked over TCP by the library's client and by bare bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.application import Application
from foundry_runtime.asgi import ASGIApplication
from foundry_runtime.blocking import BlockingClient
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.transport import connect_tcp
from tests.support.applications import Journal, chat_request, make_test_application
from tests.support.asgi_servers import LOOPS, SERVERS, ServerKind, served_by
from tests.support.serving import raw_request, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> ServerKind:
    chosen: ServerKind = request.param
    return chosen


@pytest.fixture
def anyio_backend(kind: ServerKind) -> str:
    return LOOPS[kind]


async def test_a_client_sees_no_difference(kind: ServerKind) -> None:
    app = ASGIApplication(make_test_application())
    async with served_by(kind, app) as port, Client(f"http://127.0.0.1:{port}") as client:
        whole = await client.call(CHAT_COMPLETIONS, chat_request(text="one two"))
        assert whole.choices[0].message.content == "one two "
        async with client.stream(CHAT_COMPLETIONS, chat_request(text="one two", stream=True)) as chunks:
            said = [chunk.choices[0].delta.content or "" async for chunk in chunks]
        assert "".join(said) == "one two "
        with pytest.raises(ServerFailure, match=r"^messages: expected at least 1 item, got 0$"):
            await client.call(CHAT_COMPLETIONS, ChatCompletionRequest(model="m", messages=()))


async def test_a_hang_up_cancels_the_work(kind: ServerKind) -> None:
    application = make_test_application()
    async with served_by(kind, ASGIApplication(application)) as port:
        transport = await connect_tcp("127.0.0.1", port)
        await transport.send(raw_request(chat_request("hold", stream=True)))
        await transport.receive()
        (journal,) = application._running
        await transport.aclose()
        with anyio.fail_after(60):
            await until(lambda: journal.cancelled)


async def test_a_body_too_large_is_refused_without_reading_it(kind: ServerKind) -> None:
    async with served_by(kind, ASGIApplication(make_test_application())) as port:
        transport = await connect_tcp("127.0.0.1", port)
        await transport.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        answer = b""
        while b"request_too_large" not in answer:  # Hypercorn writes `100 Continue` whatever is answered.
            answer += await transport.receive()
        assert b"HTTP/1.1 413 " in answer
        await transport.aclose()


def in_starlette(application: Application[Journal]) -> Any:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with application.running():
            yield

    return Starlette(routes=[Mount("/models of mine", app=ASGIApplication(application))], lifespan=lifespan)


def in_fastapi(application: Application[Journal]) -> Any:
    """Behind a middleware, as most have one."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with application.running():
            yield

    outer = FastAPI(lifespan=lifespan)
    outer.add_middleware(GZipMiddleware)
    outer.mount("/models of mine", ASGIApplication(application))
    return outer


@pytest.mark.parametrize("make", [in_starlette, in_fastapi])
async def test_it_is_mounted_at_a_prefix(
    kind: ServerKind, make: Callable[[Application[Journal]], Any]
) -> None:
    application = make_test_application()
    async with served_by(kind, make(application)) as port:
        for path, expected in ((b"/models%20of%20mine", b'"content":"one "'), (b"", b"Not Found")):
            transport = await connect_tcp("127.0.0.1", port)
            request = raw_request(chat_request(text="one", stream=True))
            await transport.send(request.replace(b" /v1", b" " + path + b"/v1", 1))
            answer = b""
            while expected not in answer:
                answer += await transport.receive()
            await transport.aclose()
        base_url = f"http://127.0.0.1:{port}/models%20of%20mine"
        async with Client(base_url) as client, client.chat(chat_request(text="one", stream=True)) as stream:
            assert [chunk async for chunk in stream]
        with BlockingClient(base_url) as blocking:
            question = partial(blocking.call, CHAT_COMPLETIONS, chat_request(text="one"))
            whole = await anyio.to_thread.run_sync(question)
            assert whole.choices[0].message.content == "one "
    assert not application._running
