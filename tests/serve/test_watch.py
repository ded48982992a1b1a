"""Watching the product: models, downloads by their token, requests, and chats over the same WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.messages.watch import (
    DownloadEnded,
    DownloadProgressed,
    Generated,
    ModelChanged,
    RequestServed,
    Watching,
)
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.client import ServerFailure
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.websocket import Conversation, open_conversation
from tests.support.asking import ask
from tests.support.scripted_model import ScriptedModels, scripted_server
from tests.support.scripted_source import ScriptedSource
from tests.support.serving import Served
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio


def request(model: str = MODEL_ID, **more: Any) -> ChatCompletionRequest:
    return ChatCompletionRequest(model=model, messages=(UserMessage(role="user", content="hi"),), **more)


@asynccontextmanager
async def watching(
    home: ModelDirectory, *topics: Any, tokens: Any = None, **more: Any
) -> AsyncIterator[tuple[Conversation, Served, ScriptedModels]]:
    """A served product, and one who watches it."""
    async with scripted_server(home, **more) as (server, models), talking(server) as talk:
        await talk.watch(*topics, **({} if tokens is None else {"progress_tokens": tokens}))
        assert await anext(talk) == Watching(topics=topics)
        yield talk, server, models


@asynccontextmanager
async def talking(server: Served) -> AsyncIterator[Conversation]:
    async with open_conversation("http://localhost:5272", connect=server.connect) as talk:
        yield talk


async def told(talk: Conversation, count: int) -> list[Any]:
    with anyio.fail_after(60):
        return [await anext(talk) for _ in range(count)]


async def test_models_that_come_and_go_are_told(tiny_home: ModelDirectory) -> None:
    async with watching(tiny_home, "models") as (talk, server, models):
        await talk.chat(request())
        assert await told(talk, 2) == [
            ModelChanged(model=MODEL_ID, state="loading"),
            ModelChanged(model=MODEL_ID, state="ready", provider="cpu"),
        ]
        async with talking(server) as late:
            await late.watch("models")
            assert await told(late, 2) == [
                Watching(topics=("models",)),
                ModelChanged(model=MODEL_ID, state="ready", provider="cpu"),
            ]
        models.pool.unload(MODEL_ID, force=True)
        assert await told(talk, 2) == [
            ModelChanged(model=MODEL_ID, state="unloading"),
            ModelChanged(model=MODEL_ID, state="absent"),
        ]


async def test_a_model_that_drains_is_told_until_its_last_answer_is_whole(tiny_home: ModelDirectory) -> None:
    async with watching(tiny_home, "models", step_seconds=0.01) as (talk, _, models):
        async with talk.stream(request()) as chunks:
            await anext(chunks)
            models.pool.unload(MODEL_ID, force=True)
            assert [chunk async for chunk in chunks][-1].choices[0].finish_reason == "stop"
        states = [event.state for event in await told(talk, 5)]
        assert states == ["loading", "ready", "draining", "unloading", "absent"]


async def test_a_load_that_fails_is_told_with_its_reason(tiny_home: ModelDirectory) -> None:
    async with watching(tiny_home, "models", failures=[OSError("no memory")]) as (talk, _, _models):
        with pytest.raises(ServerFailure, match="no memory"):
            await talk.chat(request())
        assert await told(talk, 2) == [
            ModelChanged(model=MODEL_ID, state="loading"),
            ModelChanged(model=MODEL_ID, state="failed", reason="no memory"),
        ]
        await talk.chat(request())
        assert [event.state for event in await told(talk, 2)] == ["loading", "ready"]


async def test_requests_are_told_whatever_carries_them(tiny_home: ModelDirectory) -> None:
    async with watching(tiny_home, "requests") as (talk, server, _), server.client() as client:
        whole = await talk.chat(request())
        generated, served = await told(talk, 2)
        assert isinstance(generated, Generated)
        assert whole.usage
        assert (generated.model, generated.choices) == (MODEL_ID, 1)
        assert (generated.prompt_tokens, generated.completion_tokens) == (
            whole.usage.prompt_tokens,
            whole.usage.completion_tokens,
        )
        assert 0 <= (generated.first_token_seconds or -1) <= generated.seconds
        assert isinstance(served, RequestServed)
        assert (served.operation, served.status, served.outcome) == ("chat_completions", 200, "answered")
        assert served.first_seconds is not None
        assert generated.seconds <= served.seconds
        again = await client.call(CHAT_COMPLETIONS, request(n=2))
        generated, served = await told(talk, 2)
        assert again.usage
        assert (generated.choices, generated.prompt_tokens) == (2, again.usage.prompt_tokens)
        assert generated.completion_tokens == again.usage.completion_tokens
        with pytest.raises(ServerFailure):
            await client.call(CHAT_COMPLETIONS, request("nope"))
        (served,) = await told(talk, 1)
        assert (served.status, served.outcome) == (404, "failed")


async def test_a_chat_that_is_cancelled_is_told_as_such(tiny_home: ModelDirectory) -> None:
    async with watching(tiny_home, "requests", step_seconds=0.01) as (talk, _, _models):
        async with talk.stream(request()) as chunks:
            await anext(chunks)
        (served,) = await told(talk, 1)
        assert (served.status, served.outcome) == (200, "cancelled")
        await talk.chat(request())


async def test_a_chat_over_the_websocket_is_the_chat_over_http(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, _), server.client() as client, talking(server) as talk:
        for asked in (request(), request(n=2, logprobs=True), request(stop=("o",))):
            here, there = await talk.chat(asked), await client.call(CHAT_COMPLETIONS, asked)
            assert here.choices == there.choices
            assert here.usage == there.usage
        for asked in (request("nope"), request(max_tokens=10**6)):
            with pytest.raises(ServerFailure) as over_here:
                await talk.chat(asked)
            with pytest.raises(ServerFailure) as over_there:
                await client.call(CHAT_COMPLETIONS, asked)
            assert over_here.value.failure.message == over_there.value.failure.message
            assert over_here.value.failure.status == over_there.value.failure.status
        async with (
            talk.stream(request()) as ours,
            client.stream(CHAT_COMPLETIONS, request(stream=True)) as theirs,
        ):
            assert [one.choices async for one in ours] == [one.choices async for one in theirs]


# Downloads.


async def download(server: Served, **more: Any) -> Any:
    body = {"model": {"Uri": "test:mine", "Name": "mine:1"}, **more}
    return await ask(await server.connect(), "POST", "/openai/download", json.dumps(body).encode())


@pytest.mark.parametrize("pipe", [{}, {"ignorePipeReport": False}, {"ignorePipeReport": None}])
async def test_a_download_is_told_by_its_token(tmp_path: Path, pipe: dict[str, Any]) -> None:
    token = {"window": 7}
    async with watching(
        ModelDirectory(tmp_path), "downloads", tokens=({"window": 7.0},), sources=[ScriptedSource()]
    ) as (talk, server, _):
        for other in ({"window": 8}, "window"):
            await download(server, progressToken=other, force=True)
        assert (await download(server, progressToken=token, force=True, **pipe)).status == 200
        *news, end = await until_end(talk)
        assert news
        assert {(one.progress_token["window"], one.model) for one in news} == {(7, "mine:1")}
        assert [one.fraction for one in news] == sorted(one.fraction for one in news)
        assert end == DownloadEnded(progress_token=token, model="mine:1", success=True)


async def until_end(talk: Conversation) -> list[Any]:
    found: list[Any] = []
    with anyio.fail_after(60):
        async for event in talk:
            found.append(event)
            if isinstance(event, DownloadEnded):
                break
            assert isinstance(event, DownloadProgressed)
    return found


@pytest.mark.parametrize(
    "more", [{}, {"progressToken": None}, {"progressToken": 1, "ignorePipeReport": True}]
)
async def test_a_download_that_nobody_looks_for_is_not_told(tmp_path: Path, more: dict[str, Any]) -> None:
    async with watching(ModelDirectory(tmp_path), "downloads", sources=[ScriptedSource()]) as (
        talk,
        server,
        _,
    ):
        assert (await download(server, force=True, **more)).status == 200
        await download(server, progressToken="last")  # here already
        assert await until_end(talk) == [DownloadEnded(progress_token="last", model="mine:1", success=True)]


async def test_a_download_that_fails_is_told_why(tmp_path: Path) -> None:
    source = ScriptedSource(failure=OSError("the disk is full"))
    async with watching(ModelDirectory(tmp_path), "downloads", sources=[source]) as (talk, server, _):
        await download(server, progressToken=1)
        assert (await until_end(talk))[-1] == DownloadEnded(
            progress_token=1, model="mine:1", success=False, error_message="the disk is full"
        )
        refused = await download(server, model="nope", progressToken=2)
        (end,) = await until_end(talk)
        assert (end.success, end.error_message) == (False, refused.json["error"]["message"])


async def test_a_download_whose_client_hangs_up_is_told_to_be_over(tmp_path: Path) -> None:
    source = ScriptedSource(hangs=True)
    async with watching(ModelDirectory(tmp_path), "downloads", sources=[source]) as (talk, server, _):
        transport = await server.connect()
        body = json.dumps({"model": {"Uri": "test:mine", "Name": "mine:1"}, "progressToken": 1}).encode()
        await transport.send(
            b"POST /openai/download HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        assert isinstance((await told(talk, 1))[0], DownloadProgressed)
        await transport.aclose()
        assert (await until_end(talk))[-1] == DownloadEnded(
            progress_token=1,
            model="mine:1",
            success=False,
            error_message="the request for it was given up",
        )


async def test_a_token_goes_into_every_update_and_so_has_a_limit(tmp_path: Path) -> None:
    async with watching(ModelDirectory(tmp_path), "downloads", sources=[ScriptedSource()]) as (
        talk,
        server,
        _,
    ):
        refused = await download(server, progressToken="x" * 4095)
        assert refused.status == 400
        error = refused.json["error"]
        assert error["message"] == "progressToken: expected at most 4096 bytes of JSON, got 4097"
        assert error["param"] == "progressToken"
        assert (await download(server, progressToken="x" * 4094)).status == 200
        assert (await until_end(talk))[-1].success
        assert (await download(server, progressToken="x" * 9999, ignorePipeReport=True)).status == 200
