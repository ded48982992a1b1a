"""Laws of registered models: a chat with one is another server's, unless a model here has its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from foundry_proto.messages.registration import RegisterRequest
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.registered import ExternalModel, RegisteredModels
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from tests.support.applications import chat_request, make_test_application
from tests.support.scripted_model import scripted_server
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio


@pytest.fixture
def home(tmp_path: Path, tiny_home: ModelDirectory) -> ModelDirectory:
    """A home of the test's own, with the models of all."""
    return ModelDirectory(tmp_path, tiny_home.models)


@asynccontextmanager
async def another_server() -> AsyncIterator[str]:
    """A server that says each question back; its address."""
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with anyio.create_task_group() as group:
        await group.start(partial(serve, make_test_application(), [listener]))
        yield f"http://127.0.0.1:{listener.port}/v1"
        group.cancel_scope.cancel()


def register(home: ModelDirectory, name: str, uri: str) -> None:
    request = RegisterRequest(model_name=name, type_name="test", base_uri=uri)
    RegisteredModels(home.home).add(ExternalModel.registered(request))


@pytest.mark.parametrize("name", ["echo", "Echo", "echo:1"])
async def test_a_chat_with_a_registered_model_is_relayed(home: ModelDirectory, name: str) -> None:
    async with (
        another_server() as uri,
        scripted_server(home) as (server, models),
        server.client() as client,
    ):
        register(home, "echo", uri)
        completion = await client.call(CHAT_COMPLETIONS, chat_request(name, text="one two"))
        assert (completion.choices[0].message.content, completion.model) == ("one two ", "echo")
        assert models.loads == 0


async def test_a_model_on_this_machine_goes_before_a_registered_one(home: ModelDirectory) -> None:
    async with scripted_server(home, text="local") as (server, _), server.client() as client:
        register(home, MODEL_ID, "http://127.0.0.1:9")
        completion = await client.call(CHAT_COMPLETIONS, chat_request(MODEL_ID))
        assert completion.choices[0].message.content == "local"
