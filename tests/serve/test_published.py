"""Laws of the product with a public catalogue: lists, names and downloads, with and without a network."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.published import kept
from foundry_runtime.models.published.address import CatalogAddress
from foundry_runtime.models.published.models import PublishedModels
from foundry_runtime.models.recipes import DEFAULT_ID
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.app import make_application
from foundry_serve.catalog import published_models
from foundry_serve.config import Config
from tests.serve.conftest import add_model
from tests.support.asking import ask
from tests.support.fake_catalog import FakeCatalog, entry, fake_catalog
from tests.support.scripted_model import ScriptedModels, scripted_server
from tests.support.scripted_source import ScriptedSource
from tests.support.serving import Served, until

pytestmark = pytest.mark.anyio

PHI = "phi-4-mini-instruct-generic-cpu"


@pytest.fixture
def catalog() -> Iterator[FakeCatalog]:
    with fake_catalog(entry(), entry("phi-4-mini-instruct-qnn-npu", device="npu")) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "Zuhause mit ☕")


async def every_provider() -> tuple[str, ...]:
    return ("cpu", "webgpu", "qnn")


def published(home: ModelDirectory, catalog: FakeCatalog) -> PublishedModels:
    return PublishedModels(home.home, CatalogAddress(base=catalog.url), providers=every_provider)


@asynccontextmanager
async def serving(home: ModelDirectory, known: PublishedModels, **more: Any) -> AsyncIterator[Served]:
    async with scripted_server(home, published=known, **more) as (server, _):
        yield server


async def names(server: Served) -> list[str]:
    reply = await ask(await server.connect(), "GET", "/foundry/list")
    return [model["name"] for model in reply.json]


async def test_what_the_catalogue_has_is_listed_as_clients_need_it(
    home: ModelDirectory, catalog: FakeCatalog
) -> None:
    async with serving(home, published(home, catalog)) as server:
        await until(lambda: len(catalog.asked) == 3)
        while len(await names(server)) < 3:  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.001)
        reply = await ask(await server.connect(), "GET", "/foundry/list")
        npu, cpu, _default = reply.json
        assert npu["runtime"] == {"deviceType": "NPU", "executionProvider": "QNNExecutionProvider"}
        assert cpu == {
            "name": f"{PHI}:2",
            "displayName": PHI,
            "modelType": "ONNX",
            "providerType": "AzureFoundry",
            "uri": f"azureml://registries/azureml/models/{PHI}/versions/2",
            "version": "2",
            "promptTemplate": {"user": "<|user|>{Content}<|end|>", "prompt": "<|user|>{Content}"},
            "publisher": "Microsoft",
            "task": "chat-completion",
            "runtime": {"deviceType": "CPU", "executionProvider": "CPUExecutionProvider"},
            "fileSizeMb": 2861,
            "modelSettings": {"parameters": []},
            "alias": "phi-4-mini",
            "supportsToolCalling": True,
            "license": "MIT",
            "licenseDescription": "This model is provided under the License Terms available at …",
            "parentModelUri": "azureml://registries/azureml/models/Phi-4-mini/versions/1",
            "maxOutputTokens": 2048,
            "minFLVersion": "0.3.9",
        }


async def test_nobody_waits_for_a_catalogue_that_is_silent(
    tiny_home: ModelDirectory, home: ModelDirectory, catalog: FakeCatalog
) -> None:
    add_model(home, f"{PHI}:1", tiny_home.models / "Test" / "tiny")
    catalog.hangs = True
    known = published(home, catalog)
    async with serving(home, known) as server:
        await until(lambda: catalog.seen)
        assert await names(server) == [f"{PHI}:1", DEFAULT_ID]
        load = await ask(await server.connect(), "GET", f"/openai/load/{PHI}?ttl=600&ep=")
        assert (load.status, load.body) == (200, b"")
    assert known.notice() == f"the catalogue at {catalog.url} has not been read yet"  # nor given up


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_full_disk_keeps_no_list_and_serves_it_nevertheless(
    home: ModelDirectory,
    catalog: FakeCatalog,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    def write(*_: object) -> None:
        raise full

    monkeypatch.setattr(kept, "write_whole", write)
    known = published(home, catalog)
    async with serving(home, known) as server:
        while len(await names(server)) < 3:  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.001)
        await known.refresh()
        assert len(await names(server)) == 3
    path = home.home / "cache" / "foundry.modelinfo.json"
    assert warnings(caplog) == [f"{path}: the catalogue's list is not kept: {full}"]
    assert not path.exists()


async def test_a_failure_keeps_the_list_and_all_that_is_here(
    tiny_home: ModelDirectory, home: ModelDirectory, catalog: FakeCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    known = published(home, catalog)
    await known.refresh()
    add_model(home, f"{PHI}:1", tiny_home.models / "Test" / "tiny")
    catalog.statuses = [404]
    assert await known.refresh() == f"{catalog.url}/entities/crossRegion: 404 Not Found"
    async with serving(home, published(home, catalog)) as server:
        assert await names(server) == [
            "phi-4-mini-instruct-qnn-npu:2", f"{PHI}:2", f"{PHI}:1", DEFAULT_ID
        ]  # fmt: skip
        # An alias goes on meaning what is here, although the catalogue has something newer.
        for name in ("phi-4-mini", PHI, f"{PHI}:1"):
            load = await ask(await server.connect(), "GET", f"/openai/load/{name}")
            assert load.status == 200
        loaded = await ask(await server.connect(), "GET", "/openai/loadedmodels")
        assert loaded.json == [f"{PHI}:1"]
        refused = await ask(await server.connect(), "GET", f"/openai/load/{PHI}:2")
        assert (refused.status, refused.json["error"]["code"]) == (404, "model_not_found")
    told = warnings(caplog)
    why = f"{catalog.url}/entities/crossRegion: 404 Not Found"
    assert told == [f"the catalogue could not be reached, its list is less than a minute old: {why}"]


async def test_what_the_catalogue_says_stays_beside_a_model_that_was_downloaded(
    home: ModelDirectory, catalog: FakeCatalog
) -> None:
    catalog.entries = [entry(toolCallStart="<tool_call>", toolCallEnd="</tool_call>", maxOutputTokens="77")]
    known = published(home, catalog)
    await known.refresh()
    source = ScriptedSource(prefix="azureml://")
    async with serving(home, known, sources=[source]) as server:
        body = json.dumps({"model": "phi-4-mini"}).encode()
        reply = await ask(await server.connect(), "POST", "/openai/download", body)
        assert b'"success":true' in reply.body
    (wanted,) = source.fetched
    assert (wanted.id, wanted.provider_type, wanted.publisher) == (f"{PHI}:2", "AzureFoundry", "Microsoft")
    (found,) = home.entries()
    assert found.path == home.models / "Microsoft" / f"{PHI}-2"
    identity = json.loads((found.path / "inference_model.json").read_bytes())
    assert identity == {
        "Name": f"{PHI}:2",
        "PromptTemplate": {"user": "<|user|>{Content}<|end|>", "prompt": "<|user|>{Content}"},
        "alias": "phi-4-mini",
        "uri": f"azureml://registries/azureml/models/{PHI}/versions/2",
        "providerType": "AzureFoundry",
        "license": "MIT",
        "licenseDescription": "This model is provided under the License Terms available at …",
        "parentUri": "azureml://registries/azureml/models/Phi-4-mini/versions/1",
        "maxOutputTokens": 77,
        "toolCallStart": "<tool_call>",
        "toolCallEnd": "</tool_call>",
        "formatVersion": 1,
    }
    # Without the catalogue's list it still goes by its alias.
    shutil.rmtree(home.home / "cache" / "downloads")
    async with scripted_server(home) as (server, _):
        reply = await ask(await server.connect(), "GET", "/v1/models/phi-4-mini")
        assert reply.json["id"] == f"{PHI}:2"


async def test_of_two_versions_the_newer_is_downloaded_by_its_id_and_the_older_stays(
    tiny_home: ModelDirectory, home: ModelDirectory, catalog: FakeCatalog
) -> None:
    add_model(home, f"{PHI}:1", tiny_home.models / "Test" / "tiny")
    known = published(home, catalog)
    await known.refresh()
    async with serving(home, known, sources=[ScriptedSource(prefix="azureml://")]) as server:
        body = json.dumps({"model": {"Name": f"{PHI}:2"}}).encode()
        reply = await ask(await server.connect(), "POST", "/openai/download", body)
        assert b'"success":true' in reply.body
        assert sorted(one.id for one in home.entries()) == [f"{PHI}:1", f"{PHI}:2"]
        reply = await ask(await server.connect(), "GET", "/v1/models/phi-4-mini")
        assert reply.json["id"] == f"{PHI}:2"


@pytest.mark.client
async def test_the_official_client_chooses_by_device_and_version(
    home: ModelDirectory, catalog: FakeCatalog
) -> None:
    api = pytest.importorskip("foundry_local.api")
    client = pytest.importorskip("foundry_local.client")
    device = pytest.importorskip("foundry_local.models").DeviceType
    catalog.entries = [
        entry("phi-4-mini-instruct-generic-cpu", "3"),
        entry("phi-4-mini-instruct-generic-gpu", "3", device="gpu"),
        entry("phi-4-mini-instruct-qnn-npu", "1", device="npu"),
        entry("phi-4-mini-instruct-generic-cpu", "4"),
    ]
    known = published(home, catalog)
    await known.refresh()

    def choose(uri: str) -> list[str]:
        manager = api.FoundryLocalManager.__new__(api.FoundryLocalManager)
        manager._catalog_list, manager._timeout, manager._service_uri = None, None, uri
        manager._httpx_client = client.HttpxClient(uri)
        wanted: list[tuple[str, Any]] = [
            ("phi-4-mini", None), ("PHI-4-mini", device.CPU), ("phi-4-mini", device.GPU),
            ("phi-4-mini-instruct-generic-cpu", None), ("phi-4-mini-instruct-generic-cpu:3", None),
        ]  # fmt: skip
        found = [manager.get_model_info(name, device=on).id for name, on in wanted]
        manager._httpx_client._client.close()
        return found

    async with anyio.create_task_group() as group:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        application = make_application(home, ScriptedModels(group), sources=(), published=known)
        await group.start(partial(serve, application, [listener]))
        chosen = await anyio.to_thread.run_sync(choose, f"http://127.0.0.1:{listener.port}")
        group.cancel_scope.cancel()
    assert chosen == [
        "phi-4-mini-instruct-qnn-npu:1",
        "phi-4-mini-instruct-generic-cpu:4",
        "phi-4-mini-instruct-generic-gpu:3",
        "phi-4-mini-instruct-generic-cpu:4",
        "phi-4-mini-instruct-generic-cpu:3",
    ]


async def test_what_can_run_here_is_found_out_here_and_apart(
    home: ModelDirectory, catalog: FakeCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for apart in (False, True):
        known = published_models(Config(catalog=catalog.url), home.home, apart=apart)
        assert known is not None
        assert await known.refresh() is None
        assert [model.id for model in known.models()] == [f"{PHI}:2"]  # neither GPU nor NPU is here
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    known = published_models(Config(catalog=catalog.url), home.home, apart=True)
    assert known is not None
    assert await known.refresh() is None
    assert published_models(Config(catalog="off"), home.home) is None
