"""Laws of `POST /v1/embeddings`: vectors are numpy's in each form, and what is refused is named."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import pytest

from foundry_proto.codec import structure
from foundry_proto.messages.embeddings import EmbeddingList, EmbeddingRequest
from foundry_proto.operations import CHAT_COMPLETIONS, EMBEDDINGS
from foundry_proto.vectors import decode_vector
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.engine.embed import Embedder
from foundry_runtime.engine.text.inputs import InputEncoder
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.pool import LoadedEncoder
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from tests.support.applications import chat_request
from tests.support.scripted_model import scripted_server
from tests.support.serving import until
from tests.support.tiny_encoder import ENCODER_ID, tiny_encoder, write_encoder_folder
from tests.support.tiny_model import MODEL_ID, tiny_model_folder

pytestmark = pytest.mark.anyio

NAME = ENCODER_ID.partition(":")[0]
TEXTS = ["the dog barks", "[SEP] hello", "a cat"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    """A home with a chat model and one for embeddings."""
    directory = ModelDirectory(tmp_path_factory.mktemp("home"))
    folder = directory.models / "Test"
    folder.mkdir(parents=True)
    tiny_model_folder(folder)
    write_encoder_folder(folder / "encoder")
    return directory


async def ask(client: Client, given: object, **more: Any) -> EmbeddingList:
    return await client.call(EMBEDDINGS, structure(EmbeddingRequest, {"model": NAME, "input": given, **more}))


def token_ids(home: ModelDirectory, texts: Sequence[str]) -> list[list[int]]:
    return [list(ids) for ids in InputEncoder.load(home.models / "Test" / "encoder").encode(texts)]


def difference(reply: EmbeddingList, inputs: Sequence[Sequence[int]]) -> float:
    vectors = [one.embedding for one in reply.data]
    numbers = [decode_vector(one) if isinstance(one, str) else one for one in vectors]
    expected = [tiny_encoder().vector(ids) for ids in inputs]
    return float(np.abs(np.array(numbers) - np.array(expected)).max())


@pytest.mark.parametrize("encoding_format", [None, "float", "base64"])
async def test_vectors_are_numpys_in_the_order_of_the_inputs(
    home: ModelDirectory, encoding_format: str | None
) -> None:
    inputs = token_ids(home, TEXTS)
    async with scripted_server(home) as (server, _), server.client() as client:
        reply = await ask(client, TEXTS, encoding_format=encoding_format, dimensions=32, user="me")
    assert difference(reply, inputs) < 1e-4
    assert [one.index for one in reply.data] == [0, 1, 2]
    assert {type(one.embedding) for one in reply.data} == {str if encoding_format == "base64" else tuple}
    assert reply.model == NAME
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == sum(map(len, inputs))


async def test_all_forms_of_one_input_give_one_vector(home: ModelDirectory) -> None:
    ids = token_ids(home, TEXTS)
    async with scripted_server(home) as (server, models), server.client() as client:
        forms: list[object] = [TEXTS[1], [TEXTS[1]], ids[1], [ids[1]]]
        replies = [await ask(client, form) for form in forms]
        assert [reply.data for reply in replies] == [replies[0].data] * 4
        several = await ask(client, ids)
        assert difference(several, ids) < 1e-4
        assert models.loads == 1


@pytest.mark.parametrize(
    ("given", "param", "code", "message"),
    [
        ("", "input", None, "input: expected a text that is not empty, got an empty one"),
        (["a", ""], "input[1]", None, "input[1]: expected a text that is not empty, got an empty one"),
        (
            "hello " * 63,
            "input",
            "context_length_exceeded",
            "input: expected at most 64 tokens, which is the model's context, got 65",
        ),
        (
            [[2, 3], [5] * 65],
            "input[1]",
            "context_length_exceeded",
            "input[1]: expected at most 64 tokens, which is the model's context, got 65",
        ),
        ([2, 99], "input[1]", None, "input[1]: expected a token id below 99, got 99"),
        ([[2], [3, -1]], "input[1][1]", None, "input[1][1]: expected a token id below 99, got -1"),
    ],
)
async def test_an_input_that_the_model_cannot_read_is_named(
    home: ModelDirectory, given: object, param: str, code: str | None, message: str
) -> None:
    async with scripted_server(home) as (server, _), server.client() as client:
        with pytest.raises(ServerFailure) as caught:
            await ask(client, given)
        failure = caught.value.failure
        assert (failure.status, failure.param, failure.code) == (400, param, code)
        assert failure.message == message
        assert len((await ask(client, "a dog")).data) == 1


async def test_other_dimensions_than_the_models_are_refused(home: ModelDirectory) -> None:
    async with scripted_server(home) as (server, _), server.client() as client:
        with pytest.raises(ServerFailure) as caught:
            await ask(client, "a", dimensions=16)
        assert (caught.value.failure.status, caught.value.failure.param) == (400, "dimensions")
        assert str(caught.value) == "dimensions: expected 32, as many as the model gives, got 16"


async def test_a_model_does_what_it_is_there_for_and_is_not_loaded_for_anything_else(
    home: ModelDirectory,
) -> None:
    async with scripted_server(home) as (server, models), server.client() as client:
        with pytest.raises(ServerFailure) as caught:
            await ask(client, "a", model=MODEL_ID)
        assert caught.value.failure.status == 400
        assert str(caught.value) == f"model: {MODEL_ID} gives no embeddings: its task is chat-completion"
        with pytest.raises(ServerFailure) as caught:
            await client.call(CHAT_COMPLETIONS, chat_request(NAME))
        assert (caught.value.failure.status, caught.value.failure.code) == (400, "unsupported_model")
        assert str(caught.value) == f"model: {ENCODER_ID} generates no text: its task is embeddings"
        assert models.loads == 0
        with pytest.raises(ServerFailure) as caught:
            await ask(client, "a", model="nope")
        assert (caught.value.failure.status, caught.value.failure.code) == (404, "model_not_found")


async def test_what_goes_wrong_is_told_and_the_next_request_is_answered(
    home: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_server(home) as (server, models), server.client() as client:
        models.failures.append(RuntimeError("no room"))
        with pytest.raises(ServerFailure, match=r"could not be loaded: no room$") as caught:
            await ask(client, "a")
        assert caught.value.failure.status == 500
        with monkeypatch.context() as context:
            # A vocabulary that is larger than the model's.
            context.setattr("foundry_serve.handlers.embeddings.check_ids", lambda *_, **__: None)
            with pytest.raises(
                ServerFailure, match=r"^the inputs could not be embedded: the model failed: "
            ) as caught:
                await ask(client, [5000])
        assert caught.value.failure.status == 500
        assert len((await ask(client, "a")).data) == 1


@pytest.mark.client
async def test_openais_client_reads_the_same_vectors_in_both_forms(home: ModelDirectory) -> None:
    openai = pytest.importorskip("openai")

    def call(address: str) -> list[Any]:
        with openai.OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0) as client:
            create = client.embeddings.create
            # Without a word of it, this client asks for base64, and decodes it.
            replies = [
                create(model=NAME, input=TEXTS),
                create(model=NAME, input=TEXTS, encoding_format="float"),
            ]
            with pytest.raises(openai.BadRequestError, match="gives no embeddings"):
                create(model=MODEL_ID, input="a")
            with pytest.raises(openai.NotFoundError):
                create(model="nope", input="a")
            return replies

    async with scripted_server(home) as (server, _), anyio.create_task_group() as group:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        await group.start(partial(serve, server.application, [listener]))
        replies = await anyio.to_thread.run_sync(call, listener.address)
        group.cancel_scope.cancel()
    for reply in replies:
        plain = structure(EmbeddingList, reply.model_dump())
        assert difference(plain, token_ids(home, TEXTS)) < 1e-4
        assert (plain.usage.total_tokens, plain.model) == (17, NAME)


async def test_a_hang_up_stops_the_work(home: ModelDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    begun = anyio.Event()

    async def embed(self: Embedder, inputs: object) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("embed")

    async with scripted_server(home) as (server, _), server.client() as client:
        await ask(client, "a")
        monkeypatch.setattr(Embedder, "embed", embed)
        async with anyio.create_task_group() as group:
            group.start_soon(ask, client, "a")
            await begun.wait()
            group.cancel_scope.cancel()
        await until(lambda: ended)


async def test_the_pool_closes_an_embedder_like_any_model(home: ModelDirectory) -> None:
    async with scripted_server(home) as (server, _), server.client() as client:
        await ask(client, "a")
        pool = server.application._running[0].pool
        assert pool.loaded() == [ENCODER_ID]
        folder = pool._models[ENCODER_ID].folder
        async with pool.lease(folder) as model:
            assert isinstance(model, LoadedEncoder)
        pool.unload(ENCODER_ID, force=True)
        await until(lambda: model.embedder._graph is None)
        assert pool.loaded() == []
        assert len((await ask(client, "a")).data) == 1
