"""Laws of the routes that list, load and unload models, in the words of both generations."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.recipes import DEFAULT_ALIAS, DEFAULT_ID
from foundry_runtime.transport import Transport
from tests.serve.conftest import PAGE_MODELS, add_model
from tests.support.asking import Reply, ask
from tests.support.scripted_model import ScriptedModels, scripted_server
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio

BASE = MODEL_ID.partition(":")[0]
PHRASE = "No OpenAIService provider found for modelName"


class Asker:
    """A client on one connection."""

    def __init__(self, transport: Transport, models: ScriptedModels) -> None:
        self._transport = transport
        self.models = models

    async def get(self, target: str) -> Reply:
        return await ask(self._transport, "GET", target)

    async def loaded(self) -> Any:
        return (await self.get("/openai/loadedmodels")).json

    async def done(self, target: str) -> None:
        """Ask for what is answered with an empty body."""
        reply = await self.get(target)
        assert (reply.status, reply.headers["content-length"], reply.body) == (200, "0", b""), reply


@asynccontextmanager
async def asking(home: ModelDirectory, **more: Any) -> AsyncIterator[Asker]:
    async with scripted_server(home, **more) as (server, models):
        yield Asker(await server.connect(), models)


# Lists.


async def test_the_catalogue_is_an_array_in_the_order_that_clients_choose_by(
    page_home: ModelDirectory,
) -> None:
    async with asking(page_home) as client:
        listed = (await client.get("/foundry/list")).json
        assert isinstance(listed, list)
        names = [model["name"] for model in listed]
        assert names == sorted([*PAGE_MODELS, DEFAULT_ID], key=str.casefold)
        by_object = (await client.get("/foundry/list?format=object")).json
        assert by_object == {"models": listed}
        assert (await client.get("/foundry/list?format=array")).json == listed


async def test_every_field_of_a_listed_model_is_there_and_none_is_null(page_home: ModelDirectory) -> None:
    async with asking(page_home) as client:
        for model in (await client.get("/foundry/list")).json:
            base, _, version = model["name"].rpartition(":")
            assert (model["displayName"], model["version"]) == (base, version)
            assert version.isdecimal()
            assert model["runtime"]["deviceType"] in {"CPU", "GPU", "NPU"}
            assert {type(model[name]) for name in ("maxOutputTokens", "fileSizeMb")} == {int}
            assert model["modelSettings"] == {"parameters": []}
            nulls = [name for name, value in model.items() if value is None]
            assert nulls in ([], ["promptTemplate"])


async def test_a_model_in_a_nested_folder_without_a_version_is_version_0(
    tiny_home: ModelDirectory, tmp_path: Path
) -> None:
    home = ModelDirectory(tmp_path, tmp_path / "models")
    add_model(
        ModelDirectory(tmp_path, home.models / "publisher" / "mine"),
        "mine",
        tiny_home.models / "Test" / "tiny",
    )
    async with asking(home) as client:
        assert (await client.get("/openai/models")).json == ["mine:0"]
        await client.done("/openai/load/mine")
        assert await client.loaded() == ["mine:0"]


@pytest.mark.client
async def test_the_official_clients_own_class_reads_every_listed_model(page_home: ModelDirectory) -> None:
    read = pytest.importorskip("foundry_local.models").FoundryListResponseModel
    async with asking(page_home) as client:
        for model in (await client.get("/foundry/list")).json:
            assert read.model_validate(model).name == model["name"]


async def test_lists_of_what_can_be_used_have_what_is_here_and_the_rest_only_if_asked(
    page_home: ModelDirectory,
) -> None:
    async with asking(page_home) as client:
        names = {model["name"] for model in (await client.get("/foundry/list")).json}
        cached = (await client.get("/openai/models")).json
        assert set(cached) == {*PAGE_MODELS} < names
        here = (await client.get("/v1/models")).json
        assert here["object"] == "list"
        assert [model["id"] for model in here["data"]] == cached
        everything = (await client.get("/v1/models?all=true")).json["data"]
        assert {model["id"] for model in everything} == names
        for model in everything:
            assert model == {
                "id": model["id"],
                "object": "model",
                "created": model["created"],
                "owned_by": model["owned_by"],
            }
            assert model["owned_by"]
            assert (await client.get(f"/v1/models/{model['id']}")).json == model


@pytest.mark.parametrize("name", [MODEL_ID, BASE, BASE.upper(), quote(MODEL_ID, safe="")])
async def test_a_model_is_described_under_each_of_its_names(tiny_home: ModelDirectory, name: str) -> None:
    async with asking(tiny_home) as client:
        assert (await client.get(f"/v1/models/{name}")).json["id"] == MODEL_ID


async def test_a_model_that_is_nowhere_is_described_to_nobody(tiny_home: ModelDirectory) -> None:
    async with asking(tiny_home) as client:
        reply = await client.get("/v1/models/nope")
        assert (reply.status, reply.json) == (
            404,
            {
                "error": {
                    "message": "Model not found: No model matching 'nope'",
                    "type": "invalid_request_error",
                    "param": "name",
                    "code": "model_not_found",
                }
            },
        )


async def test_a_home_without_models_has_empty_lists(tmp_path: Path) -> None:
    async with asking(ModelDirectory(tmp_path)) as client:
        assert (await client.get("/openai/models")).json == []
        assert (await client.get("/openai/loadedmodels")).json == []
        assert (await client.get("/models/loaded")).json == []
        assert (await client.get("/v1/models")).json == {"object": "list", "data": []}
        assert [model["name"] for model in (await client.get("/foundry/list")).json] == [DEFAULT_ID]


# Loading and unloading, as the first service's clients ask for it.


async def test_a_loaded_model_is_listed_until_it_is_unloaded_by_force(tiny_home: ModelDirectory) -> None:
    async with asking(tiny_home) as client:
        assert await client.loaded() == []
        for _ in range(2):
            await client.done(f"/openai/load/{MODEL_ID}?ttl=600&ep=")
            assert await client.loaded() == [MODEL_ID]
        assert client.models.loads == 1
        await client.done(f"/openai/unload/{MODEL_ID}?force=false")
        assert await client.loaded() == [MODEL_ID]
        await client.done(f"/openai/unload/{MODEL_ID}?force=true")
        assert await client.loaded() == []
        await client.done(f"/openai/unload/{MODEL_ID}?force=true")


async def test_all_models_are_unloaded_at_once(page_home: ModelDirectory) -> None:
    async with asking(page_home) as client:
        for model_id in PAGE_MODELS[:2]:
            await client.done(f"/openai/load/{model_id}?unload=false")
        assert sorted(await client.loaded()) == sorted(PAGE_MODELS[:2])
        await client.done("/openai/unloadall")
        assert await client.loaded() == []


@pytest.mark.parametrize("name", [BASE, BASE.upper(), quote(MODEL_ID, safe=""), f"%74{BASE[1:]}%3a1"])
async def test_a_model_is_loaded_and_unloaded_under_each_of_its_names(
    tiny_home: ModelDirectory, name: str
) -> None:
    async with asking(tiny_home) as client:
        await client.done(f"/openai/load/{name}")
        assert await client.loaded() == [MODEL_ID]
        await client.done(f"/openai/unload/{name}?FORCE=True")
        assert await client.loaded() == []
        assert (await client.get(f"/models/load/{name}")).json == {"status": "loaded"}
        assert (await client.get(f"/models/unload/{name}")).json == {"status": "unloaded"}


@pytest.mark.parametrize(
    ("name", "why"), [("nope:1", "No model of this name"), (DEFAULT_ALIAS, "download it")]
)
async def test_what_cannot_be_loaded_is_told_in_the_words_that_clients_look_for(
    tiny_home: ModelDirectory, name: str, why: str
) -> None:
    async with asking(tiny_home) as client:
        reply = await client.get(f"/openai/load/{name}?ttl=600&ep=")
        assert reply.status == 404
        assert f"{PHRASE}:{name}" in reply.json["detail"]
        assert why in reply.json["errorMessage"]
        assert (reply.json["error"]["param"], reply.json["success"]) == ("name", False)
        assert await client.loaded() == []


async def test_an_unknown_model_cannot_be_unloaded_and_a_known_one_need_not_be_here(
    tiny_home: ModelDirectory,
) -> None:
    async with asking(tiny_home) as client:
        assert (await client.get("/openai/unload/nope?force=true")).status == 404
        await client.done(f"/openai/unload/{DEFAULT_ALIAS}")


@pytest.mark.parametrize(
    ("words", "param", "message"),
    [
        ("ep=nonsense", "ep", 'ep: expected "cpu", "cuda", "dml", "qnn" or "webgpu", got "nonsense"'),
        ("ep=CUDA", "ep", "ep: expected a provider that is available here (cpu), got cuda"),
        ("ttl=-1", "ttl", "ttl: expected an integer from 0 to 2147483647, got -1"),
        ("ttl=soon", "ttl", 'ttl: expected an integer from 0 to 2147483647, got "soon"'),
        ("unload=perhaps", "unload", 'unload: expected true or false, got "perhaps"'),
    ],
)
async def test_terms_that_cannot_be_met_are_refused_by_name(
    tiny_home: ModelDirectory, words: str, param: str, message: str
) -> None:
    async with asking(tiny_home) as client:
        reply = await client.get(f"/openai/load/{BASE}?{words}")
        assert (reply.status, reply.json["error"]["param"]) == (400, param)
        assert reply.json["detail"] == message
        assert await client.loaded() == []


async def test_terms_may_be_written_as_any_client_writes_them(tiny_home: ModelDirectory) -> None:
    async with asking(tiny_home) as client:
        for words in ("timeout=600", "ep=CPU&ttl=", "TTL=600&EP=cpu&unload=TRUE", "retries=3"):
            await client.done(f"/openai/load/{BASE}?{words}")


async def test_loads_at_the_same_time_are_one_load(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, models):
        statuses = []

        async def load() -> None:
            reply = await ask(await server.connect(), "GET", f"/openai/load/{BASE}?ttl=600")
            statuses.append(reply.status)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(load)
        assert (statuses, models.loads) == ([200] * 3, 1)


async def test_a_load_that_fails_is_told_to_each_generation_and_tried_again(
    tiny_home: ModelDirectory,
) -> None:
    failures = [ValueError("the file is torn") for _ in range(2)]
    async with asking(tiny_home, failures=failures) as client:
        reason = f"the model {MODEL_ID} could not be loaded: the file is torn"
        older = await client.get(f"/openai/load/{BASE}")
        assert (older.status, older.json["title"], older.json["detail"]) == (
            500,
            "Internal Server Error",
            reason,
        )
        newer = await client.get(f"/models/load/{BASE}")
        assert (newer.status, newer.json["error"]["message"]) == (500, f"Load failed: {reason}")
        assert newer.json["error"]["type"] == "server_error"
        assert (await client.get(f"/models/load/{BASE}")).json == {"status": "loaded"}


# Loading and unloading, as the newer service's clients ask for it.


async def test_the_newer_routes_say_what_became_of_the_model(tiny_home: ModelDirectory) -> None:
    async with asking(tiny_home) as client:
        said = [
            (await client.get(f"/models/{what}/{quote(MODEL_ID, safe='')}")).json["status"]
            for what in ("unload", "load", "load", "unload", "unload")
        ]
        assert said == ["not_loaded", "loaded", "already_loaded", "unloaded", "not_loaded"]
        assert (await client.get("/models/loaded")).json == []


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/models/load/nope", 404, "Model not found: No model matching 'nope'"),
        ("/models/unload/nope", 404, "Model not found: No model matching 'nope'"),
        (f"/models/load/{DEFAULT_ID}", 400, "Model not cached: Model must be downloaded before loading"),
    ],
)
async def test_the_newer_routes_refuse_in_their_own_words(
    tiny_home: ModelDirectory, target: str, status: int, message: str
) -> None:
    async with asking(tiny_home) as client:
        reply = await client.get(target)
        assert (reply.status, reply.json["error"]["message"]) == (status, message)


async def test_a_model_whose_files_are_gone_can_still_be_unloaded(
    tiny_home: ModelDirectory, tmp_path: Path
) -> None:
    home = ModelDirectory(tmp_path)
    add_model(home, "gone:3", tiny_home.models / "Test" / "tiny")
    async with asking(home) as client:
        await client.done("/openai/load/gone")
        shutil.rmtree(home.models)
        assert await client.loaded() == ["gone:3"]
        assert (await client.get("/openai/load/gone")).status == 404
        await client.done("/openai/unload/gone?force=true")
        assert await client.loaded() == []
