"""`foundry serve` with the real model, one server a loop for all tests that only ask it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest


@contextmanager
def serving(home: Path, runtime: str) -> Iterator[str]:
    """Serve in a process of its own; gives the address: `http://127.0.0.1:PORT/v1`."""
    command = [sys.executable, "-m", "foundry_serve", "serve", "--port", "0", "--runtime", runtime]
    environment = {**os.environ, "FOUNDRY_HOME": str(home), "PYTHONUTF8": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            announced = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
            assert announced
            yield f"{announced[0]}v1"
        finally:
            server.terminate()
            assert server.wait(60) == 0


@pytest.fixture(scope="session")
def server_on(default_home: Path) -> Iterator[Callable[[str], str]]:
    """Gives the address of the one server on a loop, which is started when it is first asked for."""
    with ExitStack() as servers:

        @cache
        def server_on(runtime: str) -> str:
            return servers.enter_context(serving(default_home, runtime))

        yield server_on


@pytest.fixture(scope="session", params=["asyncio", "trio"])
def base_url(request: pytest.FixtureRequest, server_on: Callable[[str], str]) -> str:
    """Where a server answers, on each loop."""
    return server_on(request.param)
