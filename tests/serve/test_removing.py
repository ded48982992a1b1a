"""Laws of `foundry cache remove`: what goes goes whole, and nothing goes that somebody is at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from foundry_proto.events import Failure
from foundry_proto.operations.models import LOADED_MODELS
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.settings import write_models_folder
from foundry_runtime.platform import take_lock
from foundry_serve.daemon.state import ServiceFiles
from tests.runtime.models.folders import write_folder
from tests.support.command import call, serving

USAGE = "Error: expected MODEL or --all\n"


@pytest.fixture
def directory(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "ein Zuhause ☕")


def add(directory: ModelDirectory, model_id: str = "mine:1") -> Path:
    return write_folder(directory.path_for("me", model_id), model_id)


def leave_unfinished(directory: ModelDirectory, model_id: str = "mine:1") -> Path:
    unfinished = directory.unfinished(model_id)
    (unfinished / "model").mkdir(parents=True)
    (unfinished / "model" / "model.onnx.data").write_bytes(b"x" * 100)
    directory.lock_for(model_id).touch()
    return unfinished


def test_a_model_that_is_being_downloaded_is_not_removed(directory: ModelDirectory) -> None:
    folder = add(directory)
    leave_unfinished(directory)
    lock = take_lock(directory.lock_for("mine:1"))
    assert lock is not None
    with lock:
        for arguments in (["mine"], ["--all", "--yes"]):
            done = call(directory.home, "cache", "remove", *arguments)
            name = "mine:1" if arguments == ["mine"] else "mine-1"
            assert (done.exit_code, done.stdout) == (1, "")
            assert done.stderr == f"foundry: {name} is being downloaded\n"
            assert folder.exists()
            assert directory.unfinished("mine:1").exists()
    assert call(directory.home, "cache", "remove", "mine").exit_code == 0
    assert list(directory.home.rglob("*")) == [directory.home / "cache", directory.models]


def test_what_was_downloaded_of_a_model_goes_by_its_id(directory: ModelDirectory) -> None:
    unfinished = leave_unfinished(directory)
    done = call(directory.home, "cache", "remove", "mine:1")
    assert (done.exit_code, done.stdout) == (0, "what was downloaded of mine:1 is removed\n")
    assert not unfinished.exists()
    assert not directory.lock_for("mine:1").exists()


@pytest.mark.parametrize("name", ["..", "../models", ".", "a/b", "", "x.lock"])
def test_a_name_that_leads_elsewhere_removes_nothing(directory: ModelDirectory, name: str) -> None:
    folder = add(directory)
    (directory.downloads / "x.lock").parent.mkdir()
    (directory.downloads / "x.lock").touch()
    done = call(directory.home, "cache", "remove", name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"foundry: Model {name} was not found in the local cache.\n"
    assert folder.exists()


def test_a_model_that_was_set_aside_does_not_come_back(directory: ModelDirectory) -> None:
    folder = add(directory)
    # As a process leaves it that was killed between two renames of an earlier life.
    write_folder(folder.with_name(f".{folder.name}.replaced"), "mine:1")
    call(directory.home, "cache", "remove", "mine")
    assert list(directory.models.iterdir()) == []


def house(directory: ModelDirectory) -> None:
    """All that this program puts into a home."""
    add(directory)
    add(directory, "other:2")
    leave_unfinished(directory, "third:1")
    (directory.models / ".removed-0123").mkdir()
    write_folder(directory.models / "me" / ".gone-1.replaced", "gone:1")
    write_models_folder(directory.home, directory.elsewhere)
    for name in (
        "registered.json",
        "registered.lock",
        "registered.json.unusable",
        "cache/foundry.modelinfo.json",
    ):
        (directory.home / name).write_text("{}")
    files = ServiceFiles(directory.home)
    with files.try_alone("service"), files.try_alone("start"):
        pass
    files.log.parent.mkdir()
    for name in ("service.log", "service.log.1"):
        (files.log.parent / name).touch()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_house_is_emptied_of_all_that_was_put_there(
    directory: ModelDirectory, tmp_path: Path, elsewhere: bool
) -> None:
    if elsewhere:
        directory = ModelDirectory(directory.home, tmp_path / "größer")
        directory.home.mkdir()
        (directory.home / "cache").mkdir()
    house(directory)
    for given in ("", "n\n"):
        done = call(directory.home, "cache", "remove", "--all", given=given)
        assert done.exit_code == 1
        assert f"Remove 2 models in {directory.models} (" in done.stdout
        assert len(directory.entries()) == 2
    done = call(directory.home, "cache", "remove", "--all", given="y\n")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith(f"2 models removed; nothing of this program is left in {directory.home}\n")
    assert list(tmp_path.rglob("*")) == []


def test_what_is_somebody_elses_stays_and_is_named(directory: ModelDirectory) -> None:
    house(directory)
    others = [
        directory.home / "cache" / "models" / "me" / "notes.txt",
        directory.home / "config.toml",
        directory.home / "logs" / "mine.log",
    ]
    for path in others:
        path.write_text("# mine")
    done = call(directory.home, "cache", "remove", "--all", "--yes")
    assert done.exit_code == 0
    assert done.stderr == "".join(f"foundry: not this program's, so it stays: {path}\n" for path in others)
    assert sorted(path for path in directory.home.rglob("*") if path.is_file()) == others


@pytest.mark.parametrize("arguments", [[], ["mine", "--all"]])
def test_one_model_or_all_must_be_said(directory: ModelDirectory, arguments: list[str]) -> None:
    folder = add(directory)
    done = call(directory.home, "cache", "remove", "--yes", *arguments)
    assert (done.exit_code, done.stderr.endswith(USAGE)) == (2, True)
    assert folder.exists()


def test_an_empty_home_is_emptied_as_well(directory: ModelDirectory) -> None:
    done = call(directory.home, "cache", "remove", "--all", "--yes")
    assert (done.exit_code, done.stderr) == (0, "")
    assert not directory.home.exists()


def test_nothing_goes_while_the_service_runs(
    directory: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = add(directory)
    genuine = Client.call

    async def call_in_vain(self: Client, operation: Any, *arguments: Any, **more: Any) -> Any:
        if operation is LOADED_MODELS:
            raise ServerFailure(Failure(status=503, message="busy"))
        return await genuine(self, operation, *arguments, **more)

    with serving(directory.home):
        done = call(directory.home, "cache", "remove", "--all", "--yes")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == "foundry: the service is running; stop it first: foundry service stop\n"
        assert folder.exists()
        # Nor does one go if it cannot say what it has in memory.
        with monkeypatch.context() as patch:
            patch.setattr(Client, "call", call_in_vain)
            done = call(directory.home, "cache", "remove", "mine")
        assert (done.exit_code, done.stderr, folder.exists()) == (1, "foundry: busy\n", True)
        # A model that it does not have in memory may go.
        assert call(directory.home, "cache", "remove", "mine").exit_code == 0


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_model_that_is_a_link_leaves_what_it_leads_to(directory: ModelDirectory, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "my own", "mine:1")
    (directory.models / "me").mkdir(parents=True)
    (directory.models / "me" / "mine").symlink_to(folder)
    assert call(directory.home, "cache", "remove", "mine").exit_code == 0
    assert list(directory.models.iterdir()) == []
    assert (folder / "genai_config.json").exists()
