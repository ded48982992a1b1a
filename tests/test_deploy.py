"""What `deploy/` says is what there is: commands, settings, and a unit that systemd accepts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from foundry_serve.config import settings
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


def test_its_commands_are_the_commands() -> None:
    (started,) = re.findall(r"(?m)^ExecStart=\S*/foundry (\w+)$", UNIT.read_text("utf-8"))
    (default,) = re.findall(r'(?m)^CMD \["(\w+)"\]$', IMAGE.read_text("utf-8"))
    for words in (started, default):
        assert command_named([words])[1] == []
    assert all((ROOT / name).exists() for name in ("pyproject.toml", "README.md", "LICENSE", "src"))


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
