"""Laws of a WebSocket under an ASGI server, which the tests play message by message."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import define, field

from foundry_proto.connection import Limits
from foundry_proto.events import Failure, Request
from foundry_proto.exchange import Asked
from foundry_proto.messages.watch import ModelChanged
from foundry_proto.operations import Operations
from foundry_proto.operations.service import HEALTH
from foundry_runtime.application import Application, Send, WorkLimits
from foundry_runtime.asgi import ASGIApplication, Message
from foundry_runtime.server import TimeOuts
from foundry_serve.security import Policy, bound_names
from tests.support.applications import Journal, make_test_application
from tests.support.serving import under_virtual_clock, until

pytestmark = pytest.mark.anyio

SCOPE = {
    "type": "websocket",
    "path": "/foundry/watch",
    "raw_path": b"/foundry/watch",
    "root_path": "",
    "query_string": b"",
    "headers": [(b"host", b"localhost:8000")],
    "client": ("127.0.0.1", 50123),
    "subprotocols": [],
    "extensions": {"websocket.http.response": {}},
}
CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}
GONE = {"type": "websocket.disconnect", "code": 1001, "reason": "the page was left"}


def closed(code: int, reason: str = "") -> Message:
    return {"type": "websocket.close", "code": code, "reason": reason}


TOO_BIG = closed(1009, "expected a message of at most 65537 bytes, got more")
STOPPING = closed(1001, "the server is stopping")


@define
class Peer:
    """A server and its client: what they say, and what they are told."""

    journal: Journal
    _inbox: MemoryObjectSendStream[Message]
    told: list[Message] = field(factory=list)
    """All that the application sent."""
    heard: int = 1
    """How many of these the client has read; the first is the acceptance."""
    ended: bool = False
    """Whether the application has returned."""
    room: float = float("inf")
    """How many messages the server takes before it has the application wait for the client."""
    breaks: Exception | None = None
    """What sending ends with, as where the client is gone."""
    pause: float = 0.001
    """Between two looks."""

    async def send(self, message: Message) -> None:
        if self.breaks is not None:
            raise self.breaks
        self.told.append(message)
        while len(self.told) > self.room:  # noqa: ASYNC110 - tests change it
            await anyio.sleep(self.pause)

    def put(self, message: Message) -> None:
        self._inbox.send_nowait(message)

    def say(self, **message: Any) -> None:
        self.put({"type": "websocket.receive", "text": json.dumps(message)})

    def chat(self, model: str, call: str = "a", text: str = "one two", *, stream: bool = True) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
        self.say(type="chat", id=call, body=body)

    async def next(self) -> Message:
        """What the client is told next."""
        await until(lambda: len(self.told) > self.heard, pause=self.pause)
        self.heard += 1
        return self.told[self.heard - 1]

    async def hear(self) -> dict[str, Any]:
        message = await self.next()
        assert list(message) == ["type", "text"]
        assert message["type"] == "websocket.send"
        plain: dict[str, Any] = json.loads(message["text"])
        return plain

    async def end(self) -> None:
        with anyio.fail_after(60):
            await until(lambda: self.ended, pause=0.01)


@asynccontextmanager
async def opened(
    *first: Message,
    application: Application[Any] | None = None,
    scope: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Peer]:
    """A WebSocket's scope while the application serves it; at the end the application must have returned."""
    application = application or make_test_application()
    app = ASGIApplication(application, **more)
    inbox: tuple[MemoryObjectSendStream[Message], MemoryObjectReceiveStream[Message]]
    inbox = anyio.create_memory_object_stream(1000)
    async with application.running() as journal, anyio.create_task_group() as tasks:
        peer = Peer(journal, inbox[0])

        async def serve() -> None:
            await app({**SCOPE, **(scope or {})}, inbox[1].receive, peer.send)
            peer.ended = True

        with inbox[0], inbox[1]:
            for message in first or (CONNECT,):
                peer.put(message)
            tasks.start_soon(serve)
            yield peer
            await peer.end()


# The opening.


async def test_a_handshake_that_the_server_has_seen_to_is_accepted() -> None:
    async with opened() as peer:
        peer.say(type="watch", topics=["models"])
        assert await peer.hear() == {"type": "watching", "topics": ["models"]}
        assert peer.told[0] == ACCEPT  # and no subprotocol
        peer.put(GONE)


async def denied(*, extended: bool = True, **more: Any) -> list[Message]:
    """What is sent to who gets no WebSocket."""
    scope = {**more.pop("scope", {}), "extensions": {"websocket.http.response": {}} if extended else None}
    async with opened(scope=scope, **more) as peer:
        await peer.end()
        return peer.told


def with_headers(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"headers": [(b"host", b"localhost"), *headers]}


POLICY = Policy(names=bound_names("localhost", ["127.0.0.1"]), keys=("a-key-of-sixteen-characters",))
KEY = (b"api-key", b"a-key-of-sixteen-characters")


def gated() -> Application[Any]:
    """The test application with the product's rules."""
    return make_test_application(gate=POLICY)


@pytest.mark.parametrize(
    ("scope", "make", "status", "code"),
    [
        (with_headers((b"origin", b"http://evil.example")), make_test_application, 403, "foreign_origin"),
        # As `websockets` writes them under uvicorn.
        (with_headers((b"Origin", b"http://evil.example")), make_test_application, 403, "foreign_origin"),
        ({"path": "/nope", "raw_path": b"/nope"}, make_test_application, 404, "unknown_url"),
        (
            {"path": "/v1/chat/completions", "raw_path": None},
            make_test_application,
            405,
            "method_not_allowed",
        ),
        (with_headers(), gated, 401, "invalid_api_key"),
        ({"headers": [(b"host", b"evil.example")]}, gated, 421, "unknown_host"),
        (with_headers(KEY, (b"origin", b"http://evil.example")), gated, 403, "foreign_origin"),
        (with_headers(KEY, (b"sec-fetch-site", b"cross-site")), gated, 403, "foreign_origin"),
    ],
)
@pytest.mark.parametrize("extended", [True, False])
async def test_who_may_have_none_is_told_why_where_the_server_can(
    scope: dict[str, Any], make: Callable[[], Application[Any]], status: int, code: str, extended: bool
) -> None:
    told = await denied(scope=scope, application=make(), extended=extended)
    if not extended:
        assert told == [closed(1000)]  # which the server answers with 403
        return
    start, body = told
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert (body["type"], body["more_body"]) == ("websocket.http.response.body", False)
    assert json.loads(body["body"])["error"]["code"] == code
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(body["body"])


@pytest.mark.parametrize("headers", [(), ((b"origin", b"http://localhost"),)])
async def test_who_has_the_key_gets_one(headers: Sequence[tuple[bytes, bytes]]) -> None:
    async with opened(scope=with_headers(KEY, *headers), application=gated()) as peer:
        await until(lambda: peer.told)
        assert peer.told == [ACCEPT]
        peer.put(GONE)


async def test_an_application_that_nobody_runs_opens_none() -> None:
    told: list[Message] = []

    async def receive() -> Message:
        return CONNECT

    async def send(message: Message) -> None:
        told.append(message)

    await ASGIApplication(make_test_application())(dict(SCOPE), receive, send)
    assert told[0]["status"] == 503


async def test_another_route_answers_as_over_http() -> None:
    async def health(_: None, request: Request[Any], send: Send) -> None:
        await send(Failure(status=503, message="not today"))

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield

    application = Application(Operations([HEALTH]), {"health": health}, lifespan)
    start, body = await denied(scope={"path": "/health", "raw_path": b"/health"}, application=application)
    assert start["status"] == 503
    assert b"not today" in body["body"]


async def test_it_is_below_the_prefix_that_it_is_mounted_at() -> None:
    scope = {"path": "/models/foundry/watch", "raw_path": b"/models/foundry/watch", "root_path": "/models"}
    async with opened(scope=scope) as peer:
        await until(lambda: peer.told)
        assert peer.told == [ACCEPT]
        peer.put(GONE)


async def test_the_gate_sees_a_handshake_whatever_the_server_has_kept_to_itself() -> None:
    seen: list[Asked] = []

    def gate(asked: Asked) -> tuple[()]:
        seen.append(asked)
        return ()

    application = make_test_application(gate=gate)
    kept = ((b"upgrade", b"WebSocket"), (b"sec-websocket-key", b"x"), (b"sec-websocket-protocol", b"chat"))
    async with opened(CONNECT, GONE, scope=with_headers(*kept), application=application):
        pass
    ((method, client, headers),) = [(asked.method, asked.client, asked.headers) for asked in seen]
    assert (method, client) == ("GET", "127.0.0.1:50123")
    assert [value for name, value in headers if name == b"upgrade"] == [b"websocket"]
    assert (b"sec-websocket-protocol", b"chat") in headers


# Clients that go.


async def test_who_leaves_before_the_accept_is_told_nothing() -> None:
    async with opened(GONE) as peer:
        await peer.end()
        assert peer.told == []


@pytest.mark.parametrize("breaks", [OSError(), RuntimeError("after close"), None])
async def test_who_leaves_while_it_is_accepted_ends_it(breaks: Exception | None) -> None:
    """The server says so when it is told, or at the next message."""
    async with opened(CONNECT, *(() if breaks else (GONE,))) as peer:
        peer.breaks = breaks
        await peer.end()
        assert peer.told in ([], [ACCEPT])


@pytest.mark.parametrize("how", ["disconnect", "OSError"])
async def test_who_leaves_has_its_chats_cancelled_and_its_watch_ended(how: str) -> None:
    async with opened() as peer:
        peer.say(type="watch", topics=["models"])
        peer.chat("hold", "a")
        peer.chat("endless" if how == "OSError" else "hold", "b")
        await until(lambda: len(peer.journal.begun) == 2)
        if how == "disconnect":
            peer.put(GONE)
        else:
            peer.breaks = OSError()
        await peer.end()
        assert len(peer.journal.ended) == 2
        assert not peer.journal.feed.watched
        assert "websocket.close" not in {message["type"] for message in peer.told}


async def test_a_chat_that_is_cancelled_says_so() -> None:
    async with opened() as peer:
        peer.chat("sleep")
        peer.say(type="cancel", id="a")
        assert await peer.hear() == {"type": "cancelled", "id": "a"}
        peer.put(GONE)


# What is said.


async def test_chats_are_answered_side_by_side() -> None:
    async with opened() as peer:
        peer.chat("hold", "a")
        peer.chat("echo", "b", stream=False)
        heard = [await peer.hear() for _ in range(3)]
        (answer,) = [text for text in heard if text["id"] == "b"]
        assert answer["body"]["choices"][0]["message"]["content"] == "one two "
        peer.put(GONE)


async def test_news_come_in_their_order() -> None:
    async with opened() as peer:
        peer.say(type="watch", topics=["models"])
        await peer.hear()
        for number in range(30):
            peer.journal.feed.publish(ModelChanged(model=f"{number}", state="ready"))
            assert (await peer.hear())["model"] == f"{number}"
        peer.put(GONE)


@pytest.mark.parametrize(
    ("message", "close"),
    [
        ({"bytes": b"{}"}, closed(1003, "expected a text message, got a binary one")),
        ({"bytes": b"", "text": None}, closed(1003, "expected a text message, got a binary one")),
        ({"text": "x" * 65_538, "bytes": None}, TOO_BIG),
        ({"text": "ü" * 32_769}, TOO_BIG),
    ],
)
async def test_a_breach_of_the_rules_closes_with_its_code(message: Message, close: Message) -> None:
    async with opened(limits=Limits(body=1)) as peer:
        peer.say(type="watch", topics=[])
        assert (await peer.hear())["type"] == "watching"
        peer.put({"type": "websocket.receive", **message})
        assert await peer.next() == close
        peer.put({"type": "websocket.receive", "text": '{"type":"watch","topics":[]}'})  # too late
        peer.put({"type": "websocket.disconnect"})
        await peer.end()
        assert peer.told[-1] == close


async def test_a_wrong_text_ends_nothing() -> None:
    async with opened() as peer:
        peer.put({"type": "websocket.receive", "text": ""})
        assert (await peer.hear())["type"] == "error"
        peer.chat("echo", stream=False)
        assert (await peer.hear())["type"] == "answer"
        peer.put(GONE)


@pytest.mark.parametrize(
    ("more", "body", "status", "message"),
    [
        (
            {"limits": Limits(body=100)},
            {"user": "x" * 200},
            413,
            "body: expected at most 100 bytes, got more",
        ),
        ({"limits": Limits(depth=5)}, {"tools": [[[[[[[]]]]]]]}, 400, "body: expected at most 5 levels"),
    ],
)
async def test_a_chats_body_has_the_limits_of_a_requests(
    more: dict[str, Any], body: dict[str, Any], status: int, message: str
) -> None:
    async with opened(**more) as peer:
        peer.say(type="chat", id="a", body={"model": "echo", "messages": [], **body})
        refused = await peer.hear()
        assert (refused["id"], refused["status"]) == ("a", status)
        assert refused["error"]["message"].startswith(message)
        peer.put(GONE)


async def test_a_chat_waits_for_no_other_where_too_many_are_worked_on() -> None:
    application = make_test_application(work=WorkLimits(requests=1))
    async with opened(application=application) as peer:
        peer.chat("sleep")
        await until(lambda: peer.journal.begun)
        peer.chat("echo", "b")
        refused = await peer.hear()
        assert (refused["id"], refused["status"], refused["error"]["code"]) == ("b", 503, "overloaded")
        assert refused["headers"] == {"retry-after": "5"}
        peer.put(GONE)


# Clients that are slow.


async def test_a_slow_watcher_is_let_go() -> None:
    async with opened() as peer:
        peer.say(type="watch", topics=["models"])
        await peer.hear()
        peer.room = 2
        for number in range(40):
            peer.journal.feed.publish(ModelChanged(model=f"{number}", state="ready"))
            await anyio.lowlevel.checkpoint()
        peer.room = float("inf")
        await until(lambda: peer.told[-1]["type"] == "websocket.close")
        assert peer.told[-1] == closed(1008, "too slow: more than 10 events or 262144 bytes were waiting")
        assert not peer.journal.feed.watched
        peer.put(GONE)


TIME_OUTS = TimeOuts(write=30, linger=2)


def test_a_reader_that_takes_nothing_is_given_up_and_its_chats_end() -> None:
    async def run() -> None:
        async with opened(time_outs=TIME_OUTS) as peer:
            peer.pause = 0.1
            peer.room = 3
            begin = anyio.current_time()
            peer.chat("endless", "a")
            peer.chat("endless", "b")
            await until(lambda: peer.ended, pause=0.1)
            assert 29 <= anyio.current_time() - begin <= 61
            assert peer.journal.ended == ["endless", "endless"]
            assert len(peer.told) == 4

    under_virtual_clock(run)


def test_a_watcher_that_reads_nothing_holds_nothing_and_is_given_up() -> None:
    async def run() -> None:
        async with opened(time_outs=TIME_OUTS) as peer:
            peer.pause = 0.1
            peer.say(type="watch", topics=["models"])
            await peer.hear()
            peer.room = 2
            for _ in range(40):
                peer.journal.feed.publish(ModelChanged(model="m", state="ready"))
                await anyio.lowlevel.checkpoint()
            (watcher,) = peer.journal.feed.watchers
            assert watcher.held == 0
            begin = anyio.current_time()
            await until(lambda: peer.ended, pause=0.1)
            assert anyio.current_time() - begin <= 61
            assert not peer.journal.feed.watched

    under_virtual_clock(run)


def test_a_server_that_does_not_say_that_it_has_parted_is_not_waited_for_long() -> None:
    async def run() -> None:
        async with opened(time_outs=TIME_OUTS) as peer:
            peer.pause = 0.1
            peer.put({"type": "websocket.receive", "bytes": b""})
            begin = anyio.current_time()
            await until(lambda: peer.ended, pause=0.1)
            assert anyio.current_time() - begin == pytest.approx(2, abs=0.2)
            assert peer.told[-1]["code"] == 1003

    under_virtual_clock(run)


def test_a_silent_client_is_the_servers_to_notice() -> None:
    async def run() -> None:
        async with opened(time_outs=TIME_OUTS) as peer:
            peer.pause = 0.1
            await anyio.sleep(50_000)
            peer.chat("echo", stream=False)
            assert (await peer.hear())["type"] == "answer"
            peer.put(GONE)

    under_virtual_clock(run)


def test_a_chat_may_take_as_long_as_any_request() -> None:
    async def run() -> None:
        application = make_test_application(work=WorkLimits(seconds=60))
        async with opened(application=application) as peer:
            peer.pause = 0.1
            peer.chat("sleep", stream=False)
            begin = anyio.current_time()
            refused = await peer.hear()
            assert anyio.current_time() - begin == pytest.approx(60, abs=0.2)
            assert (refused["status"], refused["error"]["code"]) == (503, "took_too_long")
            peer.put(GONE)

    under_virtual_clock(run)


# Servers that stop.


async def test_a_server_that_cancels_has_good_bye_said() -> None:
    application = make_test_application()
    inbox = anyio.create_memory_object_stream[Message](10)
    async with application.running() as journal:
        peer = Peer(journal, inbox[0])
        with inbox[0], inbox[1]:
            async with anyio.create_task_group() as tasks:
                peer.put(CONNECT)
                peer.chat("hold")
                tasks.start_soon(ASGIApplication(application), dict(SCOPE), inbox[1].receive, peer.send)
                await until(lambda: len(peer.told) == 3)
                tasks.cancel_scope.cancel()
        assert peer.told[-1] == closed(1001)
        assert journal.cancelled == ["hold"]


async def test_a_server_that_stops_has_idle_ones_closed() -> None:
    """Where it says so before it closes its WebSockets."""
    app = ASGIApplication(make_test_application())
    life, inbox = (anyio.create_memory_object_stream[Message](10) for _ in range(2))
    said: list[Message] = []

    async def note(message: Message) -> None:
        said.append(message)

    with life[0], life[1], inbox[0], inbox[1]:
        async with anyio.create_task_group() as tasks:
            life[0].send_nowait({"type": "lifespan.startup"})
            tasks.start_soon(app, {"type": "lifespan"}, life[1].receive, note)
            await until(lambda: said)
            peer = Peer(Journal(), inbox[0])
            peer.put(CONNECT)
            tasks.start_soon(app, dict(SCOPE), inbox[1].receive, peer.send)
            peer.say(type="watch", topics=["models"])
            await peer.hear()
            life[0].send_nowait({"type": "lifespan.shutdown"})
            assert await peer.next() == STOPPING
            peer.put({"type": "websocket.disconnect", "code": 1001})
    assert [message["type"] for message in said] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
