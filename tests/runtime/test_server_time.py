"""Laws of patience, under trio's virtual clock: hours pass in no time, and nothing depends on luck."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
import trio.testing

from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.calling import KEEP_IDLE
from foundry_runtime.server import TimeOuts, serve
from foundry_runtime.transport import TransportBroken
from tests.support.applications import chat_request, make_test_application
from tests.support.serving import raw_request, read_all, served, until
from tests.support.websockets import OneConnection

pytestmark = pytest.mark.anyio

TIME_OUTS = TimeOuts(idle=75, head=10, body=60, write=30, linger=2)


@pytest.fixture
def anyio_backend() -> object:
    """A clock that jumps to the next deadline when every task waits."""
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        transport = await server.connect()
        begin = anyio.current_time()
        assert await read_all(transport) == b""
        assert anyio.current_time() - begin == pytest.approx(75, abs=0.01)


async def test_keep_alive_counts_from_the_last_answer() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        transport = await server.connect()
        for _ in range(2):
            await anyio.sleep(70)
            await transport.send(raw_request(chat_request()))
            assert (await transport.receive()).startswith(b"HTTP/1.1 200 OK")
        begin = anyio.current_time()
        assert await read_all(transport) == b""
        assert anyio.current_time() - begin == pytest.approx(75, abs=0.01)


@pytest.mark.parametrize(("part", "seconds"), [("head", 10), ("body", 60)])
async def test_a_request_that_drips_is_given_up(part: str, seconds: float) -> None:
    request = raw_request(chat_request())
    stop = 20 if part == "head" else len(request) - 30
    async with served(time_outs=TIME_OUTS) as server:
        transport = await server.connect()
        begin = anyio.current_time()
        await transport.send(request[:stop])

        async def drip() -> None:
            for number in range(stop, stop + 29):
                await anyio.sleep(3)
                await transport.send(request[number : number + 1])

        async with anyio.create_task_group() as group:
            group.start_soon(drip)
            answer = await transport.receive()
            assert anyio.current_time() - begin == pytest.approx(seconds, abs=0.01)
            group.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert f"expected the request's whole {part} within {seconds} seconds".encode() in answer
        assert b"\r\nconnection: close\r\n" in answer
        await transport.send_eof()
        assert await read_all(transport) == b""


async def test_a_reader_that_does_not_read_is_cut_and_its_work_ends() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        transport = await server.connect()
        await transport.send(raw_request(chat_request("endless", stream=True)))
        begin = anyio.current_time()
        await until(lambda: server.journal.ended and server.ended, pause=1)
        assert anyio.current_time() - begin == pytest.approx(30, abs=1.1)


async def test_a_reader_that_takes_something_again_and_again_is_slow_and_not_gone() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        transport = await server.connect()
        await transport.send(raw_request(chat_request("long", text="400000", stream=True)))
        begin, answer = anyio.current_time(), b""
        while b"[DONE]" not in answer:
            await anyio.sleep(29)  # 64 KiB come each time, of one text that the server sends at once.
            answer += await transport.receive()
        assert answer.count(b"x") >= 400_000
        assert anyio.current_time() - begin > 150
        assert server.ended == 0


async def test_a_refused_client_may_read_the_answer_before_the_close() -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999\r\n\r\n"
    async with served(time_outs=TIME_OUTS) as server:
        transport = await server.connect()
        await transport.send(head)
        begin = anyio.current_time()
        for _ in range(100):
            try:
                await transport.send(b"x" * 10_000)
            except TransportBroken:
                break
            await anyio.sleep(0.1)
        assert anyio.current_time() - begin == pytest.approx(2, abs=0.2)
        assert server.ended == 1
        assert (await transport.receive()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(("model", "seconds"), [("hold", 10), ("slow", 2)])
async def test_stopping_waits_for_a_running_answer_but_not_for_ever(model: str, seconds: float) -> None:
    listener = OneConnection()
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        run = partial(serve, make_test_application(), [listener.as_listener()], stop=stop, drain=10)
        group.start_soon(run)
        await listener.client.send(raw_request(chat_request(model, text="one two", stream=True)))
        await listener.client.receive()
        begin = anyio.current_time()
        stop.set()
        answer = await read_all(listener.client)
        assert anyio.current_time() - begin == pytest.approx(seconds, abs=0.01)
        assert (b"[DONE]" in answer) == (model == "slow")


async def test_stopping_ends_idle_connections_at_once() -> None:
    listener = OneConnection()
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(serve, make_test_application(), [listener.as_listener()], stop=stop))
        await anyio.sleep(1)
        begin = anyio.current_time()
        stop.set()
        assert await read_all(listener.client) == b""
    assert anyio.current_time() == begin


async def test_a_silent_server_ends_the_clients_patience() -> None:
    async with served() as server, server.client(timeout=5) as client:
        begin = anyio.current_time()
        with pytest.raises(TimeoutError):
            await client.call(CHAT_COMPLETIONS, chat_request("sleep"))
        assert anyio.current_time() - begin == pytest.approx(5, abs=0.01)


async def test_a_connection_is_kept_for_the_next_call_but_not_too_long() -> None:
    async with served() as server, server.client() as client:
        for pause, connections in ((0, 1), (KEEP_IDLE - 1, 1), (KEEP_IDLE + 1, 2)):
            await anyio.sleep(pause)
            await client.call(CHAT_COMPLETIONS, chat_request())
            assert server.connections == connections
