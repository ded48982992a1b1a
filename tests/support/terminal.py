"""A pseudo-terminal, and a program in it."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

__all__ = ["Terminal", "in_terminal"]

# Only the terminal that controls a process turns Ctrl-C into a signal.
_LAUNCHER = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """Type into it, and wait for what it shows."""

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
def in_terminal(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """Run a Python program in a terminal of its own.

    Args:
        arguments: Python's.
        environment: The program's variables.
    """
    ours, theirs = os.openpty()  # type: ignore[attr-defined,unused-ignore]
    command = [sys.executable, "-c", _LAUNCHER, *arguments]
    with subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(ours), process
        finally:
            process.kill()
            os.close(ours)
