"""Laws of the chat in a real terminal, with the real model: Ctrl-C stops an answer, and not the program."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.terminal import Terminal, in_terminal

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals in Python"),
]


@contextmanager
def chatting(home: Path, *options: str) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    environment = {**os.environ, "FOUNDRY_HOME": str(home), "TERM": "dumb"}
    program = ["-m", "foundry_serve", "model", "run", "smollm2-135m", *options]
    with in_terminal(program, environment) as (terminal, process):
        yield terminal, process


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_ctrl_c_stops_the_answer_and_not_the_chat(default_home: Path, runtime: str) -> None:
    with chatting(default_home, "--runtime", runtime, "--seed", "1") as (terminal, program):
        terminal.wait_for("> ")
        terminal.type("Write a very long story about a dog.\n")
        terminal.wait_for(r"dog\..*[a-z]+ [a-z]+ [a-z]+ [a-z]+")
        terminal.type("\x03")
        terminal.wait_for("\n> ")
        terminal.type("half a question")
        terminal.wait_for("half a question")
        terminal.interrupt_until("> ")
        terminal.type("Stopped at once.\n")
        terminal.interrupt_until("\n> ")
        # An interrupt that no prompt noticed takes the next question with it. Which words come depends on
        # where the story was cut, and so on how fast the machine is.
        answer = ""
        while not re.search("[a-z]+ [a-z]+", answer):
            terminal.type("Name three primary colors\n")
            answer = terminal.wait_for("colors\r\n(.*)\n> ")[1]
        terminal.type("/exit\n")
        assert program.wait(60) == 0
