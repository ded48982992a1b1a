"""How long models stay in the served product, under trio's virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio.testing

from foundry_proto.codec import structure
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.models.directory import ModelDirectory
from tests.support.scripted_model import scripted_server
from tests.support.serving import until
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    """A clock that jumps to the next deadline when every task waits."""
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock sees no threads, and would jump while one works: what they do is done on the loop."""

    async def run_here(function: Callable[..., object], *arguments: object, **_: object) -> object:
        await anyio.lowlevel.checkpoint()
        return function(*arguments)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run_here)


def request(**more: Any) -> ChatCompletionRequest:
    plain = {"model": MODEL_ID, "messages": [{"role": "user", "content": "Hello"}], **more}
    return structure(ChatCompletionRequest, plain)


async def test_an_answer_that_takes_longer_than_its_model_lives_is_whole(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home, step_seconds=5) as (server, models), server.client() as client:
        begin = anyio.current_time()
        async with client.stream(CHAT_COMPLETIONS, request(ttl=1, stream=True)) as chunks:
            text = ""
            async for chunk in chunks:
                text += chunk.choices[0].delta.content or ""
                assert models.pool.loaded() == [MODEL_ID]
        assert text == "one two three"
        assert anyio.current_time() - begin > 10
        await anyio.sleep(0.9)
        assert models.pool.loaded() == [MODEL_ID]
        await anyio.sleep(0.2)
        assert models.pool.loaded() == []


async def test_a_model_that_has_left_is_loaded_again_by_the_next_chat(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        for loads in (1, 2):
            await client.call(CHAT_COMPLETIONS, request(ttl=1))
            await anyio.sleep(3)
            assert (models.loads, models.pool.loaded()) == (loads, [])


async def test_a_chat_without_a_time_to_live_keeps_its_model_for_ten_minutes(
    tiny_home: ModelDirectory,
) -> None:
    async with scripted_server(tiny_home) as (server, models), server.client() as client:
        for ttl in (None, 0):
            await client.call(CHAT_COMPLETIONS, request(ttl=ttl))
            await anyio.sleep(590)
            assert models.pool.loaded() == [MODEL_ID]
        await anyio.sleep(11)
        assert models.pool.loaded() == []


async def test_the_time_counts_from_the_end_of_the_last_of_several_answers(tiny_home: ModelDirectory) -> None:
    async with (
        scripted_server(tiny_home, step_seconds=1) as (server, models),
        server.client() as client,
        anyio.create_task_group() as group,
    ):
        ended: list[float] = []

        async def ask(pause: float, **more: Any) -> None:
            await anyio.sleep(pause)
            await client.call(CHAT_COMPLETIONS, request(**more))
            ended.append(anyio.current_time())

        group.start_soon(ask, 0)
        group.start_soon(lambda: ask(5, ttl=2))
        await anyio.sleep(6)
        await until(lambda: not models.pool.loaded(), pause=0.1)
        assert len(ended) == 2
        assert anyio.current_time() - ended[1] == pytest.approx(2, abs=0.2)
