"""In CI, a test of the real model or of an official client that is skipped has failed.

Elsewhere such a test is skipped where the model cannot be had. In CI (`CI=true`) a skip would pass for a
check that was made.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

__all__ = ["pytest_runtest_makereport"]

_NEEDED = ("model", "client")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure, where it matters."""
    report = yield
    marks = [name for name in _NEEDED if item.get_closest_marker(name)]
    expected_to_fail = hasattr(report, "wasxfail")
    if report.skipped and marks and not expected_to_fail and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"a test marked {' and '.join(marks)} was skipped in CI: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
