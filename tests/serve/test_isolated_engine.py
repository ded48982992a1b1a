"""An engine's process that is killed costs its running answers one clear error each, and others nothing."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

from foundry_proto.events import Failure
from foundry_proto.messages.chat import ChatCompletionRequest, RegexFormat, UserMessage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_proto.operations.models import LOADED_MODELS
from foundry_proto.operations.service import HEALTH
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.engine.api import Engine
from foundry_runtime.engine.process import ProcessEngine
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.engines import EngineKind, MakeEngine, make_engine, make_isolated_engine
from foundry_runtime.models.folder import ModelFolder
from tests.support.product import Product, real_product
from tests.support.serving import until

pytestmark = pytest.mark.anyio

MODEL = "tiny-random-generic-cpu"
STREAMS = 8
KILLED = "the model's engine is gone: its process was ended by signal SIGKILL"


def slowed(folder: ModelFolder, kind: EngineKind, /, **more: Any) -> Engine:
    arguments = {"path": str(folder.path), "kind": kind, "seconds": 0.01, **more}
    return ProcessEngine("tests.support.isolated:slowed", arguments)


def chat(model: str, text: str, **more: Any) -> ChatCompletionRequest:
    message = UserMessage(role="user", content=text)
    return ChatCompletionRequest(model=model, messages=(message,), temperature=0, **more)


async def said(client: Client, asked: ChatCompletionRequest) -> str:
    answer = await client.call(CHAT_COMPLETIONS, asked)
    return str(answer.choices[0].message.content)


async def kill_amid_streams(product: Product, model: str, **more: Any) -> list[Failure]:
    """Begin eight streams, kill the engine's process when each has said something, and give what each got."""
    begun: set[int] = set()
    failures: list[Failure] = []

    async def read(number: int) -> None:
        asked = chat(model, f"Tell me story number {number}.", stream=True, max_tokens=300, **more)
        try:
            async with Client(product.url) as client, client.stream(CHAT_COMPLETIONS, asked) as chunks:
                async for chunk in chunks:
                    if chunk.choices[0].delta.content:
                        begun.add(number)
        except ServerFailure as error:
            failures.append(error.failure)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as streams:
            for number in range(STREAMS):
                streams.start_soon(read, number)
            await until(lambda: len(begun) == STREAMS)
            assert not failures
            os.kill(product.child, signal.SIGKILL)
    return failures


async def check_a_kill(home: ModelDirectory, make: MakeEngine, model: str, **more: Any) -> None:
    question = chat(model, "Name three primary colors", max_tokens=12)
    async with real_product(home, make=make) as product:
        expected = await said(product.client, question)
        failures = await kill_amid_streams(product, model, **more)
        assert [(one.message, one.code) for one in failures] == [(KILLED, "engine_lost")] * STREAMS
        assert (await product.client.call(HEALTH)).status == "ready"
        assert await said(product.client, question) == expected
        assert len(product.loaded) == 2
        assert await product.client.call(LOADED_MODELS) == (product.loaded[0].folder.id,)


async def test_eight_streams_get_eight_errors_and_the_next_request_its_answer(
    tiny_home: ModelDirectory,
) -> None:
    # It would end its answers by itself.
    await check_a_kill(tiny_home, slowed, MODEL, logit_bias={"0": -100, "2": -100})


@pytest.mark.model
async def test_so_it_is_with_the_real_model(default_home: Path) -> None:
    await check_a_kill(ModelDirectory(default_home), make_isolated_engine, "smollm2-135m")


async def test_an_engine_that_ends_unasked_costs_nobody_anything(tiny_home: ModelDirectory) -> None:
    question = chat(MODEL, "Hello", max_tokens=12)
    async with real_product(tiny_home, make=make_isolated_engine) as product:
        expected = await said(product.client, question)
        os.kill(product.child, signal.SIGKILL)
        await until(lambda: product.loaded[0].worker.lost)  # type: ignore[union-attr]
        assert await said(product.client, question) == expected
        assert len(product.loaded) == 2


async def test_an_isolated_engine_answers_as_one_that_is_not(tiny_home: ModelDirectory) -> None:
    spelled = RegexFormat(type="regex", regex="[a-f]{3,9}!")
    questions = (
        chat(MODEL, "Hello", max_tokens=20, seed=3, top_logprobs=3, logprobs=True, n=2),
        chat(MODEL, "Hello", max_tokens=40, response_format=spelled),
    )
    answers = []
    for make in (make_isolated_engine, make_engine):
        async with real_product(tiny_home, make=make) as product:
            answers.append([(await product.client.call(CHAT_COMPLETIONS, one)).choices for one in questions])
    assert answers[0] == answers[1]
    assert re.fullmatch("[a-f]{3,9}!", str(answers[0][1][0].message.content))
