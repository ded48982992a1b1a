"""The unmodified official clients, Python's and JavaScript's, from nothing: they start the service by the
`foundry` command on the path, get the model, load it, chat with it and unload it.

They share a home: the Python client begins with an empty one.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from foundry_proto.codec import encode
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_runtime.models.recipes import DEFAULT_ALIAS, DEFAULT_ID
from tests.support.command import call, environment
from tests.support.pages import BLOCKS, ROOT

HERE = Path(__file__).parent
NPM_PACKAGES = ("foundry-local-sdk@0.5.0", "openai@6.49.0")
ANSWER = "The primary colors are:\n\nRed (R)\nBlue (B)\nYellow (Y)"

pytestmark = [pytest.mark.model, pytest.mark.client]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that is empty at first; its service ends with this module."""
    home = tmp_path_factory.mktemp("clients") / "Zuhause ä"
    yield home
    call(home, "service", "stop", "--now")


def variables(home: Path) -> Mapping[str, str]:
    """As a user has them: with the `foundry` of this Python's environment on the path."""
    scripts = Path(sys.executable).parent
    path = os.pathsep.join([str(scripts), os.environ["PATH"]])
    if shutil.which("foundry", path=str(scripts)) is None:
        pytest.fail(f"expected the command to be installed in {scripts}")
    return {**environment(home), "PATH": path, "PYTHONWARNINGS": "default"}


def run(command: list[str], home: Path) -> dict[str, Any]:
    done = subprocess.run(
        command, env=variables(home), capture_output=True, encoding="utf-8", check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "failed" in report:
        pytest.skip(f"the model cannot be had: {report['failed']}")
    return {**report, "stderr": done.stderr}


@pytest.fixture(scope="module")
def python(home: Path) -> dict[str, Any]:
    """What the Python client's program reports."""
    pytest.importorskip("foundry_local")
    pytest.importorskip("openai")
    return run([sys.executable, str(HERE / "foundry_program.py")], home)


@pytest.fixture(scope="module")
def npm_folder(test_cache: Path) -> Path:
    """A folder with the JavaScript clients, installed once."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip(f"{'node' if node is None else 'npm'} is not installed here")
    folder = test_cache / "-".join(("npm", *NPM_PACKAGES)).replace("@", "-")
    if not (folder / "complete").exists():
        folder.mkdir(exist_ok=True)
        install = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *NPM_PACKAGES]
        if (done := subprocess.run(install, capture_output=True, text=True, check=False)).returncode:
            pytest.skip(f"{' and '.join(NPM_PACKAGES)} cannot be installed here: {done.stderr}")
        (folder / "complete").touch()
    return folder


@contextmanager
def copied(npm_folder: Path, code: str) -> Iterator[Path]:
    """A program where it finds the clients: JavaScript looks for them from where the program is."""
    program = npm_folder / f"{uuid.uuid4().hex}.mjs"
    program.write_text(code, "utf-8")
    try:
        yield program
    finally:
        program.unlink()


@pytest.fixture(scope="module")
def javascript(npm_folder: Path, python: dict[str, Any], home: Path) -> dict[str, Any]:
    """What the JavaScript client's program reports; it finds the model there, but no service."""
    assert python
    call(home, "service", "stop")
    with copied(npm_folder, (HERE / "foundry_program.mjs").read_text("utf-8")) as program:
        return run(["node", str(program)], home)


@pytest.fixture(params=["python", "javascript"])
def report(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What each of them reports."""
    found: dict[str, Any] = request.getfixturevalue(request.param)
    return found


def test_the_client_starts_the_service_and_finds_it(report: dict[str, Any], home: Path) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", report["endpoint"])
    assert report["running"]
    assert report["cache"] == str(home / "cache" / "models")
    assert "did not start within the expected time" not in report["stderr"]


def test_a_second_manager_finds_the_same_service(python: dict[str, Any]) -> None:
    assert python["second"] == python["endpoint"]


def test_the_client_gets_the_model_and_loads_it(report: dict[str, Any]) -> None:
    assert DEFAULT_ID in report["catalog"]
    assert report["cached"] == report["loaded"] == [DEFAULT_ID]
    assert report["again"] == DEFAULT_ID
    assert not report["upgradeable"]


def test_the_client_shows_progress_up_to_the_end(javascript: dict[str, Any]) -> None:
    progress = javascript["progress"]
    assert progress == sorted(set(progress))
    assert progress[-1] == 100


def test_openais_client_chats_with_the_model(report: dict[str, Any]) -> None:
    assert report["chat"] == {"whole": ANSWER, "streamed": ANSWER, "listed": [DEFAULT_ID]}


@pytest.mark.parametrize("name", [DEFAULT_ALIAS, DEFAULT_ID])
def test_unloading_within_the_time_to_live_takes_force(report: dict[str, Any], name: str) -> None:
    assert report["states"][name] == [True, True, False]


def test_an_unknown_model_is_the_clients_own_error(report: dict[str, Any]) -> None:
    assert report["unknown"] == "Model no-such-model not found in the catalog."


def test_the_programs_of_the_documentation_print_an_answer(
    javascript: dict[str, Any], npm_folder: Path, home: Path, tmp_path: Path
) -> None:
    assert javascript
    blocks = {one.language: one for one in BLOCKS[ROOT / "docs" / "command.md"] if one.marker == "clients"}
    assert set(blocks) == {"python", "js"}
    (tmp_path / "program.py").write_text(blocks["python"].code, "utf-8")
    with copied(npm_folder, blocks["js"].code) as program:
        for command in ([sys.executable, str(tmp_path / "program.py")], ["node", str(program)]):
            done = subprocess.run(
                command, env=variables(home), capture_output=True, encoding="utf-8", check=True, timeout=300
            )
            assert done.stdout == f"{ANSWER}\n"


class Reading(threading.Thread):
    """Reads a streamed answer of so many tokens to its end, whatever that is."""

    def __init__(self, base_url: str, max_tokens: int) -> None:
        super().__init__()
        body = encode(
            ChatCompletionRequest(
                model=DEFAULT_ALIAS,
                messages=(UserMessage(role="user", content="Write a very long story about a dog."),),
                max_tokens=max_tokens,
                stream=True,
                seed=1,
            )
        )
        headers = {"Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection(urlsplit(base_url).netloc)
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        self._answer = self._connection.getresponse()
        self.read = self._answer.readline()  # it has begun

    def run(self) -> None:
        try:
            self.read += self._answer.read()
        except http.client.IncompleteRead as error:
            self.read += error.partial
        finally:
            self._connection.close()


@pytest.mark.parametrize(
    ("started", "tokens", "stopped", "is_whole"),
    [
        (("--drain", "60"), 40, (), True),
        (("--drain", "0.2"), 4000, (), False),
        (("--drain", "60"), 4000, ("--now",), False),
    ],
    ids=["drained", "drained for a moment", "cut"],
)
def test_a_running_stream_has_the_time_to_end_that_it_is_given(
    python: dict[str, Any],
    home: Path,
    started: tuple[str, ...],
    tokens: int,
    stopped: tuple[str, ...],
    is_whole: bool,
) -> None:
    assert python
    call(home, "service", "restart", "--port", "0", *started)
    url = json.loads(call(home, "service", "status", "--json").stdout)["endpoints"][0]
    reading = Reading(url, tokens)
    reading.start()
    begin = time.monotonic()
    done = call(home, "service", "stop", *stopped)
    took = time.monotonic() - begin
    reading.join()
    assert (done.exit_code, done.stdout) == (0, "🔴 Service is stopped.\n")
    assert reading.read.endswith(b"data: [DONE]\n\n") == is_whole
    assert took < 30
