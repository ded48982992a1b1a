"""Laws of relaying: what reaches the other server, what comes back, and what is said when nothing does."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute, TaskGroup
from anyio.streams.tls import TLSListener, TLSStream

from foundry_proto.events import Request
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.operations import CHAT_COMPLETIONS, Operations
from foundry_runtime.application import Application, Send
from foundry_runtime.client import ServerFailure
from foundry_runtime.models.external import Relay
from foundry_runtime.models.registered import ExternalModel
from foundry_runtime.server import serve
from foundry_runtime.transport import Transport, open_tcp_listeners
from tests.support.applications import chat_request, make_test_application
from tests.support.serving import Served, raw_request, read_all, served, until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def relaying(base_uri: str, **more: Any) -> AsyncIterator[Served]:
    """Serve an application that relays every chat to one server; `more` is the relay's, or a key."""
    key = more.pop("api_key", None)

    @asynccontextmanager
    async def lifespan(_: TaskGroup) -> AsyncIterator[Relay]:
        relay = Relay(**more)
        yield relay
        await relay.aclose()

    async def chat(relay: Relay, request: Request[ChatCompletionRequest], send: Send) -> None:
        model = ExternalModel(
            id="theirs:1", name=request.value.model, type_name="test", base_uri=base_uri, api_key=key
        )
        await relay.answer(model, request, send)

    application = Application(Operations([CHAT_COMPLETIONS]), {"chat_completions": chat}, lifespan)
    async with served(application) as server:
        yield server


@asynccontextmanager
async def another_server() -> AsyncIterator[tuple[str, Any]]:
    """The tests' application over TCP: its address, and what its handler did."""
    application = make_test_application()
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with anyio.create_task_group() as group:
        await group.start(partial(serve, application, [listener]))
        yield f"http://127.0.0.1:{listener.port}/v1", application._running[0]
        group.cancel_scope.cancel()


Play = Callable[[Transport, bytes], Awaitable[None]]


@asynccontextmanager
async def odd_server(play: Play) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers each request as it likes: its address, and the requests that it got."""
    requests: list[bytes] = []

    async def handle(transport: Transport) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await transport.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < size:
            body += await transport.receive()
        requests.append(head + b"\r\n\r\n" + body)
        await play(transport, body)
        await transport.aclose()

    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        try:
            yield f"http://127.0.0.1:{listener.port}", requests
        finally:
            await listener.aclose()
            group.cancel_scope.cancel()


def saying(*pieces: bytes) -> Play:
    async def play(transport: Transport, _: bytes) -> None:
        for piece in pieces:
            await transport.send(piece)
            await anyio.sleep(0.005)

    return play


def reply(status: str, body: bytes, *headers: str, media: str = "application/json") -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Type: {media}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'


async def ask(server: Served, **more: Any) -> bytes:
    """The reply to a chat, as its bytes."""
    transport = await server.connect()
    await transport.send(raw_request(chat_request(**more), "Connection: close"))
    return await read_all(transport)


async def refusal(server: Served, **more: Any) -> tuple[int, dict[str, Any]]:
    """The status and the error object of the reply to a chat."""
    answer = await ask(server, **more)
    head, _, body = answer.partition(b"\r\n\r\n")
    error: dict[str, Any] = json.loads(body)["error"]
    return int(head.split()[1]), error


async def test_whole_and_streamed_answers_are_the_other_servers() -> None:
    async with another_server() as (uri, journal), relaying(uri) as server, server.client() as client:
        whole = await client.call(CHAT_COMPLETIONS, chat_request(text="one two"))
        assert whole.choices[0].message.content == "one two "
        async with client.stream(CHAT_COMPLETIONS, chat_request(text="one two", stream=True)) as chunks:
            said = [chunk.choices[0].delta.content async for chunk in chunks]
        assert "".join(text for text in said if text) == "one two "
        assert journal.begun == ["echo", "echo"]


async def test_chunks_come_as_they_are_made() -> None:
    async with another_server() as (uri, journal), relaying(uri) as server, server.client() as client:
        async with client.stream(CHAT_COMPLETIONS, chat_request("hold", stream=True)) as chunks:
            async for chunk in chunks:
                if chunk.choices[0].delta.content == "begun":
                    break  # the other server's handler has not ended, and will not by itself
            assert journal.ended == []
        with anyio.fail_after(60):
            await until(lambda: journal.cancelled == ["hold"])


async def test_a_hang_up_before_the_answer_reaches_the_other_server_too() -> None:
    async with another_server() as (uri, journal), relaying(uri) as server:
        transport = await server.connect()
        await transport.send(raw_request(chat_request("sleep")))
        await until(lambda: journal.begun)
        await transport.aclose()
        with anyio.fail_after(60):
            await until(lambda: journal.cancelled == ["sleep"])


async def test_a_hang_up_while_tls_begins_reaches_the_other_server_too() -> None:
    greeted, left = anyio.Event(), anyio.Event()

    async def silent(transport: Transport) -> None:
        while await transport.receive():
            greeted.set()
        left.set()

    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with anyio.create_task_group() as group, relaying(f"https://127.0.0.1:{listener.port}") as server:
        group.start_soon(listener.serve, silent)
        transport = await server.connect()
        await transport.send(raw_request(chat_request()))
        with anyio.fail_after(60):
            await greeted.wait()
            await transport.aclose()
            await left.wait()
        group.cancel_scope.cancel()
    await listener.aclose()


async def test_its_failures_come_with_their_status_and_their_error_object() -> None:
    async with another_server() as (uri, _), relaying(uri) as server, server.client() as client:
        with pytest.raises(ServerFailure, match=r"^127\.0\.0\.1:\d+: the server failed on this") as caught:
            await client.call(CHAT_COMPLETIONS, chat_request("raise"))
        assert (caught.value.failure.status, caught.value.failure.type) == (500, "server_error")
        async with client.stream(CHAT_COMPLETIONS, chat_request("raise-late", stream=True)) as chunks:
            with pytest.raises(ServerFailure, match=r"^127\.0\.0\.1:\d+: the server failed on this"):
                [_ async for _ in chunks]


async def test_the_body_goes_on_as_it_came_but_for_the_models_name() -> None:
    body = b'{ "messages":[{"role":"user","content":"\\u00e9"}],\n "x-new": 0.10, "model":"m" }'
    async with odd_server(saying(reply("200 OK", b"{}"))) as (uri, requests), relaying(uri) as server:
        transport = await server.connect()
        await transport.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        assert (await read_all(transport)).endswith(b"\r\n\r\n{}")
        (request,) = requests
        assert request.startswith(b"POST /chat/completions HTTP/1.1\r\n")
        assert request.partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize(
    ("registered", "sent", "expected"),
    [
        (None, None, None),
        (None, "Bearer theirs", b"bearer theirs"),
        ("ours", None, b"bearer ours"),
        ("ours", "Bearer theirs", b"bearer ours"),
    ],
)
async def test_the_registered_key_goes_before_the_clients(
    registered: str | None, sent: str | None, expected: bytes | None
) -> None:
    async with (
        odd_server(saying(reply("200 OK", b"{}"))) as (uri, requests),
        relaying(uri, api_key=registered) as server,
    ):
        transport = await server.connect()
        more = [] if sent is None else [f"Authorization: {sent}"]
        await transport.send(raw_request(chat_request(), "Connection: close", "Cookie: no", *more))
        assert (await read_all(transport)).startswith(b"HTTP/1.1 200 OK\r\n")
        head = requests[0].partition(b"\r\n\r\n")[0].lower()
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        assert lines.get(b"authorization") == expected
        assert b"cookie" not in lines


ODD: dict[str, tuple[bytes, int, str]] = {
    "not JSON": (reply("200 OK", b"<html>"), 502, "body: expected JSON, got a syntax error at line 1"),
    "nothing": (b"", 502, "the connection was lost: "),
    "closes early": (reply("200 OK", b"{}")[:-1], 502, "the connection was lost: "),
    "no HTTP": (b"SSH-2.0-x\r\n", 502, "the connection was lost: "),
    "redirects": (
        reply("302 Found", b"", "Location: https://elsewhere/"),
        502,
        "expected an answer, got status 302 to https://elsewhere/",
    ),
    "error page": (reply("503 Service Unavailable", b"<p>\nlater", media="text/html"), 503,
                   "503 Service Unavailable: <p> later"),
    "silent error": (reply("500 Internal Server Error", b""), 500, "500 Internal Server Error"),
    "endless error": (reply("500 Internal Server Error", b"x" * 100_000), 500, "500 Internal Server Error"),
    "empty stream": (EVENTS, 502, "expected data: [DONE], got the end of the stream"),
    "stream of text": (EVENTS + b"data: hello\n\n", 502, "body: expected JSON, got a syntax error at line 1"),
    "stream of numbers": (EVENTS + b"data: 5\n\n", 502, "the stream ended with an error"),
    "stream of an error": (EVENTS + b'data: {"error":{"message":"no luck"}}\n\n', 502, "no luck"),
    "error event": (EVENTS + b'event: error\ndata: {"message":"no luck"}\n\n', 502, "no luck"),
}  # fmt: skip


async def test_what_is_no_answer_is_told_with_the_servers_name() -> None:
    async def play(transport: Transport, body: bytes) -> None:
        await transport.send(ODD[json.loads(body)["messages"][0]["content"]][0])

    async with odd_server(play) as (uri, _), relaying(uri) as server:
        for odd, (_, status, message) in ODD.items():
            got, error = await refusal(server, text=odd)
            host = uri.removeprefix("http://")
            assert got == status, odd
            assert error["message"].startswith(f"{host}: {message}"), odd


async def test_its_own_words_are_passed_on() -> None:
    theirs = {"message": "slow down", "type": "rate_limit_error", "param": "model", "code": 42}
    data = reply("429 Too Many Requests", json.dumps({"error": theirs}).encode(), "Retry-After: 7")
    async with odd_server(saying(data)) as (uri, _), relaying(uri) as server:
        answer = await ask(server)
        assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"\r\nretry-after: 7\r\n" in answer
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error.pop("message").endswith(": slow down")
        assert error == {"type": "rate_limit_error", "param": "model", "code": "42"}


@pytest.mark.parametrize("end", [b"", b'data: {"error":"gone"}\n\n', b"data: {torn\n\n"])
async def test_a_stream_that_breaks_ends_with_an_error_and_without_done(end: bytes) -> None:
    async with odd_server(saying(EVENTS, CHUNK, end)) as (uri, _), relaying(uri) as server:
        answer = await ask(server, stream=True)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert CHUNK in answer
        assert b'data: {"error":{"message":"127.0.0.1:' in answer
        assert b"data: [DONE]\n\n" not in answer


async def test_an_event_whose_data_stands_on_several_lines_comes_on_one() -> None:
    data = EVENTS + b': hello\nid: 1\ndata: {"a":\ndata: 1}\n\n' + b"data: [DONE]\n\n"
    async with odd_server(saying(data)) as (uri, _), relaying(uri) as server:
        answer = await ask(server, stream=True)
        assert b'data: {"a": 1}\n\n' in answer
        assert b"data: [DONE]\n\n" in answer


async def test_text_that_only_mentions_an_error_is_passed_on() -> None:
    chunk = CHUNK.replace(b'"choices"', b'"error":null,"choices"')
    async with odd_server(saying(EVENTS, chunk, b"data: [DONE]\n\n")) as (uri, _), relaying(uri) as server:
        answer = await ask(server, stream=True)
        assert chunk in answer
        assert b"data: [DONE]\n\n" in answer


async def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        async with relaying(f"http://127.0.0.1:{port}") as server:
            status, error = await refusal(server)
    assert status == 502
    assert error["message"].startswith(f"127.0.0.1:{port}: cannot connect: ")
    assert (error["type"], error["code"]) == ("server_error", "external_server")


async def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with odd_server(saying(reply("200 OK", b"{}"))) as (proxy, requests):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        async with relaying("http://models.example/v1") as server:
            assert (await ask(server)).endswith(b"\r\n\r\n{}")
        assert requests[0].startswith(b"POST http://models.example/v1/chat/completions HTTP/1.1\r\n")


async def test_a_proxy_that_cannot_be_used_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "none://proxy")
    async with relaying("https://models.example/v1") as server:
        status, error = await refusal(server)
    assert (status, error["code"]) == (502, "external_server")
    assert error["message"].startswith("models.example: expected proxies and certificates that can be used")


async def test_the_environments_certificate_authority_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (sockets,) = (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners
    listener = TLSListener(sockets, context, standard_compatible=False)
    uri = f"https://127.0.0.1:{sockets.extra(SocketAttribute.local_port)}/v1"

    async def handle(stream: TLSStream) -> None:
        async with stream:
            data = b""
            while not data.endswith(b"}"):
                data += await stream.receive()
            await stream.send(reply("200 OK", b"{}"))

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        async with relaying(uri) as server:
            status, error = await refusal(server)
            assert (status, "CERTIFICATE_VERIFY_FAILED" in error["message"]) == (502, True)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        async with relaying(uri) as server:
            assert (await ask(server)).startswith(b"HTTP/1.1 200 OK\r\n")
        group.cancel_scope.cancel()


async def test_a_server_that_says_nothing_is_not_waited_for_without_end() -> None:
    async def silent(_: Transport, __: bytes) -> None:
        await anyio.sleep(3600)

    async with odd_server(silent) as (uri, _), relaying(uri, silence=0.05) as server:
        status, error = await refusal(server)
        assert status == 504
        assert error["message"].endswith(": silent for 0.05 seconds")


async def test_a_slow_server_is_no_silent_one() -> None:
    async with (
        odd_server(saying(EVENTS, *[CHUNK] * 5, b"data: [DONE]\n\n")) as (uri, _),
        relaying(uri, silence=5) as server,
    ):
        assert (await ask(server, stream=True)).count(CHUNK) == 5


async def test_a_server_that_was_registered_with_itself_says_so() -> None:
    listeners = await open_tcp_listeners("127.0.0.1", 0)
    uri = f"http://127.0.0.1:{listeners[0].port}/v1"
    async with relaying(uri) as server, anyio.create_task_group() as group:

        async def handle(transport: Transport) -> None:
            await server._serve(transport)

        group.start_soon(listeners[0].serve, handle)
        status, error = await refusal(server)
        assert status == 508
        assert error["message"].endswith("is this very server")
        group.cancel_scope.cancel()
    await listeners[0].aclose()


async def test_a_connection_is_used_again_after_a_stream() -> None:
    async with another_server() as (uri, _), relaying(uri) as server, server.client() as client:
        for _ in range(3):
            async with client.stream(CHAT_COMPLETIONS, chat_request(text="a", stream=True)) as chunks:
                [_ async for _ in chunks]
        relay = server.journal
        (connection,) = relay._client._transport._pool.connections
        assert "Request Count: 3" in repr(connection)
