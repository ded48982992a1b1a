"""A folder becomes a model: under which name, copied or linked, and never half."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundry_runtime.download.folders import import_folder
from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.document import BadModelFolder
from tests.runtime.models.folders import write_folder

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "Zuhause mit Ä")


def folder_of(tmp_path: Path, name: object = "mine:3") -> Path:
    folder = write_folder(tmp_path / "my model", name)
    (folder / "model.onnx").write_bytes(b"m" * 2000)
    return folder


def one_file(one: Path, other: Path) -> bool:
    """Whether both folders have the very same weights."""
    return (one / "model.onnx").samefile(other / "model.onnx")


@pytest.mark.parametrize(
    ("stated", "asked", "given"),
    [
        ("mine:3", None, "mine:3"),
        ("mine", None, "mine:0"),
        ("mine:3", "other", "other:1"),
        ("mine:3", "other:7", "other:7"),
        (None, None, "my model:1"),
    ],
)
async def test_it_is_called_as_asked_or_as_it_says_or_like_the_folder(
    directory: ModelDirectory, tmp_path: Path, stated: str | None, asked: str | None, given: str
) -> None:
    folder = folder_of(tmp_path, stated)
    model = await import_folder(directory, folder, model_id=asked)
    assert (model.id, model.path) == (given, directory.models / "local" / given.replace(":", "-"))
    assert not directory.unfinished(given).exists()


async def test_linked_files_are_the_folders_own_even_if_nobody_may_write_them(
    directory: ModelDirectory, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path)
    (folder / "model.onnx").chmod(0o444)
    identity = (folder / "inference_model.json").read_bytes()
    model = await import_folder(directory, folder, model_id="other", link=True)
    assert one_file(model.path, folder)
    assert (folder / "inference_model.json").read_bytes() == identity
    again = await import_folder(directory, folder, model_id="other")
    assert not one_file(again.path, folder)
    assert (folder / "model.onnx").read_bytes() == b"m" * 2000


async def test_a_model_can_be_imported_onto_itself(directory: ModelDirectory, tmp_path: Path) -> None:
    first = await import_folder(directory, folder_of(tmp_path))
    for link in (True, False):
        again = await import_folder(directory, first.path, link=link)
        assert (again.path / "model.onnx").read_bytes() == b"m" * 2000


async def test_what_is_no_model_is_refused_and_what_was_there_stays(
    directory: ModelDirectory, tmp_path: Path
) -> None:
    await import_folder(directory, folder_of(tmp_path))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DownloadFailed, match=r"expected a model folder, got one without genai_config\.json$"):
        await import_folder(directory, empty, model_id="mine:3")
    with pytest.raises(ValueError, match=r"^model id: expected NAME or NAME:NUMBER, got a:b$"):
        await import_folder(directory, empty, model_id="a:b")
    with pytest.raises(ValueError, match=r"^model id: expected a name that a folder can have"):
        await import_folder(directory, empty, model_id="a/b")
    assert [entry.id for entry in directory.entries()] == ["mine:3"]
    broken = write_folder(tmp_path / "broken", config=[])
    with pytest.raises(BadModelFolder, match=r"genai_config\.json: expected an object"):
        await import_folder(directory, broken)
