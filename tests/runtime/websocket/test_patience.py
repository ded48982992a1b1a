"""Laws of a WebSocket's patience, under trio's virtual clock: hours pass in no time."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest
import trio.testing

from foundry_proto.messages.watch import ModelChanged
from foundry_runtime.server import TimeOuts, serve
from tests.support.applications import make_test_application
from tests.support.masking import CLOSE, PING, PONG, TEXT, frame
from tests.support.serving import served, until
from tests.support.websockets import OneConnection, upgrade, upgrade_on

pytestmark = pytest.mark.anyio

TIME_OUTS = TimeOuts(idle=75, head=10, body=60, write=30, linger=2, silence=40)


@pytest.fixture
def anyio_backend() -> object:
    """A clock that jumps to the next deadline when every task waits."""
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


def chat(model: str, **more: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "one two"}], "stream": True, **more}
    return {"type": "chat", "id": "a", "body": body}


async def test_a_silent_client_is_asked_and_given_up() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        begin = anyio.current_time()
        client = await upgrade(server)
        assert await client.receive() == (PING, b"")
        assert anyio.current_time() - begin == pytest.approx(20, abs=0.01)
        assert await client.receive() is None
        assert anyio.current_time() - begin == pytest.approx(40, abs=0.01)
        assert server.ended == 1


async def test_a_client_that_answers_stays_for_hours() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        begin = anyio.current_time()
        client = await upgrade(server)
        for _ in range(200):
            assert await client.receive() == (PING, b"")
            await client.send(frame(PONG))
        assert anyio.current_time() - begin > 3600
        await client.say(type="watch", topics=["models"])
        assert (await client.hear())["type"] == "watching"


async def test_a_client_that_says_something_need_not_be_asked() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        client = await upgrade(server)
        for _ in range(20):
            await anyio.sleep(15)
            await client.say(type="watch", topics=[])
            while (found := await client.receive()) is not None and found[0] == PING:
                await client.send(frame(PONG))
            assert found is not None
            assert found[0] == TEXT


async def test_a_long_chat_does_not_make_a_client_silent() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        client = await upgrade(server)
        await client.say(**chat("sleep"))
        for _ in range(20):
            assert await client.receive() == (PING, b"")
            await client.send(frame(PONG))
        assert server.journal.ended == []


async def test_a_reader_that_does_not_read_is_cut_and_its_chats_end() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        client = await upgrade(server)
        await client.say(**chat("endless"))
        begin = anyio.current_time()
        await until(lambda: server.ended, pause=1)
        assert anyio.current_time() - begin == pytest.approx(30, abs=1.1)
        assert server.journal.ended == ["endless"]


async def test_a_watcher_that_does_not_read_holds_no_more_than_may_wait() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        client = await upgrade(server)
        await client.say(type="watch", topics=["models"])
        await client.hear()
        event = ModelChanged(model="m" * 10_000, state="ready")
        for _ in range(1000):
            server.journal.feed.publish(event)
            await anyio.sleep(0.02)
        (watcher,) = server.journal.feed.watchers
        assert watcher.held == 0
        begin = anyio.current_time()
        await until(lambda: server.ended, pause=1)
        assert anyio.current_time() - begin <= 30
        assert not server.journal.feed.watched


async def test_who_does_not_answer_a_good_bye_is_not_waited_for_long() -> None:
    async with served(time_outs=TIME_OUTS) as server:
        client = await upgrade(server)
        await client.send(frame(TEXT, b"\xff"))
        begin = anyio.current_time()
        await until(lambda: server.ended, pause=0.1)
        assert anyio.current_time() - begin == pytest.approx(2, abs=0.2)
        found = await client.receive()
        assert found is not None
        assert found[0] == CLOSE


@pytest.mark.parametrize(("model", "seconds"), [("hold", 10), ("slow", 2)])
async def test_stopping_waits_for_a_running_chat_but_not_for_ever(model: str, seconds: float) -> None:
    listener = OneConnection()
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        run = partial(serve, make_test_application(), [listener.as_listener()], stop=stop, drain=10)
        await group.start(run)
        client = await upgrade_on(listener.client)
        await client.say(**chat(model))
        await client.hear()
        begin = anyio.current_time()
        stop.set()
        said: list[dict[str, Any]] = []
        assert await client.closed(said) == (1001, "the server is stopping")
        assert anyio.current_time() - begin == pytest.approx(seconds, abs=0.01)
        assert (said[-1]["type"] == "end") == (model == "slow")
