"""Models of the Azure catalogue: how the registry is asked, which blobs become files, and what is refused."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from foundry_runtime.download.fetching import RemoteFile, fetch_folder
from foundry_runtime.download.http import open_client
from foundry_runtime.download.sources._registry import REGIONS, REGISTRY, Container, ModelRegistry
from foundry_runtime.download.sources.api import DownloadFailed, Place, WantedModel
from foundry_runtime.download.sources.azure import AzureFoundry
from foundry_runtime.download.sources.check import check_source
from tests.support.fake_azure import AGENT, ASSET, FakeAzure, fake_azure
from tests.support.fake_azure import REGIONS as PLACES

pytestmark = pytest.mark.anyio

CONFIG = b'{"model": {}}'
FILES = {
    "genai_config.json": CONFIG,
    "model.onnx": b"graph" * 100,
    "model.onnx.data": bytes(range(256)) * 400,
    "tokenizer.json": b"{}",
    "empty": b"",
}


def wanted(uri: str = ASSET, **more: Any) -> WantedModel:
    return WantedModel(id="mine-generic-cpu:1", uri=uri, **more)


async def fetch(azure: FakeAzure, place: Place, source: AzureFoundry | None = None, **more: Any) -> list[str]:
    """Fetch the model; gives the names that were told."""
    told: list[tuple[str, float]] = []
    await (source or azure.source()).fetch(wanted(**more), place, lambda *news: told.append(news))
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    return [what for what, _ in told]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("uri", "provider", "offered"),
    [
        (ASSET, "AzureFoundry", True),
        (ASSET, "AzureFoundryLocal", True),
        (ASSET, "azurefoundrylocal", True),
        (ASSET, "", True),
        (ASSET.replace("azureml", "AzureML"), "AzureFoundry", True),
        (ASSET, "HuggingFace", False),
        ("hf://a/b", "AzureFoundry", False),
        ("mine-generic-cpu", "AzureFoundry", False),
        ("local://mine", "Local", False),
    ],
)
def test_address_and_provider_say_whose_a_model_is(uri: str, provider: str, offered: bool) -> None:
    assert AzureFoundry().offers(wanted(uri, provider_type=provider)) is offered


async def test_it_keeps_the_contract_of_sources(tmp_path: Path) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        await check_source(azure.source, wanted(provider_type="AzureFoundryLocal"), tmp_path)


async def test_the_registry_is_asked_as_the_public_client_asks_it(place: Place) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        await fetch(azure, place)
        asked = azure.site.of("modelregistry")
        path, asset = "/modelregistry/v1.0/registry/models/nonazureaccount", ASSET.replace(":", "%3A")
        expected = f"/westplace{path}?assetId={asset.replace('/', '%2F')}"
        assert [one.target for one in asked] == [expected]
        assert (asked[0].method, asked[0].headers["user-agent"]) == ("GET", AGENT)
        assert files(place.folder) == FILES


def test_the_usual_registry_is_the_public_one() -> None:
    registry = AzureFoundry().registry
    assert (registry.base, registry.regions) == (REGISTRY, REGIONS)
    assert REGISTRY.replace("{region}", REGIONS[0]) == "https://centralus.api.azureml.ms"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_region_that_fails_leaves_it_to_the_next_which_is_asked_first_from_then_on(
    place: Place, status: int
) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        azure.down = {"westplace": status}
        source = azure.source()
        await fetch(azure, place, source)
        await fetch(azure, place, source)
        regions = [one.path.split("/")[1] for one in azure.site.of("modelregistry")]
        assert regions == ["westplace", "eastplace", "eastplace"]


async def test_a_region_that_cannot_be_reached_leaves_it_to_the_next(place: Place) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        host, port = azure.site.url.removeprefix("http://").split(":")
        registry = ModelRegistry(base=f"http://{host}:{{region}}", regions=["1", port])
        source = AzureFoundry(registry=registry)
        with pytest.raises(DownloadFailed, match="404 Not Found"):  # the fake has its regions in the path
            await fetch(azure, place, source)


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_what_one_region_knows_for_certain_no_other_is_asked(place: Place, status: int) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        azure.down = {"westplace": status}
        with pytest.raises(DownloadFailed, match=f"^{ASSET}: {azure.site.url}/westplace/[^?]*: {status} "):
            await fetch(azure, place)
        assert len(azure.site.asked) == 1
        assert not place.folder.exists()


async def test_when_all_regions_fail_each_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundry_runtime.download.http._FIRST_DELAY", 0.0)
    with fake_azure({ASSET: FILES}) as azure:
        azure.down = {PLACES[0]: 503, PLACES[1]: 500, PLACES[2]: 429}
        with pytest.raises(DownloadFailed) as caught:
            await fetch(azure, place)
        lines = str(caught.value).splitlines()
        assert [line.rpartition(": ")[2] for line in lines] == [
            "503 Service Unavailable",
            "500 Internal Server Error",
            "429 Too Many Requests",
        ]
        assert len(azure.site.asked) == 2 + 4


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"{}", "blobSasUri: expected a string, got nothing"),
        (b'{"blobSasUri": null}', "blobSasUri: expected a string, got null"),
        (b"<html>", "expected JSON"),
        (b'{"blobSasUri": "ftp://a/b?sig=s3cr3t"}', "blobSasUri: expected an address of a container"),
        (b'{"blobSasUri": "https:///b?sig=s3cr3t"}', "blobSasUri: expected an address of a container"),
        (b'{"blobSasUri": "https://u:p@a/b?sig=s3cr3t"}', "blobSasUri: expected an address of a container"),
    ],
)
async def test_an_answer_of_the_registry_that_cannot_be_used_is_told(
    place: Place, answer: bytes, text: str
) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        azure.answer = answer
        prefix = f"^{re.escape(ASSET)}: the model registry's answer: .*{re.escape(text)}"
        with pytest.raises(DownloadFailed, match=prefix) as caught:
            await fetch(azure, place)
        assert "s3cr3t" not in str(caught.value)


def test_a_container_without_encryption_is_for_registries_without() -> None:
    with pytest.raises(ValueError, match=r"got http://a\.example$"):
        Container.of("http://a.example/c?sig=s3cr3t", insecure=False)
    container = Container.of("http://a.example/c/?sig=s3cr3t", insecure=True)
    assert container.address == "http://a.example/c"
    assert "s3cr3t" not in repr(container)


def test_names_and_signature_come_into_addresses_as_they_are() -> None:
    container = Container.of("https://a.example/c?sv=1&sig=a%2Bb%3D", insecure=False)
    assert container.blob_url("v1/a b+Ä#?.onnx") == (
        "https://a.example/c/v1/a%20b%2B%C3%84%23%3F.onnx?sv=1&sig=a%2Bb%3D"
    )
    assert container.list_url(prefix="v1/", marker="2!x=") == (
        "https://a.example/c?restype=container&comp=list&prefix=v1%2F&marker=2%21x%3D&sv=1&sig=a%2Bb%3D"
    )
    assert Container.of("https://a.example/c", insecure=False).blob_url("x") == "https://a.example/c/x"


async def test_ten_thousand_blobs_are_listed_page_by_page(place: Place) -> None:
    many = {f"parts/{number:05}": b"" for number in range(10_000)}
    with fake_azure({ASSET: {**FILES, **many}}) as azure:
        async with open_client() as client:
            listed = await azure.source()._files(client, wanted())
        assert len(listed) == len(FILES) + 10_000
        lists = [one.query for one in azure.site.of("container-0")]
        assert [one.get("marker") for one in lists] == [None, "5000", "10000"]
        assert {(one["restype"], one["comp"]) for one in lists} == {("container", "list")}


async def test_a_list_that_never_ends_is_left(place: Place) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        azure.page = b"<EnumerationResults><Blobs/><NextMarker>again</NextMarker></EnumerationResults>"
        with pytest.raises(
            DownloadFailed, match=r"/container-0: expected a list that ends, got page after page$"
        ):
            await fetch(azure, place)


async def test_a_bomb_in_place_of_a_list_is_refused(place: Place) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        azure.page = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><EnumerationResults>&a;</EnumerationResults>'
        text = r"/container-0: the list of its files: expected a list of blobs, got a document type$"
        with pytest.raises(DownloadFailed, match=text):
            await fetch(azure, place)
        assert not place.folder.exists()


@pytest.mark.parametrize("name", ["../evil", "v1/../../evil", "..\\evil", "/evil", "C:evil"])
async def test_a_name_that_leads_out_of_the_folder_ends_it_before_anything_is_written(
    place: Place, tmp_path: Path, name: str
) -> None:
    with fake_azure({ASSET: {**FILES, name: b"evil"}}) as azure:
        text = f"{azure.site.url}/storage/container-0: expected names within a folder, got {name!r}"
        with pytest.raises(DownloadFailed, match=f"^{re.escape(text)}$"):
            await fetch(azure, place)
        assert files(tmp_path) == {}


async def test_a_name_that_not_every_system_can_have_is_refused_by_it(place: Place) -> None:
    with fake_azure({ASSET: {**FILES, "con.txt": b"x"}}) as azure:
        text = "/container-0: expected a path within a folder, got 'con.txt'"
        with pytest.raises(DownloadFailed, match=f"{re.escape(text)}$"):
            await fetch(azure, place)


async def test_what_the_container_says_of_the_models_identity_is_ignored(place: Place) -> None:
    stranger = {"inference_model.json": b'{"Name": "other:9"}', "v1/Inference_Model.JSON": b"{}"}
    with fake_azure({ASSET: {**FILES, **stranger}}) as azure:
        await fetch(azure, place)
        assert files(place.folder) == FILES


async def test_a_model_in_a_folder_of_its_container_comes_to_the_top(place: Place) -> None:
    blobs = {f"v3/{name}": data for name, data in FILES.items()}
    marks = {"v3": b"", "v3/parts/": b"", "README.md": b"read me"}
    with fake_azure({ASSET: {**blobs, **marks}}) as azure:
        await fetch(azure, place)
        assert files(place.folder) == FILES


async def test_of_several_models_the_last_counts_unless_the_path_says_otherwise(
    place: Place, tmp_path: Path
) -> None:
    blobs = {f"v{number}/genai_config.json": b"%d" % number for number in (2, 10, 1)}
    with fake_azure({ASSET: blobs}) as azure:
        await fetch(azure, place)
        assert files(place.folder) == {"genai_config.json": b"10"}
        other = Place(folder=tmp_path / "other", scratch=tmp_path / "scratch")
        await fetch(azure, other, path="v1/")
        assert files(other.folder) == {"genai_config.json": b"1"}
        assert azure.site.of("container-0")[-2].query["prefix"] == "v1/"
        with pytest.raises(DownloadFailed, match=r"container-0, v3: expected a folder with genai_config"):
            await fetch(azure, other, path="v3")


async def test_a_file_that_is_replaced_on_the_way_is_never_mixed_with_the_new_one(place: Place) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        source, newer = azure.source(), {**FILES, "model.onnx": b"other" * 100}

        async def listing() -> Sequence[RemoteFile]:
            listed = await source._files(client, wanted())
            azure.models[ASSET] = newer
            return listed

        async with open_client() as client:
            with pytest.raises(DownloadFailed, match=r"^model\.onnx: 412 Precondition Failed \(http"):
                await fetch_folder(listing, place, lambda *_: None, client=client)
        await fetch(azure, place)
        assert files(place.folder) == newer


async def test_a_signature_that_expires_on_the_way_is_asked_for_again(place: Place) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        azure.uses = 3  # the list, and two files
        await fetch(azure, place)
        assert files(place.folder) == FILES
        assert len(azure.site.of("modelregistry")) == 2


async def test_a_signature_that_expires_within_a_long_list_is_asked_for_again(place: Place) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        azure.page_size, azure.uses = 2, 1
        await fetch(azure, place)
        assert files(place.folder) == FILES
        assert len(azure.site.of("modelregistry")) == 2


async def test_who_is_never_let_in_is_told_without_the_signature(place: Place) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        stale = f"{azure.site.url}/storage/container-0?sv=1&sig=s3cr3t-old"
        azure.answer = f'{{"blobSasUri": "{stale}"}}'.encode()
        where = f"{azure.site.url}/storage/container-0"
        with pytest.raises(DownloadFailed, match=f"^{re.escape(where)}: {re.escape(where)}: 403 Forbidden$"):
            await fetch(azure, place)
        assert len(azure.site.of("modelregistry")) == 2


async def test_the_models_token_is_not_for_azure_and_no_signature_is_logged(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with fake_azure({ASSET: FILES}) as azure:
        await fetch(azure, place, token="hf_secret")
        assert all("authorization" not in one.headers for one in azure.site.asked)
        assert not any("hf_secret" in str(one) for one in azure.site.asked)
    assert "s3cr3t" not in caplog.text
    assert "hf_secret" not in caplog.text


async def test_a_model_that_is_there_already_costs_a_list_and_no_file(place: Place) -> None:
    with fake_azure({ASSET: FILES}) as azure:
        await fetch(azure, place)
        before = len(azure.site.asked)
        await fetch(azure, place)
        assert len(azure.site.asked) == before + 2


async def test_files_of_the_right_size_are_not_fetched_and_others_are_anew(place: Place) -> None:
    place.folder.mkdir(parents=True)
    (place.folder / "model.onnx.data").write_bytes(FILES["model.onnx.data"])
    (place.folder / "tokenizer.json").write_bytes(b"{} longer")
    (place.folder / "other").touch()
    told: list[float] = []
    with fake_azure({ASSET: FILES}) as azure:
        await azure.source().fetch(wanted(), place, lambda _, fraction: told.append(fraction))
        assert not azure.site.of("model.onnx.data")
    assert files(place.folder) == FILES
    assert told[0] >= len(FILES["model.onnx.data"]) / sum(map(len, FILES.values()))


async def test_a_file_that_was_cut_short_behind_an_interruption_is_fetched_again(place: Place) -> None:
    gate = threading.Event()
    with fake_azure({ASSET: FILES}) as azure:
        azure.holds["model.onnx.data"] = (50_000, gate)
        with anyio.CancelScope() as scope:
            await azure.source().fetch(
                wanted(), place, lambda _, done: scope.cancel() if done > 0.4 else None
            )
        gate.set()
        assert scope.cancelled_caught
        os.truncate(place.folder / "model.onnx.data", 10)
        await fetch(azure, place)
        assert files(place.folder) == FILES
