"""Laws of the ASGI application: by the golden transcripts, and by ASGI's messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import h11
import pytest
from anyio.abc import TaskGroup

from foundry_proto.events import Request
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.operations import ALL, CHAT_COMPLETIONS, Operations
from foundry_runtime.application import Application, Send
from foundry_runtime.asgi import ASGIApplication, Message, address_of, target_of
from tests.proto.test_transcripts import answers
from tests.support.applications import chat_request, make_test_application
from tests.support.asgi_exchanges import Exchange, ask, scope_of
from tests.support.chunking import byte_by_byte
from tests.support.serving import raw_request, until
from tests.support.transcripts import TRANSCRIPTS, Transcript

pytestmark = pytest.mark.anyio

PLAIN = [transcript for transcript in TRANSCRIPTS if b" 101 " not in transcript.response[:16]]


@asynccontextmanager
async def no_lifespan(_: TaskGroup) -> AsyncIterator[None]:
    yield None


def replaying(transcript: Transcript) -> Application[None]:
    """All operations, of which each answers as the transcript shows."""

    async def handler(_: None, request: Request[Any], send: Send) -> None:
        for answer in answers(transcript):
            await send(answer)

    return Application(ALL, {operation.name: handler for operation in ALL}, no_lifespan)


@pytest.mark.parametrize("transcript", PLAIN, ids=str)
async def test_the_golden_transcripts_pass_through_asgi(transcript: Transcript) -> None:
    application = replaying(transcript)
    scope, body = scope_of(transcript.request)
    async with application.running():
        exchange = Exchange(ASGIApplication(application), byte_by_byte(body) or [b""])
        await exchange.run(scope)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=scope["method"], target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(transcript.response)
    head, expected = client.next_event(), b""
    assert isinstance(head, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        expected += event.data
    assert exchange.status == head.status_code
    # Framing is the server's.
    headers = [one for one in head.headers if one[0] != b"transfer-encoding"]
    assert [tuple(one) for one in exchange.sent[0]["headers"]] == [tuple(one) for one in headers]
    assert exchange.body == expected
    assert len(exchange.sent) > 1


CHAT = b"/v1/chat/completions"


@pytest.mark.parametrize(
    ("raw", "status", "text"),
    [
        (b"GET /nope HTTP/1.1\r\nhost: x\r\n\r\n", 404, b"no such route: GET /nope"),
        (b"GET " + CHAT + b" HTTP/1.1\r\nhost: x\r\n\r\n", 405, b"method: expected POST or OPTIONS"),
        (b"OPTIONS " + CHAT + b" HTTP/1.1\r\nhost: x\r\n\r\n", 204, b""),
        (
            b"POST " + CHAT + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 4194305\r\n\r\n",
            413,
            b"body: expected at most 4194304 bytes, got more",
        ),
        (
            b"POST " + CHAT + b" HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n\r\n",
            415,
            b"content-type: expected application/json, got text/plain",
        ),
        (b"POST " + CHAT + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", 400, b"model: expected"),
    ],
)
async def test_what_is_wrong_is_answered_as_the_native_server_does(
    raw: bytes, status: int, text: bytes
) -> None:
    exchange = await ask(raw)
    assert exchange.status == status
    assert text in exchange.body


async def test_a_large_body_is_read_like_a_small_one() -> None:
    exchange = await ask(raw_request(chat_request(text="word " * 20_000)))
    assert exchange.status == 200
    assert exchange.body.count(b"word ") == 20_000


async def test_a_stream_leaves_item_by_item() -> None:
    exchange = await ask(raw_request(chat_request(text="one two", stream=True)))
    events = [message["body"] for message in exchange.sent[1:]]
    assert sum(b'"content":"one "' in event for event in events) == 1
    assert sum(b'"content":"two "' in event for event in events) == 1
    assert not any(b"one" in event and b"two" in event for event in events)
    assert exchange.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_handler_that_fails_still_answers(stream: bool) -> None:
    exchange = await ask(raw_request(chat_request("raise-late" if stream else "raise", stream=stream)))
    assert exchange.status == (200 if stream else 500)
    assert b"the server failed on this request" in exchange.body
    assert b"secret" not in exchange.body


async def test_an_application_that_nobody_runs_says_so() -> None:
    scope, body = scope_of(raw_request(chat_request()))
    exchange = Exchange(ASGIApplication(make_test_application()), [body])
    await exchange.run(scope)
    assert exchange.status == 503
    assert b"the server is not running" in exchange.body


@pytest.mark.parametrize("model", ["sleep", "hold"])
async def test_a_hang_up_cancels_the_work(model: str) -> None:
    application = make_test_application()
    scope, body = scope_of(raw_request(chat_request(model, stream=True)))
    async with application.running() as journal, anyio.create_task_group() as tasks:
        exchange = Exchange(ASGIApplication(application), [body])
        tasks.start_soon(exchange.run, scope)
        await until(lambda: journal.begun)
        exchange.gone.set()
    assert journal.cancelled == [model]


async def test_a_hang_up_while_the_body_comes_ends_the_request() -> None:
    application = make_test_application()
    scope, _ = scope_of(raw_request(chat_request()))
    async with application.running() as journal:
        exchange = Exchange(ASGIApplication(application), [])
        exchange.gone.set()
        await exchange.run(scope)
    assert (exchange.sent, journal.begun) == ([], [])


@pytest.mark.parametrize("stream", [True, False])
async def test_an_end_that_the_server_takes_is_not_cut_by_its_word_that_all_is_over(stream: bool) -> None:
    application = make_test_application()
    scope, body = scope_of(raw_request(chat_request(text="one", stream=stream)))
    taken: list[Message] = []
    async with application.running():
        exchange = Exchange(ASGIApplication(application), [body])
        exchange.left = [body]

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and not message["more_body"]:
                exchange.gone.set()
                await anyio.sleep(0.01)  # As hypercorn on trio, which closes the connection there.
            taken.append(message)

        await exchange.app({**scope, "type": "http"}, exchange.receive, send)
    assert taken[-1]["more_body"] is False


async def test_a_send_that_fails_is_a_hang_up(caplog: pytest.LogCaptureFixture) -> None:
    application = make_test_application()
    scope, body = scope_of(raw_request(chat_request("endless", stream=True)))

    async def send(message: Message) -> None:
        raise OSError

    async with application.running() as journal:
        exchange = Exchange(ASGIApplication(application), [body])
        exchange.left = [body]
        await exchange.app({**scope, "type": "http"}, exchange.receive, send)
    assert journal.ended == ["endless"]
    assert caplog.records == []


# The scope


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        ({"path": "/a/b", "raw_path": b"/a/b"}, "/a/b"),
        ({"path": "/a b/ü"}, "/a%20b/%C3%BC"),
        ({"path": "/a/b", "raw_path": None, "query_string": b"x=1&y=%20"}, "/a/b?x=1&y=%20"),
        ({"path": "/a/b/c", "raw_path": b"/a/b%2Fc"}, "/a/b%2Fc"),
        ({"path": "/pre/a", "raw_path": b"/pre/a", "root_path": "/pre"}, "/a"),
        ({"path": "/pre", "raw_path": b"/pre", "root_path": "/pre"}, "/"),
        ({"path": "/pre/", "raw_path": b"/pre/", "root_path": "/pre/"}, "/"),
        ({"path": "/prefix/a", "raw_path": b"/prefix/a", "root_path": "/pre"}, "/prefix/a"),
        ({"path": "/a", "raw_path": b"/a", "root_path": "/pre"}, "/a"),
        ({"path": "/p q/r/a", "raw_path": b"/p%20q/r/a", "root_path": "/p q/r"}, "/a"),
        ({"path": "/\xff", "raw_path": b"/\xff", "query_string": b"\xff"}, "/%FF?%FF"),
    ],
)
async def test_the_target_is_what_lies_below_the_prefix(scope: dict[str, Any], target: str) -> None:
    assert target_of(scope) == target


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (["::1", 80], "[::1]:80"),
        (None, None),
        (("/run/x.sock", None), None),
        (("", 0), ":0"),
    ],
)
async def test_a_clients_address_is_written_as_a_url_has_it(client: Any, address: str | None) -> None:
    assert address_of(client) == address


async def test_only_local_clients_are_local() -> None:
    async def handler(_: None, request: Request[Any], send: Send) -> None:
        raise AssertionError

    local = [operation for operation in ALL if operation.local]
    application = Application(Operations(local), {one.name: handler for one in local}, no_lifespan)
    raw = b"POST /shutdown HTTP/1.1\r\nhost: x\r\n\r\n"
    assert (await ask(raw, application=application, client=("10.0.0.1", 1))).status == 403
    assert (await ask(raw, application=application, client=None)).status == 403
    assert (await ask(raw, application=application)).status == 500


async def test_a_scope_of_another_kind_is_refused() -> None:
    app = ASGIApplication(make_test_application())
    with pytest.raises(RuntimeError, match=r"^scope: expected http, lifespan or websocket, got tea$"):
        await app({"type": "tea"}, None, None)  # type: ignore[arg-type]


async def test_a_server_that_opens_no_websockets_has_that_said() -> None:
    asked = b"".join(
        (
            b"GET /foundry/watch HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n",
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
    )
    exchange = await ask(asked)
    assert exchange.status == 501
    assert b"the server that carries this application opens no WebSockets" in exchange.body
    assert (await ask(b"GET /foundry/watch HTTP/1.1\r\nhost: x\r\n\r\n")).status == 426


async def lived(application: Application[Any]) -> list[Message]:
    """What an application says while a server starts and stops."""
    sent: list[Message] = []
    news = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Message:
        return {"type": next(news)}

    async def send(message: Message) -> None:
        sent.append(message)

    await ASGIApplication(application)({"type": "lifespan"}, receive, send)
    return sent


@pytest.mark.parametrize("fails", ["startup", "shutdown", "never"])
async def test_the_lifespan_tells_how_it_goes(fails: str, caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(_: TaskGroup) -> AsyncIterator[None]:
        if fails == "startup":
            raise ValueError("no model")
        yield None
        if fails == "shutdown":
            raise ValueError("no model")

    async def handler(_: None, request: Request[ChatCompletionRequest], send: Send) -> None: ...

    application = Application(Operations([CHAT_COMPLETIONS]), {"chat_completions": handler}, lifespan)
    told = await lived(application)
    kinds = [message["type"].removeprefix("lifespan.") for message in told]
    expected = {
        "startup": ["startup.failed"],
        "shutdown": ["startup.complete", "shutdown.failed"],
        "never": ["startup.complete", "shutdown.complete"],
    }
    assert kinds == expected[fails]
    assert [message["message"] for message in told if "message" in message] == (
        [] if fails == "never" else ["no model"]
    )
    assert len(caplog.records) == (fails != "never")
