"""Laws of a served WebSocket: what a client sees on it, and what its going does."""

from __future__ import annotations

import json
import struct
from functools import partial
from typing import Any, cast

import anyio
import pytest

from foundry_proto.codec import encode
from foundry_proto.connection import Limits
from foundry_proto.conversation import MAX_CALLS
from foundry_proto.messages.watch import ModelChanged
from foundry_proto.operations import CHAT_COMPLETIONS, WATCH
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.server import serve
from foundry_runtime.websocket import text_limit
from tests.support.applications import chat_request, make_test_application
from tests.support.masking import BINARY, CLOSE, CONTINUATION, PING, TEXT, frame
from tests.support.serving import Served, read_all, served, until
from tests.support.websockets import UPGRADE, OneConnection, RawClient, upgrade, upgrade_on

pytestmark = pytest.mark.anyio


def body(model: str = "echo", text: str = "hi", **more: Any) -> Any:
    return json.loads(encode(chat_request(model, text, **more)))


async def answer(client: RawClient, call: str) -> list[dict[str, Any]]:
    """All texts of one chat, to its end."""
    found = []
    while True:
        text = await client.hear()
        assert text["id"] == call
        found.append(text)
        if text["type"] != "chunk":
            return found


async def over_http(served_here: Served, request: Any) -> tuple[int, Any]:
    """The status and the bodies that HTTP answers the same request with."""
    transport = await served_here.connect()
    data = json.dumps(request).encode()
    lines = (
        b"POST /v1/chat/completions HTTP/1.1",
        b"Host: localhost:5272",
        b"Connection: close",
        b"Content-Length: %d" % len(data),
        b"",
        data,
    )
    await transport.send(b"\r\n".join(lines))
    head, _, raw = (await read_all(transport)).partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if b"text/event-stream" not in head:
        return status, [json.loads(raw)]
    events = [line[6:] for line in raw.split(b"\r\n") if line.startswith(b"data: ")]
    return status, [json.loads(event.strip()) for event in events if b"[DONE]" not in event]


@pytest.mark.parametrize(
    "request_body",
    [
        body(text="one two three"),
        body(text="one two three", stream=True),
        body(text="one", stream=True, stream_options={"include_usage": True}),
        {"model": "echo", "messages": []},
        {"model": "echo"},
        body("raise"),
        body("raise-late", stream=True),
        {**body(), "temperature": 5},
    ],
)
async def test_a_chat_is_answered_as_over_http(request_body: Any) -> None:
    async with served() as server:
        client = await upgrade(server)
        await client.say(type="chat", id="a", body=request_body)
        *chunks, last = await answer(client, "a")
        status, bodies = await over_http(server, request_body)
        said = [chunk["body"] for chunk in chunks]
        match last["type"]:
            case "end":
                assert (status, bodies) == (200, said)
            case "answer":
                assert (status, bodies) == (last["status"], [last["body"]])
            case "error":
                assert bodies == [*said, {"error": last["error"]}]
                assert chunks or status == last["status"]


async def test_many_chats_run_side_by_side() -> None:
    async with served() as server:
        client = await upgrade(server)
        for number in range(MAX_CALLS):
            await client.say(type="chat", id=str(number), body=body("hold", stream=True))
        heard = {(await client.hear())["id"] for _ in range(2 * MAX_CALLS)}  # a role and a text of each
        assert heard == {str(number) for number in range(MAX_CALLS)}
        await client.say(type="chat", id="more", body=body())
        refused = await client.hear()
        assert (refused["id"], refused["status"]) == ("more", 429)
        await client.say(type="cancel", id="7")
        assert await client.hear() == {"type": "cancelled", "id": "7"}
        assert server.journal.cancelled == ["hold"]
        await client.say(type="chat", id="7", body=body(text="again"))
        assert (await client.hear())["body"]["choices"][0]["message"]["content"] == "again "


async def test_to_cancel_what_is_over_or_never_was_does_nothing() -> None:
    async with served() as server:
        client = await upgrade(server)
        await client.say(type="chat", id="a", body=body())
        assert (await client.hear())["type"] == "answer"
        await client.say(type="cancel", id="a")
        await client.say(type="cancel", id="b")
        await client.say(type="chat", id="b", body=body())
        assert (await client.hear())["type"] == "answer"


async def test_an_id_is_free_as_soon_as_its_chat_is_over() -> None:
    async with served() as server:
        client = await upgrade(server)
        for number in range(50):
            await client.say(type="chat", id="a", body=body(text=f"{number}", stream=True))
            *_, last = await answer(client, "a")
            assert last == {"type": "end", "id": "a"}
        await client.say(type="chat", id="a", body=body("sleep"))
        await client.say(type="cancel", id="a")
        assert await client.hear() == {"type": "cancelled", "id": "a"}


async def test_a_chat_that_is_cancelled_before_it_began_ends_too() -> None:
    chat = frame(TEXT, json.dumps({"type": "chat", "id": "a", "body": body("sleep")}).encode())
    async with served() as server:
        client = await upgrade(server)
        await client.send(chat, frame(TEXT, b'{"type":"cancel","id":"a"}'))
        assert await client.hear() == {"type": "cancelled", "id": "a"}


async def test_a_wrong_text_leaves_everything_else_as_it_is() -> None:
    async with served() as server:
        client = await upgrade(server)
        await client.say(type="chat", id="a", body=body("hold", stream=True))
        await client.hear()
        await client.hear()
        for text in (b"", b"{", b"\x00", b'{"type":"chat","id":"a","body":{}}'):
            await client.send(frame(TEXT, text))
            assert (await client.hear())["id"] is None
        assert server.journal.ended == []


@pytest.mark.parametrize("farewell", ["close", "eof", "reset"])
async def test_a_client_that_goes_has_its_chats_cancelled(farewell: str) -> None:
    async with served() as server:
        client = await upgrade(server)
        for call in "ab":
            await client.say(type="chat", id=call, body=body("sleep"))
        await until(lambda: len(server.journal.begun) == 2)
        match farewell:
            case "close":
                await client.send(frame(CLOSE, struct.pack("!H", 1000)))
                assert (await client.closed())[0] == 1000
            case "eof":
                await client.transport.send_eof()
            case _:
                await client.transport.aclose()
        with anyio.fail_after(60):
            await until(lambda: server.ended)
        assert server.journal.cancelled == ["sleep", "sleep"]


async def test_pings_are_answered_while_chats_run() -> None:
    async with served() as server:
        client = await upgrade(server)
        await client.say(type="chat", id="a", body=body("sleep"))
        await client.send(frame(PING, b"you?"))
        assert await client.receive() == (0xA, b"you?")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"{}"), 1003),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"{}", masked=False), 1002),
        (frame(TEXT, b" " * (text_limit(Limits()) + 1)), 1009),
    ],
    ids=["binary", "no UTF-8", "unmasked", "too large"],
)
async def test_a_breach_of_the_rules_closes_with_its_code(data: bytes, code: int) -> None:
    async with served() as server:
        client = await upgrade(server)
        await client.say(type="chat", id="a", body=body("sleep"))
        await until(lambda: server.journal.begun)
        await client.send(data)
        assert (await client.closed())[0] == code
        with anyio.fail_after(60):
            await until(lambda: server.ended)
        assert server.journal.cancelled == ["sleep"]


async def test_a_large_text_in_fragments_is_read_whole() -> None:
    text = json.dumps({"type": "chat", "id": "a", "body": body("long", "9", user="ä" * 100_000)}).encode()
    pieces = [text[start : start + 1000] for start in range(0, len(text), 1000)]
    async with served() as server:
        client = await upgrade(server)
        await client.send(
            *(
                frame(CONTINUATION if at else TEXT, one, fin=one is pieces[-1])
                for at, one in enumerate(pieces)
            )
        )
        assert (await client.hear())["body"]["choices"][0]["message"]["content"] == "x" * 9


async def test_what_comes_right_behind_the_handshake_is_not_lost() -> None:
    async with served() as server:
        client = await upgrade(server, frame(TEXT, b'{"type":"watch","topics":["models"]}'))
        assert await client.hear() == {"type": "watching", "topics": ["models"]}


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"Origin: https://example.com", 403),
        (b"Origin: null", 403),
        (b"Origin: http://localhost:3000", 101),
    ],
)
async def test_only_pages_of_this_machine_get_one(line: bytes, status: int) -> None:
    async with served() as server:
        transport = await server.connect()
        await transport.send(UPGRADE.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n"))
        assert (await transport.receive()).startswith(b"HTTP/1.1 %d " % status)


async def test_a_refused_handshake_leaves_the_connection_good() -> None:
    async with served() as server:
        transport = await server.connect()
        await transport.send(UPGRADE.replace(b"13", b"8") + UPGRADE)
        answers = await transport.receive()
        while b" 101 " not in answers:
            answers += await transport.receive()
        assert answers.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")


async def test_news_come_to_who_wants_them_and_a_new_wish_takes_the_place_of_the_old() -> None:
    ready = ModelChanged(model="m:1", state="ready", provider="cpu")
    async with served() as server:
        client = await upgrade(server)
        await client.say(type="watch", topics=["models"])
        assert (await client.hear())["type"] == "watching"
        server.journal.feed.publish(ready)
        assert await client.hear() == json.loads(encode(ready))
        await client.say(type="watch", topics=["requests"])
        assert await client.hear() == {"type": "watching", "topics": ["requests"]}
        server.journal.feed.publish(ready)
        await client.say(type="watch", topics=[])
        assert await client.hear() == {"type": "watching", "topics": []}
        await client.send(frame(CLOSE))
        await client.closed()
        with anyio.fail_after(60):
            await until(lambda: server.ended)
        assert not server.journal.feed.watched


async def test_a_slow_watcher_is_let_go_and_others_are_told_all() -> None:
    async with served() as server:
        slow, quick = await upgrade(server), await upgrade(server)
        for client in (slow, quick):
            await client.say(type="watch", topics=["models"])
            await client.hear()
        big = "m" * 20_000  # three of them fill what the connection holds; ten more may wait
        for number in range(40):
            server.journal.feed.publish(ModelChanged(model=f"{big}{number}", state="ready"))
            assert (await quick.hear())["model"].endswith(str(number))
        assert await slow.closed() == (1008, "too slow: more than 10 events or 262144 bytes were waiting")
        server.journal.feed.publish(ModelChanged(model="last", state="ready"))
        assert (await quick.hear())["model"] == "last"


async def stopped_while(model: str, drain: float) -> tuple[list[dict[str, Any]], tuple[int, str]]:
    """Stop a server while a chat runs; gives what was said on the WebSocket since, and how it was closed."""
    stop = anyio.Event()
    listener = OneConnection()
    said = []
    async with anyio.create_task_group() as group:
        run = partial(serve, make_test_application(), [listener.as_listener()], stop=stop, drain=drain)
        await group.start(run)
        client = await upgrade_on(listener.client)
        await client.say(type="watch", topics=["models"])
        assert (await client.hear())["type"] == "watching"
        if model:
            await client.say(type="chat", id="a", body=body(model, "one", stream=True))
            for _ in range(2):
                await client.hear()
        stop.set()
        if model:
            await anyio.sleep(0.05)
            await client.say(type="chat", id="b", body=body())
            said.append(await client.hear())
        closed = await client.closed(said)
    return said, closed


async def test_a_server_that_stops_closes_idle_ones_at_once() -> None:
    with anyio.fail_after(60):
        assert await stopped_while("", 600) == ([], (1001, "the server is stopping"))


async def test_a_server_that_stops_lets_chats_end_and_takes_no_more() -> None:
    said, closed = await stopped_while("slow", 60)
    refused, *rest = said
    assert (refused["id"], refused["status"]) == ("b", 503)
    assert refused["error"]["message"] == "the server is stopping"
    assert [one["type"] for one in rest][-1] == "end"
    assert closed == (1001, "the server is stopping")


async def test_a_server_that_waits_no_longer_says_so() -> None:
    said, closed = await stopped_while("hold", 0.2)
    assert [one["type"] for one in said] == ["error"]
    assert closed == (1001, "the server is stopping")


async def test_who_asks_without_an_upgrade_is_told_so() -> None:
    async with served() as server:
        client: Client = server.client()
        with pytest.raises(ServerFailure, match=r"^upgrade: expected websocket, and upgrade in connection"):
            await client.call(WATCH, cast("Any", None))
        await client.call(CHAT_COMPLETIONS, chat_request())
        assert server.connections == 1
        await client.aclose()
