"""Laws of the commands that ask the service: `model load`, `model unload`, `service ps`, `cache remove`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundry_runtime.models.directory import ModelDirectory
from foundry_serve.daemon.state import ServiceFiles
from tests.support.command import call
from tests.support.tiny_model import MODEL_ID

TINY = MODEL_ID.partition(":")[0]
NOT_RUNNING = (
    "🔴 Model management service is not running!\n"
    "To start the service, run the following command: foundry service start\n"
)


@pytest.fixture(scope="module")
def home(tiny_home: ModelDirectory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the tiny model, whose service, once there is one, serves all tests of this module."""
    home = tmp_path_factory.mktemp("loading") / "ä"
    shutil.copytree(tiny_home.models, ModelDirectory(home).models)
    (home / "config.toml").write_text("port = 0")  # the usual one is for the test of what happens to it
    yield home
    call(home, "service", "stop")


def loaded(home: Path) -> list[str]:
    return [one["id"] for one in json.loads(call(home, "service", "ps", "--json").stdout)]


@pytest.mark.parametrize("command", [("service", "ps"), ("service", "list"), ("model", "unload", TINY)])
def test_without_a_service_there_is_nobody_to_ask(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = call(tmp_path, *command)
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", NOT_RUNNING)


def test_loading_starts_the_service(home: Path) -> None:
    call(home, "service", "stop")  # if another test has started it
    done = call(home, "model", "load", TINY.upper(), "--ttl", 600)
    assert (done.exit_code, done.stdout) == (0, f"🟢 Model {MODEL_ID} loaded successfully\n")
    state = ServiceFiles(home).read()
    assert state is not None
    assert f"🟢 Service is Started on {state.endpoints[0]}/, PID {state.pid}!\n" in done.stderr
    again = call(home, "model", "load", MODEL_ID)
    assert (again.exit_code, again.stdout, again.stderr) == (0, done.stdout, "")


def test_what_is_in_memory_is_listed_and_can_leave(home: Path) -> None:
    call(home, "model", "load", MODEL_ID, "--keep")
    done = call(home, "service", "ps")
    first, titles, _, row = done.stdout.splitlines()
    assert (done.exit_code, first, titles.split()) == (
        0,
        "Models running in service:",
        ["Alias", "Model", "ID"],
    )
    assert row.split() == ["🟢", TINY, MODEL_ID]
    assert loaded(home) == [MODEL_ID]
    assert call(home, "model", "unload", TINY).stdout == f"Model {MODEL_ID} was unloaded\n"
    assert loaded(home) == []
    assert call(home, "service", "list").stdout == "No models are currently loaded in the service\n"
    done = call(home, "model", "unload", TINY)
    assert (done.exit_code, done.stdout) == (0, f"Model {MODEL_ID} is not loaded\n")


def test_a_model_in_memory_is_not_removed(home: Path) -> None:
    call(home, "model", "load", TINY)
    done = call(home, "cache", "remove", TINY)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        f"foundry: the service has {MODEL_ID} in memory; unload it first: foundry model unload {MODEL_ID}\n"
    )
    assert loaded(home) == [MODEL_ID]


def test_what_cannot_be_loaded_is_named(home: Path) -> None:
    for command in ("load", "unload"):
        done = call(home, "model", command, "nope")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.endswith("foundry: Model nope was not found in the catalog or local cache.\n")
    done = call(home, "model", "load", "smollm2-135m")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "foundry: Model smollm2-135m is not on this machine yet; "
        "get it first: foundry model download smollm2-135m\n"
    )


def test_what_the_service_answers_to_is_told_in_a_line(home: Path) -> None:
    broken = ModelDirectory(home).models / "Test" / "broken"
    shutil.copytree(next(one.path for one in ModelDirectory(home).entries()), broken)
    identity = broken / "inference_model.json"
    identity.write_text(json.dumps({**json.loads(identity.read_bytes()), "Name": "broken:1"}))
    (broken / "model.onnx").write_bytes(b"no graph")
    done = call(home, "model", "load", "broken")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("foundry: the model broken:1 could not be loaded: ")
    assert "broken:1" not in loaded(home)
