"""Both kinds of worker."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["thread", "inline"])
def kind(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param
