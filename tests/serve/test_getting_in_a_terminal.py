"""`foundry model download` in a real terminal, from a catalogue and a storage on the loopback.

What is shown is true, and Ctrl-C keeps what has come.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field

from foundry_runtime.models.directory import ModelDirectory
from tests.runtime.models.folders import CONFIG
from tests.support.command import FOUNDRY, environment, foundry
from tests.support.fake_azure import FakeAzure, azure_asset
from tests.support.fake_catalog import FakeCatalog, entry, fake_catalog
from tests.support.sites import Asked, Said, running_site
from tests.support.terminal import Terminal, in_terminal

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals in Python")

PHI = "phi-4-mini-instruct-generic-cpu"
PART = 400_000
WEIGHTS = [f"model-{number}.onnx.data" for number in range(4)]


@define
class Held(FakeAzure):
    """A storage that gives what is before its gate, and the rest when that is opened."""

    before: int = 3
    """How many files come."""
    gate: threading.Event = field(factory=threading.Event)

    def __call__(self, asked: Asked) -> Said:
        name = asked.path.rpartition("/")[2]
        if name in WEIGHTS[self.before - 1 :]:
            self.gate.wait(60)
        return super().__call__(asked)


@pytest.fixture
def azure() -> Iterator[Held]:
    files: Mapping[str, bytes] = {
        "genai_config.json": json.dumps(CONFIG).encode(),
        **{name: os.urandom(PART) for name in WEIGHTS},
    }
    made = Held({azure_asset(PHI, 2): files})
    with running_site(made) as site:
        made.site = site
        yield made
        made.gate.set()


@pytest.fixture
def catalog() -> Iterator[FakeCatalog]:
    with fake_catalog(entry(size=1_600_000)) as made:
        yield made


def variables(azure: FakeAzure, catalog: FakeCatalog) -> dict[str, str]:
    return {
        "FOUNDRY_CATALOG": catalog.url,
        "FOUNDRY_AZURE_REGISTRY": f"{azure.site.url}/westplace",
    }


@contextmanager
def downloading(
    home: Path, azure: FakeAzure, catalog: FakeCatalog, *options: str
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    command = [*FOUNDRY[1:], "model", "download", "phi-4-mini", *options]
    more = {**environment(home), **variables(azure, catalog), "TERM": "xterm", "COLUMNS": "100"}
    with in_terminal(command, more) as (terminal, process):
        yield terminal, process


def asked_for(azure: FakeAzure, name: str) -> int:
    return len([one for one in azure.site.asked if one.path.endswith(name)])


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_ctrl_c_keeps_what_has_come_and_the_next_call_goes_on_with_it(
    tmp_path: Path, azure: Held, catalog: FakeCatalog, runtime: str
) -> None:
    home = tmp_path / "ein Zuhause ☕"
    with downloading(home, azure, catalog, "--runtime", runtime) as (terminal, process):
        terminal.wait_for(r"50% 0\.8 of 1\.5 MB")
        terminal.type("\x03")
        terminal.wait_for("foundry: interrupted; what has come is kept, and the same command goes on with it")
        assert process.wait(60) == 130
    directory = ModelDirectory(home)
    assert directory.entries() == []
    assert foundry(home, "cache", "list").stdout == "No models cached on device\n"
    azure.gate.set()
    with downloading(home, azure, catalog) as (terminal, process):
        terminal.wait_for(f"{PHI}:2 is in ")
        assert process.wait(60) == 0
    (found,) = directory.entries()
    files = azure.models[azure_asset(PHI, 2)]
    assert {name: (found.path / name).read_bytes() for name in files} == files
    # What had come was not fetched twice.
    assert [asked_for(azure, name) for name in WEIGHTS[:2]] == [1, 1]
    assert not directory.unfinished(found.id).exists()


def test_without_a_terminal_there_are_lines(tmp_path: Path, azure: Held, catalog: FakeCatalog) -> None:
    command = [*FOUNDRY, "model", "download", "phi-4-mini"]
    more = {**environment(tmp_path), **variables(azure, catalog)}
    with subprocess.Popen(
        command, env=more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        while not asked_for(azure, WEIGHTS[2]):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(1.2)  # what takes less than a second is not worth a line
        azure.gate.set()
        said, told = process.communicate(timeout=60)
    assert (process.returncode, said.startswith(f"{PHI}:2 is in ")) == (0, True)
    assert all("\x1b" not in line for line in told.splitlines())
    assert re.search(r"^\S+: \d+%, \d\.\d of 1\.5 MB", told, re.MULTILINE)
