"""A model's way to its place: whole or not at all, by whoever comes first, and known by its id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundry_runtime.download.delivery import Delivery, deliver
from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.directory import ModelDirectory
from tests.runtime.models.folders import write_folder
from tests.support.scripted_source import ScriptedSource, wanted

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "home of Jürgen")


def source(**more: Any) -> ScriptedSource:
    """One that takes no time."""
    return ScriptedSource(news=(), **more)


def delivery(directory: ModelDirectory, source: ScriptedSource, **more: Any) -> Delivery:
    return Delivery(model=wanted(), source=source, directory=directory, **more)


def identity(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "inference_model.json").read_bytes())
    return content


def listed(directory: ModelDirectory) -> list[str]:
    return [entry.id for entry in directory.entries()]


async def test_a_model_comes_to_its_publishers_folder_under_its_id_and_nothing_else_is_left(
    directory: ModelDirectory,
) -> None:
    def make(folder: Path) -> None:
        write_folder(folder, "what the source calls it", maxOutputTokens=77)

    folder = await deliver(delivery(directory, source(make=make)))
    assert folder == directory.models / "tester" / "mine-1"
    assert identity(folder) == {
        "Name": "mine:1",
        "PromptTemplate": None,
        "maxOutputTokens": 77,
        "formatVersion": 1,
    }
    assert listed(directory) == ["mine:1"]
    left = {path.name for path in directory.home.rglob("*") if path.is_file()}
    assert left == {"genai_config.json", "inference_model.json", "mine-1.lock"}


@pytest.mark.parametrize("brought", [None, b"{torn", b"[]"])
async def test_a_source_need_not_say_which_model_it_brings(
    directory: ModelDirectory, brought: bytes | None
) -> None:
    def make(folder: Path) -> None:
        write_folder(folder)
        (folder / "inference_model.json").unlink()
        if brought is not None:
            (folder / "inference_model.json").write_bytes(brought)

    template = {"user": "<|user|>{Content}<|end|>", "system": None}
    folder = await deliver(delivery(directory, source(make=make), prompt_template=template))
    assert identity(folder) == {"Name": "mine:1", "PromptTemplate": template, "formatVersion": 1}


async def test_a_model_that_is_there_is_not_fetched_unless_it_shall_be_replaced(
    directory: ModelDirectory,
) -> None:
    # Under another publisher: whose it is does not make it another model.
    there = write_folder(directory.models / "Someone" / "else", "Mine:1", old=True)
    scripted = source()
    assert await deliver(delivery(directory, scripted)) == there
    assert (scripted.fetched, identity(there)["old"]) == ([], True)
    assert await deliver(delivery(directory, scripted, replace=True)) == there
    assert "old" not in identity(there)
    assert listed(directory) == ["mine:1"]


async def test_a_failed_attempt_leaves_what_it_began_and_no_model(directory: ModelDirectory) -> None:
    old = write_folder(directory.models / "tester" / "mine-1", "mine:1", old=True)
    for failure in (DownloadFailed("the line is cut"), OSError("disk full"), ValueError("no model")):
        with pytest.raises(type(failure), match=str(failure)):
            await deliver(delivery(directory, source(failure=failure), replace=True))
        assert identity(old)["old"] is True
        assert (directory.unfinished("mine:1") / "scratch" / "begun").exists()
        assert listed(directory) == ["mine:1"]
    await deliver(delivery(directory, source()))
    assert not directory.unfinished("mine:1").exists()


async def test_what_is_no_model_never_becomes_one(directory: ModelDirectory) -> None:
    def make(folder: Path) -> None:
        folder.mkdir()

    with pytest.raises(DownloadFailed, match=r"^test:mine: expected a model, got a folder without genai"):
        await deliver(delivery(directory, source(make=make)))
    assert listed(directory) == []


async def test_what_is_no_model_is_not_replaced(directory: ModelDirectory) -> None:
    precious = directory.models / "tester" / "mine-1" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.touch()
    scripted = source()
    with pytest.raises(FileExistsError, match="not a model folder, so it is not replaced"):
        await deliver(delivery(directory, scripted))
    assert (scripted.fetched, precious.exists()) == ([], True)


@pytest.mark.parametrize(
    ("model_id", "publisher", "named"),
    [
        ("..:1", "", "model id"),
        ("a/b:1", "", "model id"),
        ("a\\b:1", "", "model id"),
        ("con.x:1", "", "model id"),
        ("mine:1", "a/b", "publisher"),
        ("mine:1", "x.", "publisher"),
        ("mine:1", "..", "publisher"),
        ("mine:1", "nul", "publisher"),
        ("mine:1", "a\nb", "publisher"),
    ],
)
def test_names_that_are_no_folders_are_refused_before_anything_happens(
    directory: ModelDirectory, model_id: str, publisher: str, named: str
) -> None:
    model = wanted(model_id, publisher=publisher)
    with pytest.raises(ValueError, match=f"^{named}: expected a name that a folder can have, got "):
        Delivery(model=model, source=source(), directory=directory)
    assert not directory.home.exists()
