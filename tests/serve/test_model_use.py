"""Models in use: none is taken away, whoever asks; where one runs is said when it is not where it should."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from foundry_proto.codec import structure
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.client import Client
from foundry_runtime.models.directory import ModelDirectory
from tests.support.asking import ask
from tests.support.scripted_model import scripted_server
from tests.support.serving import Served, raw_request, until
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio

BOTH = ("cpu", "webgpu")
WARNING = b'warning: 199 - "ep: webgpu was ignored, the model is in use on cpu"'


def request(**more: Any) -> ChatCompletionRequest:
    plain = {"model": MODEL_ID, "messages": [{"role": "user", "content": "Hello"}], **more}
    return structure(ChatCompletionRequest, plain)


async def say(client: Client, **more: Any) -> str | None:
    return (await client.call(CHAT_COMPLETIONS, request(**more))).choices[0].message.content


async def head_of(server: Served, **more: Any) -> bytes:
    """A reply's head."""
    transport = await server.connect()
    await transport.send(raw_request(request(**more)))
    head, _, _ = (await transport.receive()).partition(b"\r\n\r\n")
    await transport.aclose()
    return head


async def test_unloading_by_force_cuts_no_answer_and_the_next_gets_the_model_again(
    tiny_home: ModelDirectory,
) -> None:
    async with (
        scripted_server(tiny_home, step_seconds=0.005) as (server, models),
        server.client() as client,
        anyio.create_task_group() as group,
    ):
        texts: list[str | None] = []

        async def ask() -> None:
            texts.append(await say(client))

        async with client.stream(CHAT_COMPLETIONS, request(stream=True)) as chunks:
            text = (await anext(chunks)).choices[0].delta.content or ""
            assert models.pool.unload(MODEL_ID, force=True)
            assert models.pool.loaded() == []
            group.start_soon(ask)
            async for chunk in chunks:
                assert (models.loads, texts) == (1, [])
                text += chunk.choices[0].delta.content or ""
        assert text == "one two three"
        await until(lambda: texts)
        assert texts == ["one two three"]
        assert models.loads == 2


async def test_a_client_that_is_gone_leaves_its_model_to_be_unloaded(tiny_home: ModelDirectory) -> None:
    async with (
        scripted_server(tiny_home, text="x" * 500, step_seconds=0.001) as (server, models),
        server.client() as client,
    ):
        async with client.stream(CHAT_COMPLETIONS, request(stream=True, max_tokens=400)) as chunks:
            await anext(chunks)
        models.pool.unload(MODEL_ID, force=True)
        assert await say(client, max_tokens=1) == "x"  # waits until the first is out of memory
        assert models.loads == 2


async def test_an_idle_model_moves_to_the_provider_that_a_chat_asks_for(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home, available=BOTH) as (server, models), server.client() as client:
        for ep, provider, loads in (
            ("", "cpu", 1),
            ("CPU", "cpu", 1),
            ("webgpu", "webgpu", 2),
            (None, "webgpu", 2),
            ("cpu", "cpu", 3),
        ):
            assert await say(client, ep=ep) == "one two three"
            assert (models.pool.provider_of(MODEL_ID), models.loads) == (provider, loads)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_in_use_stays_where_it_is_and_the_answer_says_so(
    tiny_home: ModelDirectory, stream: bool
) -> None:
    async with scripted_server(tiny_home, available=BOTH) as (server, models):
        folder = models.services[0].catalog.folder(MODEL_ID)
        assert folder is not None
        async with models.pool.lease(folder):
            head = await head_of(server, ep="webgpu", stream=stream)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert head.count(WARNING) == 1
            assert b"warning" not in await head_of(server, ep="cpu", stream=stream)
        assert models.loads == 1


async def test_a_refusal_says_it_too(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home, available=BOTH) as (server, models):
        folder = models.services[0].catalog.folder(MODEL_ID)
        assert folder is not None
        async with models.pool.lease(folder):
            head = await head_of(server, ep="webgpu", max_tokens=600)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert WARNING in head


async def test_a_text_completion_and_a_load_say_it_as_well(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home, available=BOTH) as (server, models):
        folder = models.services[0].catalog.folder(MODEL_ID)
        assert folder is not None
        transport = await server.connect()
        async with models.pool.lease(folder):
            reply = await ask(transport, "GET", f"/openai/load/{MODEL_ID}?ep=webgpu")
            assert (reply.status, reply.body) == (200, b"")
            assert f"warning: {reply.headers['warning']}".encode() == WARNING
            body = json.dumps({"model": MODEL_ID, "prompt": "Hello", "ep": "webgpu"}).encode()
            reply = await ask(transport, "POST", "/v1/completions", body)
            assert reply.status == 200
            assert f"warning: {reply.headers['warning']}".encode() == WARNING
        moved = await ask(transport, "GET", f"/openai/load/{MODEL_ID}?ep=webgpu")
        assert (moved.status, "warning" in moved.headers) == (200, False)
        assert models.pool.provider_of(MODEL_ID) == "webgpu"
