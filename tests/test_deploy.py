"""What `deploy/` says is what there is: commands, settings, files, times, and a unit that systemd accepts.

Nothing here starts systemd or a container: what that showed stands in `docs/deployment.md`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from foundry_serve.config import Config, settings
from foundry_serve.serving import PATIENCE
from tests.support.command_tree import command_named
from tests.support.pages import ROOT

DEPLOY: Final = ROOT / "deploy"
UNIT: Final = DEPLOY / "foundry.service"
IMAGE: Final = DEPLOY / "Containerfile"


@pytest.mark.parametrize("file", [UNIT, IMAGE], ids=lambda file: file.name)
def test_its_variables_are_settings(file: Path) -> None:
    known = {"FOUNDRY_HOME", *(one.variable for one in settings())}
    named = set(re.findall(r"\bFOUNDRY_[A-Z_]+", file.read_text("utf-8")))
    assert named
    assert named <= known


def instructions(name: str) -> list[str]:
    """What stands behind each of the image's instructions of this name."""
    lines = IMAGE.read_text("utf-8").replace("\\\n", " ").splitlines()
    return [line.partition(" ")[2].strip() for line in lines if line.startswith(f"{name} ")]


def test_its_commands_are_the_commands() -> None:
    (started,) = re.findall(r"(?m)^ExecStart=\S*/foundry (.+)$", UNIT.read_text("utf-8"))
    (default,), (check,) = instructions("CMD"), instructions("HEALTHCHECK")
    program, *checked = json.loads(check.partition("CMD ")[2])
    assert instructions("ENTRYPOINT") == [json.dumps([program])] == ['["foundry"]']
    for words in (started.split(), json.loads(default), checked):
        assert command_named(words)[1] == []


def test_the_image_is_built_of_what_is_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = {name for line in instructions("COPY") for name in line.split()[:-1]}
    assert "*" in ignored
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


def test_running_answers_have_ended_before_who_stops_it_kills() -> None:
    (given,) = (pair for line in instructions("ENV") for pair in line.split() if "DRAIN" in pair)
    assert float(given.partition("=")[2]) + PATIENCE < 10  # as Docker and podman do by default
    (patience,) = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", UNIT.read_text("utf-8"))
    assert Config().drain + PATIENCE < float(patience)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "foundry.service"
    unit.write_text(re.sub(r"(?m)^ExecStart=.*", "ExecStart=/bin/true", UNIT.read_text("utf-8")))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
