"""Laws of the generic client: what it makes of good, odd and broken servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.abc import TaskGroup

from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_proto.operations.service import SERVICE_STATUS
from foundry_runtime.client import Client, Connect, ServerFailure
from foundry_runtime.transport import Transport, TransportBroken, TransportClosed, memory_transport_pair
from tests.support.applications import chat_request
from tests.support.serving import read_all, served

pytestmark = pytest.mark.anyio

CHUNK = b'data: {"id":"i","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def answering(group: TaskGroup, data: bytes) -> Callable[[], Awaitable[Transport]]:
    """A server that reads a request, sends these bytes and ends."""

    async def serve(transport: Transport) -> None:
        await transport.receive()
        await transport.send(data)
        await transport.send_eof()

    async def connect() -> Transport:
        ours, theirs = memory_transport_pair()
        group.start_soon(serve, theirs)
        return ours

    return connect


async def hung_up() -> Transport:
    """A connection whose other side is gone."""
    ours, theirs = memory_transport_pair()
    await theirs.aclose()
    return ours


async def collect(client: Client) -> list[str]:
    async with client.stream(CHAT_COMPLETIONS, chat_request(stream=True)) as chunks:
        return [chunk.choices[0].delta.content or "" async for chunk in chunks]


async def test_a_stream_that_ends_without_done_is_no_whole_answer() -> None:
    async with anyio.create_task_group() as group:
        with pytest.raises(
            RemoteProtocolError, match=r"^expected data: \[DONE\], got the end of the stream$"
        ):
            await collect(Client(connect=answering(group, STREAM + CHUNK)))


async def test_a_stream_may_end_with_the_servers_reason() -> None:
    reason = b'data: {"error":{"message":"out of memory","type":"server_error","param":null,"code":null}}\n\n'
    async with anyio.create_task_group() as group:
        client = Client(connect=answering(group, STREAM + CHUNK + reason))
        async with client.stream(CHAT_COMPLETIONS, chat_request(stream=True)) as chunks:
            assert (await anext(chunks)).choices[0].delta.content == "x"
            with pytest.raises(ServerFailure, match=r"^out of memory$"):
                await anext(chunks)
            assert [chunk async for chunk in chunks] == []


async def test_the_form_that_was_not_asked_for_is_an_error() -> None:
    whole = b'{"id":"i","created":1,"model":"m","choices":[]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(whole)
    async with anyio.create_task_group() as group:
        with pytest.raises(RemoteProtocolError, match=r"^expected a streamed answer, got a whole one$"):
            await collect(Client(connect=answering(group, head + whole)))
        with pytest.raises(RemoteProtocolError, match=r"^expected a whole answer, got a streamed one$"):
            await Client(connect=answering(group, STREAM + CHUNK)).call(CHAT_COMPLETIONS, chat_request())


async def test_a_server_that_ends_without_an_answer_is_an_error() -> None:
    async with anyio.create_task_group() as group:
        with pytest.raises(
            RemoteProtocolError, match=r"^the server closed the connection without an answer$"
        ):
            await Client(connect=answering(group, b"")).call(CHAT_COMPLETIONS, chat_request())


async def test_a_failure_says_what_the_server_said_and_keeps_the_connection() -> None:
    async with served() as server, server.client() as client:
        with pytest.raises(ServerFailure, match=r"^messages: expected at least 1 item, got 0$") as caught:
            await client.call(CHAT_COMPLETIONS, type(chat_request())(model="m", messages=()))
        assert (caught.value.failure.status, caught.value.failure.param) == (400, "messages")
        await client.call(CHAT_COMPLETIONS, chat_request())
        assert server.connections == 1


async def test_calls_at_the_same_time_have_a_connection_each() -> None:
    async with served() as server, server.client() as client, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.call, CHAT_COMPLETIONS, chat_request("slow", text="one"))
    assert server.connections == 3


async def test_a_kept_connection_that_broke_is_replaced() -> None:
    async with served() as server, server.client() as client:
        await client.call(CHAT_COMPLETIONS, chat_request())
        (kept,) = client._idle

        kept.transport = await hung_up()
        await client.call(CHAT_COMPLETIONS, chat_request())
        assert server.connections == 2


STATUS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 45\r\n\r\n"
    b'{"endpoints":["http://x"],"modelDirPath":"/"}'
)


def scripted(group: TaskGroup, *connections: list[bytes] | OSError) -> tuple[Connect, list[bytes]]:
    """A server whose connections answer what is listed for each, and then close at the next request.

    An empty reply closes without a request. Gives how to connect, and what is asked.
    """
    left, asked = list(connections), list[bytes]()

    async def serve(transport: Transport, replies: list[bytes]) -> None:
        for reply in (*replies, None):
            if reply == b"":
                break
            if not (request := await transport.receive()):
                break
            asked.append(request)
            if reply is not None:
                await transport.send(reply)
        await transport.aclose()

    async def connect() -> Transport:
        replies = left.pop(0)
        if isinstance(replies, OSError):
            raise replies
        ours, theirs = memory_transport_pair()
        group.start_soon(serve, theirs, replies)
        return ours

    return connect, asked


async def test_a_safe_call_outlives_the_servers_restart() -> None:
    async with anyio.create_task_group() as group:
        refused = ConnectionRefusedError(111, "refused")
        connect, asked = scripted(group, [STATUS], refused, [STATUS])
        async with Client(connect=connect) as client:
            assert (await client.call(SERVICE_STATUS)).model_dir_path == "/"
            # The kept connection is closed at the second request; then nobody listens for a moment.
            assert (await client.call(SERVICE_STATUS)).model_dir_path == "/"
        assert len(asked) == 3


async def test_a_call_that_changes_something_is_not_sent_twice() -> None:
    async with anyio.create_task_group() as group:
        connect, asked = scripted(group, [STATUS], [STATUS])
        async with Client(connect=connect) as client:
            await client.call(SERVICE_STATUS)
            with pytest.raises(
                RemoteProtocolError, match=r"^the server closed the connection without an answer$"
            ):
                await client.call(CHAT_COMPLETIONS, chat_request())
        assert len(asked) == 2


async def test_a_connection_that_the_server_has_closed_is_not_used_for_anything() -> None:
    async with anyio.create_task_group() as group:
        whole = b'{"id":"i","created":1,"model":"m","choices":[]}'
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
            whole
        )
        connect, asked = scripted(group, [STATUS, b""], [answer + whole])
        async with Client(connect=connect) as client:
            await client.call(SERVICE_STATUS)
            await anyio.wait_all_tasks_blocked()
            assert (await client.call(CHAT_COMPLETIONS, chat_request())).id == "i"
        assert [request.split(b" ")[0] for request in asked[:2]] == [b"GET", b"POST"]


async def test_a_safe_call_fails_at_last() -> None:
    async with anyio.create_task_group() as group:
        connect, asked = scripted(group, [], [], [STATUS])
        async with Client(connect=connect, retries=1) as client:
            with pytest.raises(RemoteProtocolError):
                await client.call(SERVICE_STATUS)
        assert len(asked) == 2


async def test_an_answer_that_had_begun_is_not_asked_for_again() -> None:
    async with anyio.create_task_group() as group:
        connect, asked = scripted(group, [STATUS[:-1], b""], [STATUS])
        async with Client(connect=connect) as client:
            with pytest.raises(RemoteProtocolError):
                await client.call(SERVICE_STATUS)
        assert len(asked) == 1


async def test_a_chats_chunks_add_up() -> None:
    async with served() as server, server.client() as client:
        async with client.chat(chat_request(text="one two")) as chunks:
            with pytest.raises(LocalProtocolError):
                _ = chunks.completion
            said = [chunk.choices[0].delta.content or "" async for chunk in chunks]
        completion = chunks.completion
        assert completion.choices[0].message.content == "".join(said) == "one two "
        assert completion.choices[0].finish_reason == "stop"
        await client.call(CHAT_COMPLETIONS, chat_request())
        assert server.connections == 1


async def test_a_key_is_sent_with_every_call() -> None:
    async with anyio.create_task_group() as group:
        connect, asked = scripted(group, [STATUS])
        async with Client(connect=connect, api_key="secret", headers=((b"x-a", b"b"),)) as client:
            await client.call(SERVICE_STATUS)
        assert b"authorization: Bearer secret\r\nx-a: b\r\n" in asked[0]


async def test_a_new_connection_that_breaks_is_an_error() -> None:
    with pytest.raises(TransportBroken):
        await Client(connect=hung_up).call(CHAT_COMPLETIONS, chat_request())


async def test_a_value_that_cannot_be_sent_is_the_callers_error() -> None:
    async with served() as server, server.client(headers=((b"x-bad", b"a\r\nb"),)) as client:
        with pytest.raises(LocalProtocolError):
            await client.call(CHAT_COMPLETIONS, chat_request())


async def test_a_request_that_is_given_up_while_it_leaves_closes_its_connection() -> None:
    ours, theirs = memory_transport_pair()

    async def connect() -> Transport:
        return ours

    async with Client(connect=connect) as client, anyio.create_task_group() as group:
        # More than the pair holds, and nobody reads: sending it waits.
        group.start_soon(client.call, CHAT_COMPLETIONS, chat_request(text="x" * 3_000_000))
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    with anyio.fail_after(60):
        await read_all(theirs)
    with pytest.raises(TransportClosed):
        await ours.receive()
