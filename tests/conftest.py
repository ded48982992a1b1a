"""Fixtures that every room's tests share: both event loops, the real model, and what a skip means in CI.

The real model is got once, by the project's own code, into `$FOUNDRY_TEST_HOME` or `.test-home`, and used
again by later runs for as long as the code that made it is the same.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, settings

from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.download.work import Work
from foundry_runtime.models.default import fetch_default_file
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.importing import import_model
from foundry_runtime.models.recipes import DEFAULT_ID
from tests.support.leaks import looked_after, no_service_left, nothing_left, passed_on
from tests.support.no_silent_skips import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]

_ROOT = Path(__file__).parents[1]

# No test asks the public catalogue, nor does a process that one starts; tests of it have one of their own.
os.environ["FOUNDRY_CATALOG"] = "off"
passed_on()

# No property depends on how fast the machine is, be it for a moment only.
settings.register_profile(
    "any machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

_A_DAY = 24 * 60 * 60


@pytest.fixture(scope="session", autouse=True)
def all_are_looked_after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Event loops and child processes tell what is left."""
    with looked_after(tmp_path_factory.mktemp("left")):
        yield


@pytest.fixture(scope="module", autouse=True)
def no_service_is_left() -> Iterator[None]:
    """A module that leaves a service behind fails."""
    with no_service_left():
        yield


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """A test that leaves something behind fails."""
    with nothing_left():
        yield


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest, nothing_is_left: None) -> object:
    """Each async test runs on both loops, never on one only."""
    return request.param


def _test_home() -> Path:
    return Path(os.environ.get("FOUNDRY_TEST_HOME") or _ROOT / ".test-home").absolute()


def _importer_fingerprint() -> str:
    """Changes with any code that has a say in what an imported model is."""
    digest = hashlib.sha256()
    runtime = _ROOT / "src" / "foundry_runtime"
    for path in [*sorted((runtime / "importers").glob("*.py")), runtime / "models" / "recipes.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="session")
def default_model_gguf() -> Path:
    """The default model's GGUF file; the test is skipped where it cannot be had."""
    try:
        return anyio.run(fetch_default_file, _test_home() / "gguf")
    except DownloadFailed as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def default_model(default_model_gguf: Path) -> Path:
    """The default model's folder, in a home of its own: `HOME/cache/models/PUBLISHER/NAME-VERSION`."""
    home = _test_home() / f"home-{_importer_fingerprint()}"
    directory = ModelDirectory(home)
    with Work().alone(_test_home() / "home.lock"):  # of several processes of one run, one makes it
        folder = directory.find(DEFAULT_ID)
        if folder is None:
            for other in _test_home().glob("home-*"):
                if time.time() - other.stat().st_mtime > _A_DAY:  # no other run can still be using it
                    shutil.rmtree(other, ignore_errors=True)
            folder = anyio.run(partial(import_model, directory, default_model_gguf))
    return folder.path


@pytest.fixture(scope="session")
def default_home(default_model: Path) -> Path:
    """The `FOUNDRY_HOME` that the default model is in."""
    return default_model.parents[3]


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """A folder for what is costly to make and stays the same from run to run."""
    folder = _test_home()
    folder.mkdir(parents=True, exist_ok=True)
    return folder
