"""How long models stay that clients have loaded and used, under trio's virtual clock."""

from __future__ import annotations

import json
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio.testing

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.server import TimeOuts
from foundry_runtime.transport import Transport
from tests.support.asking import ask
from tests.support.scripted_model import scripted_server
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio

PATIENT = TimeOuts(idle=1e9)
CHAT = "/v1/chat/completions"


@pytest.fixture
def anyio_backend() -> object:
    """A clock that jumps to the next deadline when every task waits."""
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs into a thread is done at once: the clock does not wait for threads."""

    async def run_sync(call: Callable[..., object], *args: object, **_: object) -> object:
        await anyio.lowlevel.checkpoint()
        return call(*args)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run_sync)


async def loaded(transport: Transport) -> object:
    return (await ask(transport, "GET", "/openai/loadedmodels")).json


def chat(**more: object) -> bytes:
    return json.dumps({"model": MODEL_ID, "messages": [{"role": "user", "content": "Hi"}], **more}).encode()


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("", 600),
        ("?ttl=1", 1),
        ("?ttl=3600", 3600),
        ("?ttl=30&unload=false", 30),
        ("?ttl=0", 600),
    ],
)
async def test_a_loaded_model_leaves_when_its_time_is_over(
    tiny_home: ModelDirectory, words: str, seconds: float
) -> None:
    async with scripted_server(tiny_home, time_outs=PATIENT) as (server, _):
        transport = await server.connect()
        await ask(transport, "GET", f"/openai/load/{MODEL_ID}{words}")
        await anyio.sleep(seconds - 0.5)
        assert await loaded(transport) == [MODEL_ID]
        await anyio.sleep(1)
        assert await loaded(transport) == []


async def test_a_model_that_is_not_to_be_unloaded_stays(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home, time_outs=PATIENT) as (server, _):
        transport = await server.connect()
        await ask(transport, "GET", f"/openai/load/{MODEL_ID}?unload=false")
        await anyio.sleep(80_000)
        assert await loaded(transport) == [MODEL_ID]


async def test_a_running_stream_outlives_the_time_to_live_and_a_forced_unload(
    tiny_home: ModelDirectory,
) -> None:
    async with scripted_server(tiny_home, time_outs=PATIENT, step_seconds=1) as (server, models):
        transport, other = await server.connect(), await server.connect()
        await ask(transport, "GET", f"/openai/load/{MODEL_ID}?ttl=1")
        reply = {}

        async def stream() -> None:
            reply["text"] = (await ask(other, "POST", CHAT, chat(stream=True))).body

        async with anyio.create_task_group() as group:
            group.start_soon(stream)
            await anyio.sleep(4)
            assert await loaded(transport) == [MODEL_ID]
            await ask(transport, "GET", f"/openai/unload/{MODEL_ID}?force=false")
            assert await loaded(transport) == [MODEL_ID]
            await ask(transport, "GET", f"/openai/unload/{MODEL_ID}?force=true")
            assert await loaded(transport) == []
        assert reply["text"].endswith(b"data: [DONE]\n\n")
        assert models.loads == 1


async def test_the_time_to_live_of_a_chat_or_count_is_the_models_from_then_on(
    tiny_home: ModelDirectory,
) -> None:
    async with scripted_server(tiny_home, time_outs=PATIENT) as (server, models):
        transport = await server.connect()
        for path in (CHAT, f"{CHAT}/tokenizer/encode/count"):
            assert (await ask(transport, "POST", path, chat(ttl=5))).status == 200
            await anyio.sleep(4)
            assert await loaded(transport) == [MODEL_ID]
            await anyio.sleep(2)
            assert await loaded(transport) == []
        assert models.loads == 2
