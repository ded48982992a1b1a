"""The model directory: which folders are models, and what they are called."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import BadModelFolder
from foundry_runtime.models.settings import write_models_folder
from tests.runtime.models.folders import write_folder


@pytest.fixture
def directory(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "home of Jürgen")


def _ids(directory: ModelDirectory) -> list[str]:
    return [entry.id for entry in directory.entries()]


def test_the_home_is_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ModelDirectory.from_environment({}).home == Path.home() / ".foundry"
    assert ModelDirectory.from_environment({"FOUNDRY_HOME": ""}).home == Path.home() / ".foundry"
    assert ModelDirectory.from_environment({"FOUNDRY_HOME": "~/a b"}).home == Path.home() / "a b"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOUNDRY_HOME", "ä")
    directory = ModelDirectory.from_environment()
    assert directory.models == tmp_path / "ä" / "cache" / "models"
    assert directory.downloads == tmp_path / "ä" / "cache" / "downloads"


def test_the_settings_move_the_models_and_what_is_not_finished_with_them(tmp_path: Path) -> None:
    write_models_folder(tmp_path / "home", tmp_path / "Größe")
    directory = ModelDirectory.from_environment({"FOUNDRY_HOME": str(tmp_path / "home")})
    assert directory == ModelDirectory(tmp_path / "home", tmp_path / "Größe")
    assert directory.models == tmp_path / "Größe"
    write_folder(directory.downloads / "unfinished", "unfinished:1")
    write_folder(directory.models / "m", "m:1")
    assert _ids(directory) == ["m:1"]


def test_a_directory_that_is_not_there_has_no_models(directory: ModelDirectory) -> None:
    assert _ids(directory) == []
    assert directory.find("anything:1") is None


def test_models_are_found_at_any_depth_below_the_first_folder(directory: ModelDirectory) -> None:
    models = directory.models
    write_folder(models / "publisher" / "b-1", "b:1")
    write_folder(models / "publisher" / "deep" / "v1", "Deep-Größe:3")
    write_folder(models / "flat", "flat")
    write_folder(models / "publisher" / "b-1" / "inside-a-model", "hidden:1")
    assert _ids(directory) == ["b:1", "Deep-Größe:3", "flat:0"]


def test_what_is_not_a_finished_model_is_passed_over(directory: ModelDirectory) -> None:
    models = directory.models
    write_folder(models, "files-in-the-root:1")
    (write_folder(models / "p" / "downloading", "downloading:1") / "download.tmp").touch()
    write_folder(models / "p" / "variants" / "v1", "old:1")
    (models / "p" / "variants" / "download.tmp").touch()
    (write_folder(models / "p" / "no-config", "no-config:1") / "genai_config.json").unlink()
    (write_folder(models / "p" / "no-identity") / "inference_model.json").unlink()
    write_folder(models / "p" / "no-name", None)
    write_folder(models / "p" / "name-is-no-text", 5)
    (write_folder(models / "p" / "no-json") / "inference_model.json").write_text("{")
    write_folder(models / "p" / ".importing", "importing:1")
    (models / "p" / "a-file").touch()
    assert _ids(directory) == []


def test_a_name_that_two_folders_have_means_the_first_of_them(directory: ModelDirectory) -> None:
    write_folder(directory.models / "b", "twice:1")
    first = write_folder(directory.models / "a", "Twice:1")
    found = directory.find("twice:1")
    assert found is not None
    assert (found.id, found.path) == ("Twice:1", first)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_in_a_circle_ends_the_search(directory: ModelDirectory) -> None:
    write_folder(directory.models / "p" / "m", "m:1")
    (directory.models / "p" / "circle").symlink_to(directory.models)
    assert _ids(directory) == ["m:1"]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_folder_that_cannot_be_read_is_passed_over(directory: ModelDirectory) -> None:
    write_folder(directory.models / "open" / "m", "m:1")
    closed = write_folder(directory.models / "closed" / "m", "n:1").parent
    closed.chmod(0)
    try:
        assert _ids(directory) == ["m:1"]
    finally:
        closed.chmod(0o700)


def test_a_model_is_found_by_its_id_in_any_letter_case(directory: ModelDirectory) -> None:
    for folder, model_id in [("a", "m-cpu:2"), ("b", "M-cpu:10"), ("c", "other")]:
        write_folder(directory.models / "p" / folder, model_id)
    for model_id, path in [("m-CPU:02", "a"), ("m-cpu:10", "b"), ("other:0", "c"), ("m-cpu", None)]:
        found = directory.find(model_id)
        assert (None if found is None else found.path.name) == path


def test_what_changes_on_disk_is_seen_at_once(directory: ModelDirectory) -> None:
    folder = write_folder(directory.models / "p" / "m", "m:1")
    assert _ids(directory) == ["m:1"]
    marker = folder / "download.tmp"
    marker.touch()
    assert _ids(directory) == []
    marker.unlink()
    write_folder(folder, "m:2")
    assert _ids(directory) == ["m:2"]
    shutil.rmtree(folder)
    assert _ids(directory) == []


def test_the_publisher_is_the_first_folder(directory: ModelDirectory) -> None:
    write_folder(directory.models / "Größe & Co" / "m-1" / "v1", "a:1")
    write_folder(directory.models / "flat", "b:1")
    assert [directory.publisher_of(entry) for entry in directory.entries()] == ["Größe & Co", ""]


def test_a_model_that_is_there_but_cannot_be_used_is_an_error(directory: ModelDirectory) -> None:
    folder = write_folder(directory.models / "p" / "m", "m:1", {"model": {}})
    assert _ids(directory) == ["m:1"]
    with pytest.raises(BadModelFolder) as error:
        directory.find("m:1")
    reason = "expected a whole number of at least 1, got nothing"
    assert str(error.value) == f"{folder / 'genai_config.json'}: model.context_length: {reason}"


def test_a_models_folder_is_named_by_publisher_name_and_version(directory: ModelDirectory) -> None:
    assert directory.path_for("Größe & Co", "m-cpu:2") == directory.models / "Größe & Co" / "m-cpu-2"
    assert directory.path_for("local", "m") == directory.models / "local" / "m"


@pytest.mark.parametrize(
    ("publisher", "model_id", "reason"),
    [
        ("a/b", "m:1", "publisher: expected a name that a folder can have, got 'a/b'"),
        ("..", "m:1", "publisher: expected a name that a folder can have, got '..'"),
        ("x.", "m:1", "publisher: expected a name that a folder can have, got 'x.'"),
        ("", "m:1", "publisher: expected a name that a folder can have, got ''"),
        ("p", "..\\m:1", "model id: expected a name that a folder can have, got '..\\\\m-1'"),
        ("p", "a:b:1", "model id: expected a name that a folder can have, got 'a:b-1'"),
        ("p", " m", "model id: expected a name that a folder can have, got ' m'"),
        ("p", "m\n", "model id: expected a name that a folder can have, got 'm\\n'"),
    ],
)
def test_no_name_leads_out_of_the_directory(
    directory: ModelDirectory, publisher: str, model_id: str, reason: str
) -> None:
    with pytest.raises(ValueError) as error:
        directory.path_for(publisher, model_id)
    assert str(error.value) == reason
