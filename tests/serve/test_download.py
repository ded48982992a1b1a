"""Laws of `POST /openai/download`: what its clients read, what its properties do, and what is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from foundry_proto.codec import structure
from foundry_proto.messages.downloads import DownloadRequest
from foundry_proto.messages.registration import RegisterRequest
from foundry_proto.operations.downloads import DOWNLOAD_MODEL
from foundry_proto.operations.registration import REGISTER_MODEL
from foundry_proto.streams import PROGRESS
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.download.sources.api import DownloadFailed, Source
from foundry_runtime.download.sources.local_files import LocalFiles
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.recipes import DEFAULT_MODEL
from foundry_runtime.transport import Transport
from tests.runtime.download.published import publish
from tests.runtime.models.folders import write_folder
from tests.support.asking import ask
from tests.support.scripted_model import scripted_server
from tests.support.scripted_source import ScriptedSource
from tests.support.serving import Served, until

pytestmark = pytest.mark.anyio

MINE = {"Name": "mine:1", "Uri": "test:mine", "ProviderType": "Test", "Publisher": "", "PromptTemplate": None}


@pytest.fixture
def home(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "Zuhause mit Ä")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands between an answer's last writes is a matter of its own."""
    monkeypatch.setattr(type(PROGRESS), "final_pause", 0.0)


@asynccontextmanager
async def serving(home: ModelDirectory, *sources: Source) -> AsyncIterator[Served]:
    async with scripted_server(home, sources=sources) as (server, _):
        yield server


async def told(client: Client, body: dict[str, Any]) -> list[tuple[str, float]]:
    async with client.stream(DOWNLOAD_MODEL, structure(DownloadRequest, body)) as stream:
        return [(item.file, item.fraction) async for item in stream]


async def test_a_download_ends_with_a_model_that_is_listed_and_whole(home: ModelDirectory) -> None:
    template = {"system": "<|s|>{Content}", "user": None}
    async with serving(home, ScriptedSource()) as server, server.client() as client:
        await told(client, {"model": {**MINE, "PromptTemplate": template}})
        (entry,) = home.entries()
        assert entry.id == "mine:1"
        assert entry.path == home.models / "tester" / "mine-1"
        identity = json.loads((entry.path / "inference_model.json").read_bytes())
        assert (identity["Name"], identity["PromptTemplate"]) == ("mine:1", template)
        assert not list(home.home.rglob("download.tmp"))
        assert not home.unfinished("mine:1").exists()


@pytest.mark.parametrize(
    "model",
    ["mine", "MINE:1", {"name": "mine"}, {"NAME": "mine:1", "URI": "azureml://registries/x"}],
    ids=str,
)
async def test_a_model_that_is_here_is_told_at_once(home: ModelDirectory, model: object) -> None:
    write_folder(home.models / "Someone" / "mine-1", "mine:1")
    source = ScriptedSource()
    async with serving(home, source) as server, server.client() as client:
        assert await told(client, {"Model": model}) == []
        assert source.fetched == []


async def test_force_fetches_again_and_replaces(home: ModelDirectory) -> None:
    folder = write_folder(home.models / "tester" / "mine-1", "mine:1", old=True)
    source = ScriptedSource()
    async with serving(home, source) as server, server.client() as client:
        assert await told(client, {"model": MINE, "Force": True}) != []
        assert len(source.fetched) == 1
        assert "old" not in json.loads((folder / "inference_model.json").read_bytes())


async def test_each_property_reaches_the_source(
    home: ModelDirectory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = ScriptedSource()
    body = {
        "model": {**MINE, "Publisher": "Acme", "Path": "onnx/cpu"},
        "token": "hf_secret",
        "progressToken": {"any": ["value"]},
        "customDirPath": str(tmp_path / "my own"),
        "bufferSize": 64,
        "ignorePipeReport": False,
    }
    async with serving(home, source) as server, server.client() as client:
        await told(client, body)
    (model,) = source.fetched
    assert (model.id, model.path, model.publisher) == ("mine:1", "onnx/cpu", "Acme")
    assert (model.token, model.buffer_size) == ("hf_secret", 65536)
    assert (tmp_path / "my own" / "Acme" / "mine-1" / "genai_config.json").exists()
    assert home.entries() == []
    assert "hf_secret" not in caplog.text


@pytest.mark.parametrize(
    "property_",
    [
        *({"progressToken": value} for value in ("x", 7, 1.5, True, None, ["x"], {"a": {"b": 1}})),
        *({"ignorePipeReport": value} for value in (True, False, None)),
        *({"IGNOREPIPEREPORT": True, "ProgressToken": 1, "Token": None, "CustomDirPath": None},),
        *({"bufferSize": value} for value in (0, 1, 2**20, None)),
        {"customDirPath": ""},
        {"token": ""},
    ],
    ids=json.dumps,
)
async def test_whatever_clients_send_beside_the_model_it_comes(
    home: ModelDirectory, property_: dict[str, Any]
) -> None:
    source = ScriptedSource(pause=0)
    async with serving(home, source) as server, server.client() as client:
        news = await told(client, {"model": MINE, **property_})
        # Progress is in the answer, whether it could have gone elsewhere or not.
        assert [file for file, _ in news][-1] in {"", "genai_config.json", "model.onnx.data"}
    (wanted,) = source.fetched
    size = property_.get("bufferSize")
    assert (wanted.token, wanted.buffer_size) == (None, size * 1024 if size else None)
    assert [entry.id for entry in home.entries()] == ["mine:1"]


@pytest.mark.parametrize(
    ("property_", "message"),
    [
        ({"token": 5}, "token: expected a string, got 5"),
        ({"ignorePipeReport": "yes"}, 'ignorePipeReport: expected true or false, got "yes"'),
        ({"customDirPath": 5}, "customDirPath: expected a string, got 5"),
        ({"bufferSize": -1}, "bufferSize: expected an integer from 0 to 1048576, got -1"),
        ({"bufferSize": 1.5}, "bufferSize: expected an integer from 0 to 1048576, got 1.5"),
        ({"force": "no"}, 'force: expected true or false, got "no"'),
        (
            {"model": {**MINE, "PromptTemplate": "<|user|>"}},
            'model.PromptTemplate: expected an object, got "<|user|>"',
        ),
        (
            {"model": {**MINE, "PromptTemplate": {"user": 5}}},
            "model.PromptTemplate.user: expected a string, got 5",
        ),
    ],
)
async def test_a_property_that_cannot_be_honoured_is_refused_by_its_name(
    home: ModelDirectory, property_: dict[str, Any], message: str
) -> None:
    source = ScriptedSource()
    async with serving(home, source) as server:
        body = json.dumps({"model": MINE, **property_}).encode()
        reply = await ask(await server.connect(), "POST", "/openai/download", body)
        assert (reply.status, reply.json["errorMessage"]) == (400, message)
        assert source.fetched == []


async def test_a_prompt_template_goes_before_what_the_source_brings(home: ModelDirectory) -> None:
    def make(folder: Path) -> None:
        write_folder(folder, PromptTemplate={"user": "its own"}, maxOutputTokens=7)

    async with serving(home, ScriptedSource(make=make)) as server, server.client() as client:
        for number, (template, kept) in enumerate(
            [
                (None, {"user": "its own"}),
                ({}, {"user": "its own"}),
                ({"user": "x{Content}"}, {"user": "x{Content}"}),
            ]
        ):
            model = {**MINE, "Name": f"mine:{number}", "PromptTemplate": template}
            await told(client, {"model": model})
            path = home.path_of(f"mine:{number}")
            assert path is not None
            identity = json.loads((path / "inference_model.json").read_bytes())
            assert (identity["PromptTemplate"], identity["maxOutputTokens"]) == (kept, 7)


async def test_a_name_without_a_version_is_version_one(home: ModelDirectory) -> None:
    async with serving(home, ScriptedSource()) as server, server.client() as client:
        await told(client, {"model": {"Name": "mine", "Uri": "test:mine"}})
        assert [entry.id for entry in home.entries()] == ["mine:1"]


async def test_two_requests_for_one_model_share_one_fetch(home: ModelDirectory) -> None:
    source = ScriptedSource(pause=0.02)
    async with serving(home, source) as server, server.client() as client:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(told, client, {"model": MINE})
        assert len(source.fetched) == 1


async def begin(server: Served) -> Transport:
    """Ask for a model, and read the first update."""
    transport = await server.connect()
    data = json.dumps({"model": MINE}).encode()
    await transport.send(
        b"POST /openai/download HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    )
    assert b"\nTotal " in await transport.receive()
    return transport


async def test_a_client_that_hangs_up_leaves_the_work_to_others_and_else_for_later(
    home: ModelDirectory,
) -> None:
    source = ScriptedSource(hangs=True)
    async with serving(home, source) as server, server.client() as client:
        one, other = await begin(server), await begin(server)
        await until(lambda: source.fetched)
        await one.aclose()
        await until(lambda: server.ended == 1)
        assert source.stopped == 0
        await other.aclose()
        await until(lambda: source.stopped == 1)
        assert home.entries() == []
        assert (home.unfinished("mine:1") / "scratch" / "begun").exists()
        source.hangs = False
        await told(client, {"model": MINE})
        assert [entry.id for entry in home.entries()] == ["mine:1"]


async def test_a_failure_ends_the_stream_with_its_reason(home: ModelDirectory) -> None:
    source = ScriptedSource(failure=DownloadFailed("disk full"))
    async with serving(home, source) as server, server.client() as client:
        transport = await server.connect()
        reply = await ask(transport, "POST", "/openai/download", json.dumps({"model": MINE}).encode())
        assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        *_, marker, result = reply.body.decode().splitlines()
        assert marker == "[DONE] All Completed!"
        assert json.loads(result) == {
            "success": False, "errorMessage": "disk full", "error": "disk full",
            "Success": False, "ErrorMessage": "disk full",
        }  # fmt: skip
        with pytest.raises(ServerFailure, match=r"^disk full$"):
            await told(client, {"model": MINE})
        assert home.entries() == []


# ruff: noqa: E501
REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"model": 5}, 400, "model", "model: expected a model or a string, got 5"),
    ({"model": {"Uri": "test:x"}}, 400, "model.Name", "model.Name: expected a string, got nothing"),
    ({"model": "nobody"}, 404, "model", "model: No OpenAIService provider found for modelName:nobody"),
    ({"model": {"Name": "nobody:1"}}, 404, "model", "model: No OpenAIService provider found for modelName:nobody:1"),
    ({"model": {"Name": "nobody", "Uri": "local://nobody"}}, 404, "model", "model: No OpenAIService provider found"),
    ({"model": {**MINE, "Uri": "azureml://registries/azureml/models/x", "ProviderType": "AzureFoundryLocal"}}, 400,
     "model.ProviderType", "model.ProviderType: nothing here can fetch azureml://registries/azureml/models/x (AzureFoundryLocal): expected test:NAME"),
    ({"model": {**MINE, "Uri": "hf://a/b", "ProviderType": "HuggingFace"}}, 400,
     "model.ProviderType", "model.ProviderType: nothing here can fetch hf://a/b (HuggingFace): expected test:NAME"),
    ({"model": {**MINE, "Name": "..:1"}}, 400, "model.Name", "model.Name: model id: expected a name that a folder can have"),
    ({"model": {**MINE, "Name": "a:b"}}, 400, "model.Name", "model.Name: model id: expected NAME or NAME:NUMBER, got a:b"),
    ({"model": {**MINE, "Publisher": "a/b"}}, 400, "model.Name", "model.Name: publisher: expected a name that a folder can have"),
    ({"model": {**MINE, "Publisher": "x."}}, 400, "model.Name", "model.Name: publisher: expected a name that a folder can have"),
    ({"model": MINE, "customDirPath": "models"}, 400, "customDirPath", "customDirPath: expected an absolute path, got 'models'"),
    ({"model": MINE, "bufferSize": "big"}, 400, "bufferSize", 'bufferSize: expected an integer from 0 to 1048576, got "big"'),
]  # fmt: skip


async def test_what_cannot_be_downloaded_is_refused_in_words_for_clients_of_every_age(
    home: ModelDirectory,
) -> None:
    source = ScriptedSource()
    async with serving(home, source) as server:
        transport = await server.connect()
        for body, status, param, message in REFUSED:
            reply = await ask(transport, "POST", "/openai/download", json.dumps(body).encode())
            refusal = reply.json
            assert (reply.status, refusal["error"]["param"]) == (status, param), body
            assert refusal["errorMessage"].startswith(message), body
            assert refusal["success"] is False
            assert refusal["error"]["message"] == refusal["errorMessage"] == refusal["detail"]
        assert source.fetched == []
        assert not home.home.exists()


async def test_paths_of_the_servers_machine_are_for_clients_on_it(
    home: ModelDirectory, tmp_path: Path
) -> None:
    source = write_folder(tmp_path / "source")
    async with serving(home, LocalFiles(), ScriptedSource()) as server:
        far = await server.connect(client="192.0.2.7:5000")
        for body in (
            {"model": {"Name": "x", "Uri": source.as_uri()}},
            {"model": MINE, "customDirPath": str(tmp_path / "x")},
        ):
            reply = await ask(far, "POST", "/openai/download", json.dumps(body).encode())
            assert (reply.status, reply.json["error"]["code"]) == (403, "forbidden")
        assert home.entries() == []


async def test_a_folder_on_this_machine_becomes_a_model(home: ModelDirectory, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", "other name:3", maxOutputTokens=5)
    async with serving(home, LocalFiles()) as server, server.client() as client:
        await told(client, {"model": {"Name": "mine:2", "Uri": source.as_uri()}})
        folder = home.find("mine:2")
        assert folder is not None
        assert (folder.path, folder.max_output_tokens) == (home.models / "local" / "mine-2", 5)
        # What a user has brought comes from nowhere else, forced or not.
        assert await told(client, {"model": {"Name": "mine:2", "Uri": "local://mine"}, "force": True}) == []


async def test_a_registered_model_needs_no_download(home: ModelDirectory) -> None:
    async with serving(home) as server, server.client() as client:
        await client.call(
            REGISTER_MODEL, RegisterRequest(type_name="x", model_name="far", base_uri="http://127.0.0.1:9/v1")
        )
        assert await told(client, {"model": "far"}) == []
        assert await told(client, {"model": {"Name": "far:1", "Uri": "http://127.0.0.1:9/v1"}}) == []


async def test_the_default_model_is_downloaded_as_a_client_sends_it_back(
    home: ModelDirectory, tmp_path: Path
) -> None:
    published = publish(tmp_path / "published")
    # One client adds to every provider's name.
    entry = {"Name": DEFAULT_MODEL.id, "Uri": DEFAULT_MODEL.uri, "ProviderType": "PackageIndexLocal"}
    async with serving(home, published.source(), LocalFiles()) as server, server.client() as client:
        news = await told(client, {"model": entry})
        assert [fraction for _, fraction in news] == sorted(fraction for _, fraction in news)
        assert [entry.id for entry in home.entries()] == [DEFAULT_MODEL.id]
        assert await told(client, {"model": DEFAULT_MODEL.alias}) == []
        assert len(published.calls) == 1
