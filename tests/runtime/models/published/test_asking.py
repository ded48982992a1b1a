"""Asking a catalogue: all its pages, in another region if one fails, and no bad entry hides a good one."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from attrs import evolve

from foundry_proto.jsontext import ContentError
from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.published.address import PUBLIC, CatalogAddress, read_address
from foundry_runtime.models.published.asking import ask_catalog
from tests.support.fake_catalog import FakeCatalog, entry, fake_catalog

pytestmark = pytest.mark.anyio

MANY = [entry(f"m{number:03}-generic-cpu", alias=None) for number in range(7)]


@pytest.fixture
def catalog() -> Iterator[FakeCatalog]:
    with fake_catalog(*MANY) as made:
        yield made


def at(catalog: FakeCatalog) -> CatalogAddress:
    """A catalogue in regions, as the public one is."""
    return CatalogAddress(base=catalog.url, probe=catalog.probe, regions=("centralus", "westeurope"))


@pytest.mark.parametrize("by", ["skip", "token", "both"])
async def test_all_pages_are_asked_for(catalog: FakeCatalog, by: str) -> None:
    catalog.page_size, catalog.continued_by = 3, by  # type: ignore[assignment]
    found = await ask_catalog(CatalogAddress(base=catalog.url), ["cpu"])
    assert [one.id for one in found] == [f"m{number:03}-generic-cpu:2" for number in range(7)]
    requests = [body["indexEntitiesRequest"] for body in catalog.asked]
    went_on = [(one.get("skip"), one.get("continuationToken")) for one in requests]
    expected = [(n if by != "token" else None, str(n) if by != "skip" else None) for n in (3, 6)]
    assert went_on == [(None, None), *expected]
    # A mirror is asked where it is, and by the name that the public catalogue wants.
    assert [(one.path, one.agent) for one in catalog.seen] == [
        ("/api/centralus/ux/v1.0/entities/crossRegion", "AzureAiStudio")
    ] * 3


async def test_each_device_is_asked_for_and_each_model_is_there_once(catalog: FakeCatalog) -> None:
    catalog.entries = [entry("a-cpu"), entry("b-qnn-npu", device="npu"), entry("A-cpu")]
    found = await ask_catalog(CatalogAddress(base=catalog.url), ["cpu", "qnn"])
    assert [(one.id, one.device) for one in found] == [("a-cpu:2", "CPU"), ("b-qnn-npu:2", "NPU")]
    assert len(catalog.asked) == 2


async def test_an_entry_that_cannot_be_used_hides_no_other(
    catalog: FakeCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    nameless = entry("nameless")
    del nameless["assetId"]
    odd = [nameless, 5, *(entry(f"v{number}", "latest") for number in range(3))]
    catalog.entries = [*odd, entry("good-cpu")]
    found = await ask_catalog(CatalogAddress(base=catalog.url), ["cpu"])
    assert [one.id for one in found] == ["good-cpu:2"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "the catalogue has entries that are passed over:"
        " azureml:nameless:2: assetId: expected a line of at most 300 characters, got nothing;"
        " one without a name: assetId: expected a line of at most 300 characters, got nothing;"
        ' azureml:v0:latest: properties.version: expected a whole number, got "latest", and 2 more'
    )


@pytest.mark.parametrize(
    ("region", "statuses", "paths"),
    [
        ("eastus2", [], ["eastus2"]),
        (None, [], ["centralus"]),
        ("eastus2", [200, 503], ["eastus2", "centralus"]),
        ("eastus2", [200, 429, 408], ["eastus2", "centralus", "westeurope"]),
        ("eastus2", [500, 503], ["centralus", "westeurope"]),
    ],
)
async def test_a_region_that_fails_leaves_it_to_the_next(
    catalog: FakeCatalog, region: str | None, statuses: list[int], paths: list[str]
) -> None:
    catalog.region, catalog.statuses, catalog.page_size = region, [*statuses], 4
    assert len(await ask_catalog(at(catalog), ["cpu"])) == 7
    probe, *asked = catalog.seen
    assert (probe.path, probe.body) == ("/asset-gallery/v1.0/models", {"filters": [], "pageSize": 1})
    # Who has answered is asked for the second page, too.
    assert [one.path.split("/")[2] for one in asked] == [*paths, paths[-1]]


async def test_what_is_not_there_is_not_asked_for_elsewhere(catalog: FakeCatalog) -> None:
    catalog.statuses = [200, 404]
    with pytest.raises(DownloadFailed, match=r"the catalogue: http://127\.0\.0\.1.*: 404 Not Found"):
        await ask_catalog(at(catalog), ["cpu"])
    assert len(catalog.asked) == 1


async def test_who_cannot_be_reached_is_not_asked_in_another_region(catalog: FakeCatalog) -> None:
    address = evolve(at(catalog), base="http://127.0.0.1:9/api/centralus/ux")
    with pytest.raises(DownloadFailed, match=r"the catalogue: http://127\.0\.0\.1:9/api/.*: cannot connect"):
        await ask_catalog(address, ["cpu"])


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b'{"indexEntitiesResponse": {}}', b"\xff"])
async def test_what_is_no_list_is_none(catalog: FakeCatalog, raw: bytes) -> None:
    catalog.raw = raw
    with pytest.raises(ContentError):
        await ask_catalog(CatalogAddress(base=catalog.url), ["cpu"])


async def test_a_list_without_end_is_none(catalog: FakeCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundry_runtime.models.published.asking._MOST_PAGES", 3)
    catalog.page_size = 1
    with pytest.raises(DownloadFailed, match="expected a list that ends, got 3 pages"):
        await ask_catalog(CatalogAddress(base=catalog.url), ["cpu"])


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("", PUBLIC.base),
        (f"{PUBLIC.base}/", PUBLIC.base),
        ("http://mirror:80/x/", "http://mirror:80/x"),
        (" OFF ", None),
    ],
)
def test_a_user_decides_which_catalogue_is_asked(text: str, base: str | None) -> None:
    address = read_address(text)
    assert (address.base if address else None) == base
    assert address is None or (address.probe is not None) == (base == PUBLIC.base)


@pytest.mark.parametrize(
    "text", ["mirror", "ftp://x", "http://", "http://a b", "http://u:p@x", "http://x:y", "http://x?y"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected http\(s\)://HOST\[:PORT\]\[/PATH\] or off, got \""):
        read_address(text)
