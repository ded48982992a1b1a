"""The programs in `examples/`: each runs as it stands, and none is long."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest

from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.blocking import BlockingClient
from tests.support.pages import ROOT

EXAMPLES: Final = sorted((ROOT / "examples").glob("*.py"))
QUESTION: Final = ChatCompletionRequest(model="m", messages=(UserMessage(role="user", content="Hi"),))
SAID: Final = "Hello to you! "
OUTPUTS: Final = {
    "client.py": f"models in ''\n{SAID}\n|Hello |to |you! ||\n{SAID}\n"
    "400 messages: expected at least 1 item, got 0\n",
    "blocking_client.py": f"{SAID}\n|Hello |to |you! ||\n{SAID}\n",
    "engine.py": "an engine\n",
    "source.py": "genai_config.json 1.0\nmine-1\n['mine:1']\n",
}


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"}


@contextmanager
def running(name: str, *arguments: str) -> Iterator[str]:
    """An example that serves, on a free port; gives its URL."""
    with subprocess.Popen(
        command(name, *arguments, "0"), stdout=subprocess.PIPE, text=True, env=environment()
    ) as program:
        try:
            assert program.stdout is not None
            yield program.stdout.readline().strip()
        finally:
            program.kill()


def ran(name: str, *arguments: str) -> str:
    done = subprocess.run(
        command(name, *arguments), env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < 60


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_clients_talk_to_the_server_with_a_handler(backend: str) -> None:
    with running("greeting.py", backend) as url:
        assert ran("client.py", url, backend) == OUTPUTS["client.py"]
        if backend == "trio":
            assert ran("blocking_client.py", url) == OUTPUTS["blocking_client.py"]


@pytest.mark.parametrize("name", ["engine.py", "source.py"])
def test_what_keeps_a_contract_says_so(name: str) -> None:
    assert ran(name) == OUTPUTS[name]


@pytest.mark.parametrize(("name", "said"), [("own_sockets.py", SAID), ("no_loop.py", "No loop here. ")])
def test_an_example_that_serves_answers(name: str, said: str) -> None:
    with running(name) as url, BlockingClient(url) as client:
        assert client.call(CHAT_COMPLETIONS, QUESTION).choices[0].message.content == said
        with client.chat(QUESTION) as chunks:
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said


def test_an_application_is_mounted_at_a_prefix() -> None:
    with running("mounted.py") as url, httpx.Client(base_url=url) as client:
        assert client.get("/").text == "the models are at /models/v1\n"
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        answer = client.post("/models/v1/chat/completions", json=asked).json()
        assert answer["choices"][0]["message"]["content"] == SAID
        assert client.get("/models/nope").json()["error"]["message"] == "no such route: GET /nope"
