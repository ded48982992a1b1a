"""What tests of fetching share: an origin, a place, and no patience."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.origin import Origin, origin


@pytest.fixture
def server() -> Iterator[Origin]:
    with origin() as one:
        yield one


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between attempts but what a test asks for, and nobody's proxies or certificates."""
    monkeypatch.setattr("foundry_proto.transfer._file._FIRST_DELAY", 0.01)
    monkeypatch.setattr("foundry_runtime.download.http._FIRST_DELAY", 0.01)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
