"""The rule that nothing is skipped silently in CI, on a suite that skips in every way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SUITE = """
import pytest

@pytest.fixture
def nothing():
    pytest.skip("no network")

@pytest.mark.model
def test_model_in_fixture(nothing): pass

@pytest.mark.client
def test_client_in_call(): pytest.skip("no client")

@pytest.mark.model
@pytest.mark.skipif(True, reason="not today")
def test_model_by_mark(): pass

@pytest.mark.model
@pytest.mark.xfail(reason="known", strict=True)
def test_model_expected_to_fail(): assert False

@pytest.mark.model
def test_model_passes(): pass

def test_other(): pytest.skip("may be skipped")
"""


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [
        ("true", "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors"),
        ("false", "1 passed, 4 skipped, 1 xfailed"),
        (None, "1 passed, 4 skipped, 1 xfailed"),
    ],
)
def test_in_ci_a_skipped_test_of_model_or_client_has_failed(
    tmp_path: Path, ci: str | None, outcome: str
) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests.support.no_silent_skips import pytest_runtest_makereport\n"
    )
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  model: m\n  client: c\n")
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | (
        {"CI": ci} if ci else {}
    )
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rfE", str(tmp_path)]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stdout.splitlines()[-1].startswith(outcome), result.stdout
    assert result.returncode == (1 if ci == "true" else 0)
    if ci == "true":
        assert "a test marked model was skipped in CI: Skipped: no network" in result.stdout
        assert "a test marked client was skipped in CI: Skipped: no client" in result.stdout
        assert "a test marked model was skipped in CI: Skipped: not today" in result.stdout
