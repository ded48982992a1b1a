"""Laws of what is installed: the wheel and nothing else, in environments of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("foundry_proto", "foundry_runtime", "foundry_serve")

pytestmark = pytest.mark.packaging

PROGRAM = """
from foundry_proto.codec import decode, encode
from foundry_proto.connection import ServerConnection
from foundry_proto.events import Head, Request
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.operations import DOCUMENTED
from foundry_proto.sentinels import ABSENT
from foundry_runtime.client import Client
from foundry_serve.cli import main


def temperature(body: bytes) -> float:
    request = decode(ChatCompletionRequest, body)
    if request.temperature is None or request.temperature is ABSENT:
        return 1.0
    return request.temperature


connection = ServerConnection(DOCUMENTED)
match connection.next_event():
    case Head(operation=operation):
        print(operation.name)
    case Request(value=value):
        print(value)
print(encode(temperature(b"{}")), Client, main)
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="session")
def bare(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and no extra."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", built[0])
    return python


def test_without_an_extra_nothing_but_attrs_cattrs_and_h11_is_installed(bare: Path) -> None:
    listed = run(sys.executable, "-m", "pip", "--python", bare, "list", "--format=freeze").split()
    names = {line.partition("==")[0].lower() for line in listed}
    # What stands behind the colon is cattrs's own need.
    assert names == {"foundry-proto", "attrs", "cattrs", "h11", "typing_extensions"}


def test_without_an_extra_every_module_of_the_protocol_imports(bare: Path) -> None:
    modules = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "src" / "foundry_proto").rglob("*.py"))
    ]
    run(bare, "-W", "error", "-c", "import " + ", ".join(modules))


def test_without_an_extra_the_command_says_what_to_install(bare: Path) -> None:
    script = bare.with_name("foundry.exe" if os.name == "nt" else "foundry")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "foundry: the package click is missing; install what the command needs with\n"
        "    pip install 'foundry-proto[all]'\n"
    )


def test_the_version_has_one_source(bare: Path) -> None:
    installed = run(bare, "-c", "import importlib.metadata as m; print(m.version('foundry-proto'), end='')")
    assert installed == run(bare, "-c", "import foundry_proto as p; print(p.__version__, end='')")
    assert run(sys.executable, "-m", "foundry_serve", "--version").strip() == installed


def test_wheel_and_sdist_hold_the_packages_and_their_types(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        inside = set(wheel.namelist())
    assert {name.split("/")[0] for name in inside if ".dist-info" not in name} == set(PACKAGES)
    with tarfile.open(built[1]) as sdist:
        source = {name.partition("/")[2] for name in sdist.getnames()}
    for package in PACKAGES:
        assert f"{package}/py.typed" in inside
        assert f"src/{package}/py.typed" in source
    assert {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "tests/test_packaging.py"} <= source


def test_a_program_is_checked_strictly_against_the_installed_types(bare: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        bare,
        program,
    ]
    assert run(*command, cwd=tmp_path) == "Success: no issues found in 1 source file\n"
    program.write_text(PROGRAM.replace("return request.temperature", "return request.model"))
    with pytest.raises(AssertionError, match="Incompatible return value type"):
        run(*command, cwd=tmp_path)
