"""Fixtures that every room's tests share: both event loops, and what a skip means in CI."""

from __future__ import annotations

import pytest


@pytest.fixture(
    params=[pytest.param(("asyncio", {}), id="asyncio"), pytest.param(("trio", {}), id="trio")]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Each async test runs on both loops, never on one only."""
    return request.param
