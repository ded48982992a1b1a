"""Laws of registered models: a request for one is another server's, unless a model here has its name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from foundry_proto.codec import encode
from foundry_proto.messages.embeddings import EmbeddingRequest
from foundry_proto.messages.registration import RegisterRequest
from foundry_proto.operations import CHAT_COMPLETIONS, EMBEDDINGS
from foundry_proto.operations.registration import REGISTER_MODEL, UNREGISTER_MODEL
from foundry_runtime.client import ServerFailure
from foundry_runtime.models.catalog import Catalog
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.registered import ExternalModel, RegisteredModels, RegisteredSource
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from tests.support.applications import chat_request, make_test_application
from tests.support.asking import ask
from tests.support.scripted_model import scripted_server
from tests.support.tiny_encoder import ENCODER_ID, write_encoder_folder
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


def registration(uri: str = "http://127.0.0.1:9", name: str = "echo", **more: str) -> RegisterRequest:
    return RegisterRequest(model_name=name, type_name="test", base_uri=uri, **more)


async def test_a_chat_with_a_registered_model_is_relayed_until_it_is_taken_back(
    home: ModelDirectory,
) -> None:
    async with (
        another_server() as uri,
        scripted_server(home) as (server, models),
        server.client() as client,
    ):
        await client.call(REGISTER_MODEL, registration(uri))
        for name in ("echo", "Echo", "echo:1"):
            completion = await client.call(CHAT_COMPLETIONS, chat_request(name, text="one two"))
            assert (completion.choices[0].message.content, completion.model) == ("one two ", "echo")
        async with client.stream(CHAT_COMPLETIONS, chat_request("echo", stream=True)) as chunks:
            assert [chunk.choices[0].finish_reason async for chunk in chunks][-1] == "stop"
        await client.call(UNREGISTER_MODEL, params={"name": "echo"})
        with pytest.raises(ServerFailure, match="No OpenAIService provider found for modelName:echo"):
            await client.call(CHAT_COMPLETIONS, chat_request("echo"))
        with pytest.raises(ServerFailure, match=r"^name: no model is registered as echo$") as caught:
            await client.call(UNREGISTER_MODEL, params={"name": "echo"})
        assert caught.value.failure.status == 404
        assert models.loads == 0


async def test_a_registered_model_stands_in_the_catalogue(home: ModelDirectory) -> None:
    async with scripted_server(home) as (server, _), server.client() as client:
        await client.call(REGISTER_MODEL, registration("http://there/v1/", "org/llama3.2:1b"))
        catalog = Catalog(home, (RegisteredSource(RegisteredModels(home.home)),))
        found = catalog.resolve("org/llama3.2:1b")
        assert found is not None
        assert (found.id, found.alias, found.version) == ("org/llama3.2:1b:1", "org/llama3.2:1b", "1")
        assert (found.cached, found.path, found.uri) == (True, None, "http://there/v1")
        assert found in catalog.models()


async def test_a_registered_model_is_listed_as_usable_and_needs_no_loading(home: ModelDirectory) -> None:
    async with scripted_server(home) as (server, models):
        transport = await server.connect()
        body = encode(registration(name="deepseek-chat"))
        assert (await ask(transport, "POST", "/openai/register", body)).status == 200
        for target in ("/openai/models", "/foundry/list", "/v1/models"):
            assert "deepseek-chat:1" in str((await ask(transport, "GET", target)).json), target
        for target in ("/openai/load/deepseek-chat?ttl=600", "/openai/unload/deepseek-chat?force=true"):
            assert (await ask(transport, "GET", target)).status == 200
        assert (await ask(transport, "GET", "/models/load/deepseek-chat")).json["status"] == "already_loaded"
        assert (await ask(transport, "GET", "/openai/loadedmodels")).json == []
        count = await ask(
            transport,
            "POST",
            f"{CHAT_COMPLETIONS.path}/tokenizer/encode/count",
            encode(chat_request("deepseek-chat")),
        )
        assert (count.status, count.json["error"]["code"]) == (400, "unsupported_model")
        assert models.loads == 0


async def test_a_registration_outlives_the_server(home: ModelDirectory) -> None:
    async with another_server() as uri:
        async with scripted_server(home) as (server, _), server.client() as client:
            await client.call(REGISTER_MODEL, registration(uri))
        async with scripted_server(home) as (server, _), server.client() as client:
            completion = await client.call(CHAT_COMPLETIONS, chat_request(text="again"))
            assert completion.choices[0].message.content == "again "


@pytest.mark.parametrize("name", [MODEL_ID, MODEL_ID.partition(":")[0].upper(), "smollm2-135m"])
async def test_no_registration_takes_another_models_name(home: ModelDirectory, name: str) -> None:
    async with scripted_server(home) as (server, _), server.client() as client:
        with pytest.raises(ServerFailure, match=r"which is no registered model$") as caught:
            await client.call(REGISTER_MODEL, registration(name=name))
        assert (caught.value.failure.status, caught.value.failure.code) == (409, "name_taken")


async def test_a_model_that_came_later_goes_before_a_registered_one(home: ModelDirectory) -> None:
    RegisteredModels(home.home).add(ExternalModel.registered(registration(name=MODEL_ID)))
    async with scripted_server(home, text="local") as (server, _), server.client() as client:
        completion = await client.call(CHAT_COMPLETIONS, chat_request(MODEL_ID))
        assert completion.choices[0].message.content == "local"


async def test_only_this_machine_registers_and_only_what_can_be_registered(home: ModelDirectory) -> None:
    async with scripted_server(home) as (server, _):
        body = encode(registration("localhost"))
        refused = await ask(await server.connect(), "POST", "/openai/register", body)
        assert (refused.status, refused.json["error"]["param"]) == (400, "BaseUri")
        far = await server.connect(client="192.0.2.7:5000")
        assert (await ask(far, "POST", "/openai/register", body)).status == 403
        assert (await ask(far, "DELETE", "/openai/register/echo")).status == 403


async def test_embeddings_of_a_registered_model_are_relayed(
    home: ModelDirectory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    theirs = ModelDirectory(tmp_path_factory.mktemp("theirs"))
    write_encoder_folder(theirs.models / "encoder")
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with (
        scripted_server(theirs) as (other, _),
        scripted_server(home) as (server, _),
        server.client() as client,
        anyio.create_task_group() as group,
    ):
        await group.start(partial(serve, other.application, [listener]))
        name = ENCODER_ID.partition(":")[0]
        await client.call(REGISTER_MODEL, registration(f"http://127.0.0.1:{listener.port}/v1", name))
        reply = await client.call(EMBEDDINGS, EmbeddingRequest(model=name, input=("a", "dog")))
        assert [len(one.embedding) for one in reply.data] == [32, 32]
        group.cancel_scope.cancel()
