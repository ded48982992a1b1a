"""WebSockets under ASGI servers of others, over TCP: by the library's client, by others', frame by frame."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import trio
import trio_websocket
from fastapi import FastAPI
from websockets.asyncio.client import connect

from foundry_proto.messages.watch import ModelChanged, Watching
from foundry_runtime.asgi import ASGIApplication
from foundry_runtime.client import ServerFailure
from foundry_runtime.server import TimeOuts
from foundry_runtime.transport import connect_tcp
from foundry_runtime.websocket import open_conversation
from foundry_serve.security import Policy, bound_names
from tests.support.applications import chat_request, make_test_application
from tests.support.asgi_servers import LOOPS, WEBSOCKET_SERVERS, ServerKind, served_by
from tests.support.masking import BINARY, CLOSE, frame
from tests.support.serving import until
from tests.support.websockets import RawClient, upgrade_on

pytestmark = pytest.mark.anyio

QUICK = TimeOuts(write=0.2, linger=0.2)
READY = ModelChanged(model="m", state="ready")
HOLD = {"model": "hold", "messages": [{"role": "user", "content": "x"}], "stream": True}


@pytest.fixture(params=WEBSOCKET_SERVERS)
def kind(request: pytest.FixtureRequest) -> ServerKind:
    chosen: ServerKind = request.param
    return chosen


@pytest.fixture
def anyio_backend(kind: ServerKind) -> str:
    return LOOPS[kind]


async def opened(port: int) -> RawClient:
    return await upgrade_on(await connect_tcp("127.0.0.1", port))


async def test_a_conversation_is_held_as_under_the_native_server(kind: ServerKind) -> None:
    application = make_test_application()
    async with served_by(kind, ASGIApplication(application)) as port:
        async with open_conversation(f"http://127.0.0.1:{port}") as talk:
            (journal,) = application._running
            await talk.watch("models")
            assert await anext(talk) == Watching(topics=("models",))
            journal.feed.publish(READY)
            assert await anext(talk) == READY
            whole = await talk.chat(chat_request(text="grün ☕"))
            assert whole.choices[0].message.content == "grün ☕ "
            large = await talk.chat(chat_request("long", "200000", user="x" * 200_000))
            assert large.choices[0].message.content == "x" * 200_000
            async with talk.stream(chat_request("hold")) as chunks:
                await anext(chunks)  # left in the middle, which cancels it
            with anyio.fail_after(60):
                await until(lambda: journal.cancelled)
        with anyio.fail_after(60):
            await until(lambda: not journal.feed.watched)


async def test_who_may_have_none_learns_why(kind: ServerKind) -> None:
    """By the product's rules, which look at headers that some servers keep or spell their own way."""
    gate = Policy(names=bound_names("localhost", ["127.0.0.1"]))
    async with served_by(kind, ASGIApplication(make_test_application(gate=gate))) as port:
        url = f"http://127.0.0.1:{port}"
        for headers, status in (
            (((b"origin", b"http://evil.example"),), 403),
            (((b"sec-fetch-site", b"cross-site"),), 403),
        ):
            with pytest.raises(ServerFailure) as caught:
                async with open_conversation(url, headers=headers):
                    pass
            assert caught.value.failure.status == status
            assert caught.value.failure.code == "foreign_origin"
        own = ((b"origin", url.encode()),)
        async with open_conversation(url, headers=own) as talk:
            await talk.watch("models")
            assert await anext(talk) == Watching(topics=("models",))


@pytest.mark.parametrize("farewell", ["close", "binary", "reset"])
async def test_however_it_ends_its_chats_are_cancelled(kind: ServerKind, farewell: str) -> None:
    application = make_test_application()
    app = ASGIApplication(application, time_outs=QUICK)
    async with served_by(kind, app) as port:
        client = await opened(port)
        (journal,) = application._running
        await client.say(type="chat", id="a", body=HOLD)
        await client.hear()
        match farewell:
            case "close":
                await client.send(frame(CLOSE, struct.pack("!H", 1000)))
                assert await client.closed() == (1000, "")
            case "binary":
                await client.send(frame(BINARY, b"{}"))
                assert await client.closed() == (1003, "expected a text message, got a binary one")
            case _:
                await client.transport.aclose()
        with anyio.fail_after(60):
            await until(lambda: not app._conversations)
        assert journal.ended == ["hold"]


async def test_a_reader_that_takes_nothing_is_given_up(kind: ServerKind) -> None:
    application = make_test_application()
    async with served_by(kind, ASGIApplication(application, time_outs=QUICK)) as port:
        slow, quick = await opened(port), await opened(port)
        (journal,) = application._running
        await slow.say(type="chat", id="a", body={**HOLD, "model": "endless"})
        with anyio.fail_after(60):
            await until(lambda: journal.ended)
        await quick.say(type="watch", topics=["models"])
        assert (await quick.hear())["type"] == "watching"
        for client in (slow, quick):
            await client.transport.aclose()


# Python 3.11 complains of hypercorn on asyncio, which cancels the tasks of its connections.
@pytest.mark.parametrize(
    "kind", [kind for kind in WEBSOCKET_SERVERS if kind != "hypercorn on asyncio"], indirect=True
)
async def test_a_server_that_stops_closes_it_and_leaves_nothing(kind: ServerKind) -> None:
    application, stop = make_test_application(), anyio.Event()
    async with served_by(kind, ASGIApplication(application), stop=stop, grace=0.1) as port:
        client = await opened(port)
        (journal,) = application._running
        await client.say(type="chat", id="a", body=HOLD)
        await client.hear()
        stop.set()
        # uvicorn closes it itself, at once; hypercorn cancels the application after a while, which says so.
        assert (await client.closed([]))[0] == (1012 if kind.startswith("uvicorn") else 1001)
    assert journal.ended == ["hold"]


async def test_clients_find_it_below_the_prefix_that_it_is_mounted_at(kind: ServerKind) -> None:
    application = make_test_application()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with application.running():
            yield

    outer = FastAPI(lifespan=lifespan)
    outer.mount("/models of mine", ASGIApplication(application))
    async with served_by(kind, outer) as port:
        place = f"127.0.0.1:{port}", "/models%20of%20mine/foundry/watch"
        said = json.dumps({"type": "chat", "id": "1", "body": {**HOLD, "model": "echo"}})
        await (_on_trio if LOOPS[kind] == "trio" else _on_asyncio)(*place, said)
        async with open_conversation(f"http://127.0.0.1:{port}/models%20of%20mine") as talk:
            assert (await talk.chat(chat_request())).choices[0].message.content == "hi "


async def _on_trio(place: str, path: str, said: str) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", int(place.rpartition(":")[2]))
    async with stream, trio.open_nursery() as nursery:
        socket = await trio_websocket.wrap_client_stream(nursery, stream, place, path)
        await socket.send_message(said)
        types: list[str] = []
        while not types or types[-1] == "chunk":
            types.append(json.loads(await socket.get_message())["type"])
        assert types[-1] == "end"
        await socket.aclose()


async def _on_asyncio(place: str, path: str, said: str) -> None:
    async with connect(f"ws://{place}{path}", proxy=None) as socket:  # it asks for compression
        await socket.send(list(said))  # as fragments
        types: list[str] = []
        while not types or types[-1] == "chunk":
            types.append(json.loads(await socket.recv())["type"])
        assert types[-1] == "end"
