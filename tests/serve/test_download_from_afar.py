"""`POST /openai/download` from the catalogue and from the hub, up to an answer of the model that has come."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from foundry_proto.codec import structure
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.messages.downloads import DownloadRequest
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_proto.operations.downloads import DOWNLOAD_MODEL
from foundry_proto.streams import PROGRESS
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.download.sources.api import Source
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.loading import ModelOpener
from foundry_serve.app import make_application
from tests.support.asking import ask
from tests.support.fake_azure import azure_asset, fake_azure
from tests.support.fake_hub import fake_hub
from tests.support.serving import Served, served, until
from tests.support.tiny_model import tiny_model_folder

pytestmark = pytest.mark.anyio

NAME = "Tiny-random-generic-cpu"
TEMPLATE = {"system": "<|system|>{Content}", "user": None, "prompt": "<|user|>{Content}<|end|>"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """A real model's files by path."""
    return files_of(tiny_model_folder(tmp_path_factory.mktemp("tiny")))


def files_of(folder: Path) -> Mapping[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "one.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, authority: Path) -> None:
    """No pause between an answer's last writes, and one authority instead of all of the world."""
    monkeypatch.setattr(type(PROGRESS), "final_pause", 0.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))


@pytest.fixture
def home(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "Zuhause mit Ä")


@asynccontextmanager
async def serving(home: ModelDirectory, *sources: Source) -> AsyncIterator[Served]:
    """The product over the engine that it really has."""
    application = make_application(home, ModelOpener(threads=1, engine="batched"), sources=sources)
    async with served(application) as server:
        yield server


def names_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


async def told(client: Client, body: dict[str, Any]) -> list[tuple[str, float]]:
    async with client.stream(DOWNLOAD_MODEL, structure(DownloadRequest, body)) as stream:
        return [(item.file, item.fraction) async for item in stream]


async def answer(client: Client, model: str) -> str:
    message = UserMessage(role="user", content="Hello")
    request = ChatCompletionRequest(model=model, messages=(message,), max_tokens=5, seed=1)
    said = await client.call(CHAT_COMPLETIONS, request)
    return str(said.choices[0].message.content)


async def get(server: Served, target: str) -> Any:
    reply = await ask(await server.connect(), "GET", target)
    assert reply.status == 200, reply.body
    return reply.json if reply.body else None


async def test_a_model_of_the_catalogue_is_downloaded_loaded_and_answers(
    home: ModelDirectory, tiny: Mapping[str, bytes]
) -> None:
    asset = azure_asset(NAME, 4)
    blobs = {f"v4/{name}": data for name, data in tiny.items()} | {"v4/empty": b""}
    body = {
        "model": {
            "Name": f"{NAME}:4",
            "Uri": asset,
            "Publisher": "Microsoft",
            "ProviderType": "AzureFoundryLocal",
            "PromptTemplate": TEMPLATE,
        },
        "token": None,
        "IgnorePipeReport": True,
    }
    with fake_azure({asset: blobs}) as azure:
        async with serving(home, azure.source()) as server, server.client() as client:
            news = await told(client, body)
            fractions = [fraction for _, fraction in news]
            assert fractions == sorted(fractions)
            assert await get(server, "/openai/models") == [f"{NAME}:4"]
            folder = home.models / "Microsoft" / f"{NAME}-4"
            written = json.loads((folder / "inference_model.json").read_text())
            assert (written["Name"], written["PromptTemplate"]) == (f"{NAME}:4", TEMPLATE)
            came = files_of(folder)
            assert came == {**tiny, "empty": b"", "inference_model.json": came["inference_model.json"]}
            assert "download.tmp" not in names_below(home.home)
            await get(server, f"/openai/load/{NAME}:4?ttl=600&ep=")
            assert await get(server, "/openai/loadedmodels") == [f"{NAME}:4"]
            assert await answer(client, NAME)
            asked = len(azure.site.asked)
            assert await told(client, body) == []  # it is here
            assert len(azure.site.asked) == asked


async def test_a_client_that_hangs_up_leaves_what_the_next_one_goes_on_with(
    home: ModelDirectory, tiny: Mapping[str, bytes]
) -> None:
    asset, gate, large = azure_asset(NAME, 4), threading.Event(), bytes(range(256)) * 12_000
    body = {"model": {"Name": f"{NAME}:4", "Uri": asset, "ProviderType": "AzureFoundry"}}
    with fake_azure({asset: {**tiny, "weights": large}}) as azure:
        azure.holds["weights"] = (2_000_000, gate)
        async with serving(home, azure.source()) as server, server.client() as client:
            data = json.dumps(body).encode()
            transport = await server.connect()
            head = b"POST /openai/download HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data)
            await transport.send(head + data)
            while not re.search(rb"\nTotal [6-9]\d", await transport.receive()):
                pass
            await transport.aclose()
            await until(lambda: server.ended == 1)
            gate.set()
            assert await get(server, "/openai/models") == []
            news = await told(client, body)
            assert news[-1][1] <= 1
            assert await get(server, "/openai/models") == [f"{NAME}:4"]
            assert (home.models / "Microsoft" / f"{NAME}-4" / "weights").read_bytes() == large
        first, *others = azure.site.of("weights")
        starts = [int(one.headers["range"].removeprefix("bytes=").partition("-")[0]) for one in others]
        assert "range" not in first.headers
        assert starts
        assert min(starts) > 1_500_000


async def test_two_requests_for_one_model_share_one_fetch(
    home: ModelDirectory, tiny: Mapping[str, bytes]
) -> None:
    asset = azure_asset(NAME, 4)
    body = {"model": {"Name": f"{NAME}:4", "Uri": asset, "ProviderType": "AzureFoundry"}}
    with fake_azure({asset: tiny}) as azure:
        async with serving(home, azure.source()) as server, server.client() as client:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(told, client, body)
            assert await get(server, "/openai/models") == [f"{NAME}:4"]
        targets = [one.target for one in azure.site.asked]
        assert len(targets) == len(set(targets)) == 2 + len(tiny) - 1  # all but inference_model.json


async def test_a_model_of_the_hub_is_downloaded_loaded_and_answers(
    home: ModelDirectory, tiny: Mapping[str, bytes]
) -> None:
    inside = {f"onnx/cpu int4/{name}": data for name, data in tiny.items()}
    with fake_hub({"me/mine": {**inside, "README.md": b"", ".gitattributes": b"*"}}) as hub:
        hub.token = "hf_secret"
        model = {"Name": "mine", "Uri": "me/mine", "ProviderType": "HuggingFace", "Path": "onnx/cpu int4"}
        async with serving(home, hub.source()) as server, server.client() as client:
            with pytest.raises(
                ServerFailure, match=r"^hf://me/mine: there is no such repository, or it needs"
            ):
                await told(client, {"model": model})
            assert await get(server, "/openai/models") == []
            await told(client, {"model": model, "token": "hf_secret", "bufferSize": 64})
            assert await get(server, "/openai/models") == ["mine:1"]
            assert home.path_of("mine:1") == home.models / "HuggingFace" / "mine-1"
            assert await answer(client, "mine")
        assert hub.storage.asked
        assert all("authorization" not in one.headers for one in hub.storage.asked)


async def test_a_model_that_the_catalogue_does_not_have_is_a_failure_and_no_folder(
    home: ModelDirectory,
) -> None:
    with fake_azure() as azure:
        model = {"Name": "none:1", "Uri": azure_asset("none"), "ProviderType": "AzureFoundry"}
        async with serving(home, azure.source()) as server, server.client() as client:
            transport = await server.connect()
            reply = await ask(transport, "POST", "/openai/download", json.dumps({"model": model}).encode())
            assert reply.status == 200
            result = json.loads(reply.body[reply.body.rindex(b"{") :])
            assert result["success"] is False
            assert result["errorMessage"].startswith(f"{azure_asset('none')}: {azure.site.url}/westplace/")
            assert result["errorMessage"].endswith(": 404 Not Found")
            assert await get(server, "/openai/models") == []
            assert "genai_config.json" not in names_below(home.home)
            with pytest.raises(ServerFailure, match="404 Not Found"):
                await told(client, {"model": model})


@pytest.mark.parametrize("name", ["../evil", "..\\evil"])
async def test_a_name_that_leads_out_of_the_folder_writes_nothing_anywhere(
    home: ModelDirectory, tiny: Mapping[str, bytes], tmp_path: Path, name: str
) -> None:
    asset = azure_asset("bad")
    with fake_azure({asset: {**tiny, name: b"evil"}}) as azure:
        model = {"Name": "bad:1", "Uri": asset, "ProviderType": "AzureFoundry"}
        async with serving(home, azure.source()) as server, server.client() as client:
            refusal = f"expected names within a folder, got {name!r}"
            with pytest.raises(ServerFailure, match=f"{re.escape(refusal)}$"):
                await told(client, {"model": model})
            assert await get(server, "/openai/models") == []
        assert not azure.site.of("evil")
    assert names_below(tmp_path) & {"evil", "genai_config.json"} == set()
