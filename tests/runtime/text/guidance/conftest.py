"""One vocabulary for all tests of guidance that are not about vocabularies."""

from __future__ import annotations

import pytest

from tests.runtime.text.guidance.walking import Walker, make_walker


@pytest.fixture(scope="session")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Walker:
    return make_walker(tmp_path_factory.mktemp("vocabulary"))
