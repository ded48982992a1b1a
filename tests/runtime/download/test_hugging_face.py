"""Models on the hub: what an address means, which files come, and where a token goes and never goes."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from foundry_runtime.download.sources._hub import Repository
from foundry_runtime.download.sources.api import DownloadFailed, Place, WantedModel
from foundry_runtime.download.sources.check import check_source
from foundry_runtime.download.sources.hugging_face import HuggingFace
from tests.support.fake_hub import FakeHub, fake_hub
from tests.support.sites import Said
from tests.support.tiny_model import write_tiny_gguf

pytestmark = pytest.mark.anyio

URI = "hf://me/mine"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "genai_config.json": b'{"model": {}}',
    "model.onnx": b"graph" * 100,
    "model.onnx.data": bytes(range(256)) * 400,
    "tokenizer.json": b"{}",
    "empty": b"",
}


def wanted(uri: str = URI, **more: Any) -> WantedModel:
    return WantedModel(id="mine:1", uri=uri, **more)


async def fetch(hub: FakeHub, place: Place, source: HuggingFace | None = None, **more: Any) -> None:
    told: list[float] = []
    await (source or hub.source()).fetch(wanted(**more), place, lambda _, fraction: told.append(fraction))
    assert told == sorted(told)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("uri", "name", "revision", "path"),
    [
        ("hf://microsoft/Phi-4-mini-instruct-onnx", "microsoft/Phi-4-mini-instruct-onnx", "main", ""),
        ("HF://a/b/", "a/b", "main", ""),
        ("hf://gpt2", "gpt2", "main", ""),
        ("hf://models/a/b", "a/b", "main", ""),
        ("hf://a/b@v1.0", "a/b", "v1.0", ""),
        ("hf://a/b@refs%2Fpr%2F3/x", "a/b", "refs/pr/3", "x"),
        ("hf://a/b@refs/pr/3/x/y", "a/b", "refs/pr/3", "x/y"),
        ("hf://a/b/cpu/int4", "a/b", "main", "cpu/int4"),
        (f"hf://a/b@{COMMIT}/cpu", "a/b", COMMIT, "cpu"),
        ("https://huggingface.co/a/b", "a/b", "main", ""),
        ("https://hf.co/a/b?x=1#y", "a/b", "main", ""),
        ("https://huggingface.co/a/b/tree/dev/cpu/int%204", "a/b", "dev", "cpu/int 4"),
        ("https://huggingface.co/a/b/tree/main", "a/b", "main", ""),
        ("https://huggingface.co/a/b/blob/main/m.gguf", "a/b", "main", "m.gguf"),
        ("https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/m.gguf", "a/b", "refs/pr/1", "m.gguf"),
        ("https://huggingface.co/a/b/resolve/refs/pr/1/m.gguf", "a/b", "refs/pr/1", "m.gguf"),
        ("http://mirror.example/hub/a/b/tree/main/x", "a/b", "main", "x"),
        ("a/b", "a/b", "main", ""),
        ("a/b@v2", "a/b", "v2", ""),
    ],
)
def test_an_address_names_a_repository_a_revision_and_a_folder(
    uri: str, name: str, revision: str, path: str
) -> None:
    found = Repository.read(uri, bare=True, endpoint="http://mirror.example/hub")
    assert found == Repository(name=name, revision=revision, path=path)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "hf://",
        "hf:///a",
        "hf://datasets/a/b",
        "hf://a/..",
        "hf://a/b@../x",
        "hf://a/b@",
        "hf://ä/b",
        "hf://a/b?c",
        "http://huggingface.co/a/b",
        "https://huggingface.co/a",
        "https://huggingface.co/a/b/discussions/1",
        "https://huggingface.co/datasets/a/b",
        "https://huggingface.co.evil.example/a/b",
        "https://evil.example/a/b",
        "https://user@huggingface.co/a/b",
        "http://mirror.example/hubris/a/b",
        "a/b/c",
        "a b",
        "nowhere-at-all:model",
        "azureml://registries/azureml/models/x",
        "file:///a/b",
        "/a/b",
        "C:\\a",
    ],
)
def test_what_is_no_address_of_the_hub_is_none(uri: str) -> None:
    assert Repository.read(uri, bare=True, endpoint="http://mirror.example/hub") is None


@pytest.mark.parametrize(
    ("uri", "provider", "offered"),
    [
        (URI, "HuggingFace", True),
        (URI, "huggingfacelocal", True),
        (URI, "", True),
        ("https://huggingface.co/a/b", "", True),
        ("a/b", "HuggingFace", True),
        ("a/b", "", False),
        (URI, "AzureFoundry", False),
        ("local://mine", "Local", False),
    ],
)
def test_address_and_provider_say_whose_a_model_is(uri: str, provider: str, offered: bool) -> None:
    assert HuggingFace().offers(wanted(uri, provider_type=provider)) is offered


async def test_it_keeps_the_contract_of_sources(tmp_path: Path) -> None:
    with fake_hub({"me/mine": FILES}) as hub:
        await check_source(hub.source, wanted(provider_type="HuggingFace", buffer_size=4096), tmp_path)


async def test_all_files_are_of_one_commit_and_large_ones_come_from_the_other_host(place: Place) -> None:
    with fake_hub({"me/mine": {**FILES, ".gitattributes": b"x", "README.md": b"y"}}) as hub:
        await fetch(hub, place)
        assert files(place.folder) == {**FILES, "README.md": b"y"}
        commit = hub.commit("me/mine")
        targets = [one.target for one in hub.site.asked]
        assert targets[:2] == [
            "/api/models/me/mine/revision/main?expand=sha",
            f"/api/models/me/mine/tree/{commit}?recursive=true",
        ]
        assert all(target.startswith(f"/me/mine/resolve/{commit}/") for target in targets[2:])
        assert len(hub.storage.asked) >= 1


async def test_a_commit_need_not_be_asked_for_and_a_branch_is_what_it_is_now(place: Place) -> None:
    with fake_hub({"me/mine": FILES}) as hub:
        commit = hub.commit("me/mine")
        hub.branches = {"a b/ü": commit, "refs/pr/3": commit}
        await fetch(hub, place, uri=f"{URI}@{commit}")
        assert not hub.site.of("revision")
        await fetch(hub, place, uri=f"{URI}@refs/pr/3")
        assert hub.site.of("revision")[-1].target == "/api/models/me/mine/revision/refs%2Fpr%2F3?expand=sha"


async def test_long_lists_come_page_by_page_and_never_from_another_host(place: Place) -> None:
    with fake_hub({"me/mine": FILES}) as hub:
        hub.page_size, hub.next_base, hub.token = 2, "http://127.0.0.1:9", "hf_secret"
        await fetch(hub, place, token="hf_secret")
        assert files(place.folder) == FILES
        assert [one.query.get("cursor") for one in hub.site.of("tree")] == [None, "2", "4"]


@pytest.mark.parametrize(
    ("uri", "path"),
    [(URI, "cpu/int4"), (f"{URI}/cpu", "int4"), (f"{URI}/cpu/int4/", ""), (URI, "cpu"), (URI, "cpu/int4/")],
)
async def test_path_and_address_together_name_a_folder(place: Place, uri: str, path: str) -> None:
    inside = {f"cpu/int4/{name}": data for name, data in FILES.items()}
    with fake_hub({"me/mine": {**inside, "gpu/genai_config.json": b"{}"}}) as hub:
        await fetch(hub, place, uri=uri, path=path)
        assert files(place.folder) == FILES


async def test_of_several_models_the_path_must_name_one(place: Place) -> None:
    folders = {f"v{number}/genai_config.json": b"{}" for number in (10, 9)}
    with fake_hub({"me/mine": folders}) as hub:
        text = f"hf://me/mine@{hub.commit('me/mine')}: expected Path to name one of its models: v10, v9"
        with pytest.raises(DownloadFailed, match=f"^{re.escape(text)}$"):
            await fetch(hub, place)
        assert not place.folder.exists()


async def test_where_there_are_only_gguf_files_they_are_named(place: Place) -> None:
    with fake_hub({"me/mine": {"b.Q8.gguf": b"", "a.gguf": b"", "README.md": b""}}) as hub:
        text = "as Path, one of its files can be imported: a.gguf, b.Q8.gguf"
        with pytest.raises(DownloadFailed, match=f"; {re.escape(text)}$"):
            await fetch(hub, place)


async def test_a_gguf_file_is_imported(place: Place, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    data = (tmp_path / "tiny.gguf").read_bytes()
    with fake_hub({"me/mine": {"gguf/Tiny Q8.gguf": data, "gguf/other.gguf": b"x"}}) as hub:
        page = f"{hub.site.url}/me/mine/blob/main/gguf/Tiny%20Q8.gguf"
        for uri, path in ((URI, "gguf/Tiny Q8.gguf"), (page, "")):
            await fetch(hub, place, uri=uri, path=path)
            assert {"genai_config.json", "model.onnx", "tokenizer.json"} <= set(files(place.folder))
        assert len(hub.storage.asked) == 1  # the second time it was there
        with pytest.raises(DownloadFailed, match=r": there is no file gguf/none\.gguf$"):
            await fetch(hub, place, path="gguf/none.gguf")


async def test_a_file_with_other_content_than_its_hash_is_no_model(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_hub({"me/mine": FILES}) as hub:
        entry = FakeHub._entry

        def lie(self: FakeHub, path: str, data: bytes) -> dict[str, Any]:
            said = entry(self, path, data)
            if "lfs" in said:
                said["lfs"]["oid"] = "0" * 64
            return said

        monkeypatch.setattr(FakeHub, "_entry", lie)
        with pytest.raises(DownloadFailed, match=r"model\.onnx\.data"):
            await fetch(hub, place)


@pytest.mark.parametrize("name", ["../evil", "a/..\\evil", "/evil"])
async def test_a_name_that_leads_out_of_the_folder_ends_it_before_anything_is_written(
    place: Place, tmp_path: Path, name: str
) -> None:
    with fake_hub({"me/mine": {**FILES, name: b"evil"}}) as hub:
        with pytest.raises(
            DownloadFailed, match=f"expected names within a folder, got {re.escape(repr(name))}$"
        ):
            await fetch(hub, place)
        assert files(tmp_path) == {}


async def test_the_token_opens_the_hub_and_goes_nowhere_else(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with fake_hub({"me/mine": FILES}) as hub:
        hub.token = "hf_secret"
        await fetch(hub, place, hub.source(token="hf_environment"), token=" hf_secret\n")
        assert files(place.folder) == FILES
        assert {one.headers.get("authorization") for one in hub.site.asked} == {"Bearer hf_secret"}
        assert hub.storage.asked
        assert all("authorization" not in one.headers for one in hub.storage.asked)
        assert "hf_environment" not in repr(hub.source(token="hf_environment"))
    for secret in ("hf_secret", "hf_environment", "s1gn3d"):
        assert secret not in caplog.text


async def test_the_environments_token_counts_where_a_request_brings_none(place: Place) -> None:
    with fake_hub({"me/mine": FILES}) as hub:
        hub.token = "hf_environment"
        await fetch(hub, place, hub.source(token="hf_environment"))
        assert files(place.folder) == FILES


@pytest.mark.parametrize(
    ("token", "needed"), [(None, "a token (token, or HF_TOKEN)"), ("hf_wrong", "a token that may read it")]
)
async def test_what_is_protected_says_that_it_needs_a_token(
    place: Place, token: str | None, needed: str
) -> None:
    with fake_hub({"me/mine": FILES}) as hub:
        hub.token = "hf_secret"
        url = f"{hub.site.url}/api/models/me/mine/revision/main"
        text = (
            f"hf://me/mine: there is no such repository, or it needs {needed}: "
            f"hf://me/mine: {url}: 401 Unauthorized"
        )
        with pytest.raises(DownloadFailed, match=f"^{re.escape(text)}$"):
            await fetch(hub, place, token=token)


@pytest.mark.parametrize("token", ["hf_ä", "hf_a b", "hf_a\r\nx: y", " "])
async def test_a_token_that_is_none_is_refused_without_being_told(place: Place, token: str) -> None:
    text = "token: expected printable letters without blanks, got something else"
    with fake_hub({"me/mine": FILES}) as hub:
        with pytest.raises(DownloadFailed, match=f"^{text}$"):
            await fetch(hub, place, token=token)
        assert hub.site.asked == []


@pytest.mark.parametrize(
    ("uri", "path", "text"),
    [
        ("hf://me/none", "", "hf://me/none: {url}/api/models/me/none/revision/main: 404 Not Found"),
        (f"{URI}@none", "", "hf://me/mine@none: {url}/api/models/me/mine/revision/none: 404 Not Found"),
        (URI, "none", "hf://me/mine@{commit}: {url}/api/models/me/mine/tree/{commit}/none: 404 Not Found"),
        (URI, "../x", "Path: expected a path below hf://me/mine, got ../x"),
    ],
)
async def test_what_is_not_there_is_told_by_name(place: Place, uri: str, path: str, text: str) -> None:
    with fake_hub({"me/mine": FILES}) as hub:
        expected = text.format(url=hub.site.url, commit=hub.commit("me/mine"))
        with pytest.raises(DownloadFailed, match=f"^{re.escape(expected)}$"):
            await fetch(hub, place, uri=uri, path=path)


@pytest.mark.parametrize(
    ("method", "answer", "text"),
    [
        ("revision", b'{"sha": "main"}', 'the hub\'s answer: sha: expected a commit, got "main"'),
        ("revision", b"[]", "the hub's answer: body: expected an object, got an array"),
        ("tree", b"{}", "the list of its files: body: expected an array of objects, got an object"),
        ("tree", b'[{"type": "file"}]', "the list of its files: [0].path: expected a string, got nothing"),
        (
            "tree",
            b'[{"type": "file", "path": "a", "size": -1}]',
            "the list of its files: [0].size: expected an integer from 0 to",
        ),
        (
            "tree",
            b'[{"type": "file", "path": "a"}]',
            "the list of its files: [0].size: expected an integer, got nothing",
        ),
        (
            "tree",
            b'[{"type": "file", "path": "genai_config.json", "lfs": {"oid": "x", "size": 1}}]',
            "genai_config.json: expected a SHA-256 in hexadecimal, got 'x'",
        ),
    ],
)
async def test_an_answer_of_the_hub_that_cannot_be_used_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, method: str, answer: bytes, text: str
) -> None:
    right = FakeHub.__call__

    def wrong(self: FakeHub, asked: Any) -> Said:
        return Said(200, answer) if f"/{method}/" in asked.path else right(self, asked)

    monkeypatch.setattr(FakeHub, "__call__", wrong)
    expected = rf"^hf://me/mine\S*: {re.escape(text)}"
    with fake_hub({"me/mine": FILES}) as hub, pytest.raises(DownloadFailed, match=expected):
        await fetch(hub, place)
