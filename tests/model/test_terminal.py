"""Laws of the chat in a real terminal, with the real model: Ctrl-C stops an answer, and not the program."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals in Python"),
]


# Only the terminal that controls a process turns Ctrl-C into a signal.
LAUNCHER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """A pseudo-terminal: type into it, and wait for what it shows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.shown = ""

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def interrupt_until(self, pattern: str) -> None:
        """Press Ctrl-C until it is noticed: the shown text matches.

        A prompt notices an interrupt only while it listens to the keyboard, which it does a moment after it
        was shown. And where the terminal throws away keys, as it does at Ctrl-C, of which readline has heard
        already, readline waits for another key before it can be interrupted: Ctrl-U is one, and harmless.
        """
        self.wait_for(pattern, press=("\x03", "\x15"))

    def wait_for(self, pattern: str, *, press: Sequence[str] = ("",)) -> re.Match[str]:
        """Read until what is shown since the last wait matches.

        Args:
            pattern: What to wait for.
            press: The first is typed at once, and after each silence the next of them, round and round.

        Returns:
            How it matches.
        """
        begin = len(self.shown)
        self.type(press[0])
        silences = 0
        while not (match := re.search(pattern, self.shown[begin:], re.DOTALL)):
            if not select.select([self._descriptor], [], [], 0.3)[0]:
                silences += 1
                if silences == 300:
                    pytest.fail(f"nothing more is shown after {self.shown!r}")
                self.type(press[silences % len(press)])
                continue
            try:
                self.shown += os.read(self._descriptor, 65536).decode("utf-8", "replace")
            except OSError:
                pytest.fail(f"the program ended; it had shown {self.shown!r}")
        return match


@contextmanager
def chatting(home: Path, *options: str) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    ours, theirs = os.openpty()  # type: ignore[attr-defined,unused-ignore]
    environment = {**os.environ, "FOUNDRY_HOME": str(home), "TERM": "dumb"}
    program = ["-m", "foundry_serve", "model", "run", "smollm2-135m", *options]
    command = [sys.executable, "-c", LAUNCHER, *program]
    with subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(ours), process
        finally:
            process.kill()
            os.close(ours)


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
        assert program.wait(20) == 0
