"""Laws of serving: what a client sees, and what its hang-up does."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from foundry_proto.messages.completions import ChatCompletion
from foundry_proto.operations import CHAT_COMPLETIONS, Operations
from foundry_runtime.application import Application, WorkLimits
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.server import serve
from foundry_runtime.transport import Handler, Transport, connect_tcp, open_tcp_listeners
from tests.support.applications import chat_request, make_test_application
from tests.support.serving import raw_request, read_all, served, until

pytestmark = pytest.mark.anyio


def said(completion: ChatCompletion) -> str | None:
    return completion.choices[0].message.content


async def test_an_answer_comes_whole_or_in_chunks_that_add_up_to_it() -> None:
    async with served() as server, server.client() as client:
        whole = await client.call(CHAT_COMPLETIONS, chat_request(text="one two three"))
        assert said(whole) == "one two three "
        async with client.stream(CHAT_COMPLETIONS, chat_request(text="one two three", stream=True)) as chunks:
            pieces = [chunk.choices[0].delta.content async for chunk in chunks]
        assert "".join(piece for piece in pieces if piece) == "one two three "


async def test_one_connection_serves_many_requests_one_after_the_other() -> None:
    async with served() as server:
        transport = await server.connect()
        await transport.send(raw_request(chat_request(text="a")) * 3)
        await transport.send(raw_request(chat_request(text="b"), "Connection: close"))
        answers = await read_all(transport)
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 4
        assert answers.count(b'"content":"a "') == 3
        assert server.journal.begun == ["echo"] * 4


async def test_a_request_that_comes_right_behind_an_answer_is_served() -> None:
    async with served() as server:
        transport = await server.connect()
        for _ in range(20):
            await transport.send(raw_request(chat_request(text="")))
            assert (await transport.receive()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_every_answer_names_server_and_date() -> None:
    async with served() as server:
        transport = await server.connect()
        await transport.send(b"GET /nowhere HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        head, _, body = (await read_all(transport)).partition(b"\r\n\r\n")
        assert b"\r\nserver: foundry-proto/" in head
        assert b"\r\ndate: " in head
        assert b"no such route: GET /nowhere" in body


async def test_content_that_is_wrong_leaves_the_connection_good() -> None:
    async with served() as server:
        transport = await server.connect()
        await transport.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n{}"
        )
        await transport.send(raw_request(chat_request(), "Connection: close"))
        answers = await read_all(transport)
        assert answers.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"model: expected a string, got nothing" in answers
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 1


async def test_broken_framing_is_answered_and_ends_the_connection() -> None:
    async with served() as server:
        transport = await server.connect()
        await transport.send(b"GET / HTTP/1.1\nHost: test\n\n" + raw_request(chat_request()))
        answers = await read_all(transport)
        assert answers.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answers.count(b"HTTP/1.1") == 1


async def test_a_body_is_asked_for_only_when_it_is_wanted() -> None:
    request = raw_request(chat_request(), "Expect: 100-continue", "Connection: close")
    head, _, body = request.partition(b"\r\n\r\n")
    async with served() as server:
        transport = await server.connect()
        await transport.send(head + b"\r\n\r\n")
        assert (await transport.receive()).startswith(b"HTTP/1.1 100")
        await transport.send(body)
        assert (await read_all(transport)).startswith(b"HTTP/1.1 200 OK\r\n")
        refused = await server.connect()
        await refused.send(head.replace(b"/v1/chat/completions", b"/nowhere") + b"\r\n\r\n")
        assert (await read_all(refused)).startswith(b"HTTP/1.1 404 Not Found\r\n")


@pytest.mark.parametrize("model", ["raise", "nothing"])
async def test_a_handler_that_fails_still_answers_and_tells_nothing(
    model: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as server, server.client() as client:
        with pytest.raises(ServerFailure, match=r"^the server failed on this request$") as caught:
            await client.call(CHAT_COMPLETIONS, chat_request(model))
        assert (caught.value.failure.status, caught.value.failure.type) == (500, "server_error")
        assert said(await client.call(CHAT_COMPLETIONS, chat_request())) == "hi "
    assert [record.message for record in caplog.records] == [
        "chat_completions failed" if model == "raise" else "chat_completions ended without a whole answer"
    ]


async def test_a_handler_that_fails_late_ends_the_stream_with_an_error_and_without_done() -> None:
    async with served() as server:
        transport = await server.connect()
        await transport.send(raw_request(chat_request("raise-late", stream=True), "Connection: close"))
        answer = await read_all(transport)
        assert b'"content":"begun"' in answer
        assert b"[DONE]" not in answer
        assert (
            b'data: {"error":{"message":"the server failed on this request","type":"server_error",'
            b'"param":null,"code":null}}\n\n'
        ) in answer


@pytest.mark.parametrize("stream", [True, False])
async def test_a_hang_up_cancels_the_work(stream: bool) -> None:
    async with served() as server:
        transport = await server.connect()
        await transport.send(raw_request(chat_request("hold" if stream else "sleep", stream=stream)))
        if stream:
            await transport.receive()
        await until(lambda: server.journal.begun)
        await transport.aclose()
        with anyio.fail_after(60):
            await until(lambda: server.journal.ended and server.ended)
        assert server.journal.cancelled == server.journal.begun


async def test_a_client_that_leaves_a_stream_early_hangs_up() -> None:
    async with served() as server, server.client() as client:
        async with client.stream(CHAT_COMPLETIONS, chat_request("hold", stream=True)) as chunks:
            async for chunk in chunks:
                if chunk.choices[0].delta.content:
                    break
        with anyio.fail_after(60):
            await until(lambda: server.journal.cancelled)
        assert said(await client.call(CHAT_COMPLETIONS, chat_request())) == "hi "


async def test_what_comes_while_an_answer_is_made_is_not_lost() -> None:
    async with served() as server:
        transport = await server.connect()
        second = raw_request(chat_request(text="second"), "Connection: close")
        await transport.send(raw_request(chat_request("endless", stream=True)))
        await transport.send(second[:40])
        received = 0
        while received < 300_000:
            received += len(await transport.receive())
        await transport.aclose()
        other = await server.connect()
        await other.send(raw_request(chat_request("slow", text="a", stream=True)))
        await other.send(second)
        answers = await read_all(other)
        assert answers.index(b'"content":"a "') < answers.index(b'"content":"second "')


async def test_an_application_that_does_not_run_says_so() -> None:
    application = make_test_application()
    async with served(application) as server, server.client() as client:
        application._running.clear()
        with pytest.raises(ServerFailure, match=r"^the server is not running$") as caught:
            await client.call(CHAT_COMPLETIONS, chat_request())
        assert caught.value.failure.status == 503


@pytest.mark.parametrize(
    ("operations", "handlers"),
    [(Operations([CHAT_COMPLETIONS]), {}), (Operations([]), {"chat_completions": None})],
)
def test_every_operation_has_one_handler_and_every_handler_an_operation(
    operations: Operations, handlers: dict[str, None]
) -> None:
    with pytest.raises(
        ValueError,
        match=r"^expected one handler for each operation, which fails for chat_completions$",
    ):
        Application(operations, handlers, None)  # type: ignore[arg-type]


async def test_over_tcp_stopping_lets_running_answers_end() -> None:
    application = make_test_application()
    listeners = await open_tcp_listeners("127.0.0.1", 0)
    stop = anyio.Event()
    async with anyio.create_task_group() as group:

        async def run(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            await serve(application, listeners, stop=stop, task_status=task_status)
            group.cancel_scope.cancel()  # the client below has long finished

        await group.start(run)
        async with (
            Client(f"http://127.0.0.1:{listeners[0].port}") as client,
            Client(f"http://127.0.0.1:{listeners[0].port}") as idle,
        ):
            await idle.call(CHAT_COMPLETIONS, chat_request())
            request = chat_request("slow", text="one two", stream=True)
            async with client.stream(CHAT_COMPLETIONS, request) as chunks:
                text = ""
                async for chunk in chunks:
                    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                    stop.set()
            assert text == "one two "
            with pytest.raises(OSError, match=r"127\.0\.0\.1:"):
                await Client(f"http://127.0.0.1:{listeners[0].port}").call(CHAT_COMPLETIONS, chat_request())


async def test_over_tcp_stopping_does_not_cut_an_answer_that_its_client_reads_slowly() -> None:
    listeners = await open_tcp_listeners("127.0.0.1", 0)
    application, stop = make_test_application(), anyio.Event()
    # Far more than the system holds for a connection: sending it waits for the reader.
    text = "x" * 8_000_000
    async with anyio.create_task_group() as group:
        await group.start(partial(serve, application, listeners, stop=stop))
        transport = await connect_tcp("127.0.0.1", listeners[0].port)
        await transport.send(raw_request(chat_request("long", text=str(len(text)))))
        answer = await transport.receive()
        stop.set()
        await until(lambda: repr(listeners[0]).endswith(", closed>"))
        await anyio.wait_all_tasks_blocked()
        answer += await read_all(transport)
        await transport.aclose()
    assert text.encode() in answer


async def test_a_cancelled_server_leaves_no_listener_open() -> None:
    listeners = await open_tcp_listeners("127.0.0.1", 0)
    async with anyio.create_task_group() as group:
        group.start_soon(serve, make_test_application(), listeners)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    with pytest.raises(OSError, match=r"127\.0\.0\.1:"):
        await Client(f"http://127.0.0.1:{listeners[0].port}").call(CHAT_COMPLETIONS, chat_request())


async def test_over_tcp_a_mistake_below_costs_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Transport):
        """What a library does that fails in a way that nobody has promised."""

        peer, deadline = None, None

        async def receive(self) -> bytes:
            raise TypeError("expected string or bytes-like object")

        async def aclose(self) -> None:
            pass

    class Listening:
        async def serve(self, handler: Handler, **_: object) -> None:
            await handler(Broken())  # type: ignore[abstract]

        async def aclose(self) -> None:
            pass

    listeners = await open_tcp_listeners("127.0.0.1", 0)
    async with anyio.create_task_group() as task_group:
        both: Any = (Listening(), *listeners)
        await task_group.start(partial(serve, make_test_application(), both))
        async with Client(f"http://127.0.0.1:{listeners[0].port}") as client:
            assert said(await client.call(CHAT_COMPLETIONS, chat_request(text="a"))) == "a "
        task_group.cancel_scope.cancel()
    assert "serving a connection failed" in caplog.messages


def limited(work: WorkLimits) -> Application[Any]:
    whole = make_test_application()
    return Application(whole.operations, whole._handlers, whole._lifespan, work=work)


async def test_one_request_too_many_is_told_to_come_again() -> None:
    async with served(limited(WorkLimits(requests=1))) as server, server.client() as client:
        async with client.stream(CHAT_COMPLETIONS, chat_request("hold", stream=True)) as chunks:
            await anext(chunks)
            with pytest.raises(ServerFailure) as refused:
                await client.call(CHAT_COMPLETIONS, chat_request(text="a"))
            failure = refused.value.failure
            assert (failure.status, failure.code) == (503, "overloaded")
            assert (b"retry-after", b"5") in failure.headers
            assert failure.message == "as many requests are being worked on as there may be: try again later"
        await until(lambda: server.journal.ended == ["hold"])
        assert said(await client.call(CHAT_COMPLETIONS, chat_request(text="a"))) == "a "


async def test_what_takes_too_long_is_ended_with_words() -> None:
    async with served(limited(WorkLimits(seconds=0.05))) as server, server.client() as client:
        with pytest.raises(ServerFailure) as refused:
            await client.call(CHAT_COMPLETIONS, chat_request("sleep"))
        failure = refused.value.failure
        assert (failure.status, failure.code) == (503, "took_too_long")
        assert failure.message == "the request took longer than the 0.05 seconds that it may take"
        async with client.stream(CHAT_COMPLETIONS, chat_request("hold", stream=True)) as chunks:
            with pytest.raises(ServerFailure, match="the request took longer than"):
                [_ async for _ in chunks]
        assert server.journal.cancelled == ["sleep", "hold"]
        assert said(await client.call(CHAT_COMPLETIONS, chat_request(text="a"))) == "a "
