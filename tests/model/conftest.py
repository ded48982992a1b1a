"""`foundry serve` with the real model, one server a loop for all tests that only ask it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", params=["asyncio", "trio"])
def base_url(request: pytest.FixtureRequest, default_home: Path) -> Iterator[str]:
    """Where a server in a process of its own answers: `http://127.0.0.1:PORT/v1`."""
    command = [sys.executable, "-m", "foundry_serve", "serve", "--port", "0", "--runtime", request.param]
    environment = {**os.environ, "FOUNDRY_HOME": str(default_home), "PYTHONUTF8": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            announced = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
            assert announced
            yield f"{announced[0]}v1"
        finally:
            server.terminate()
            assert server.wait(10) == 0
