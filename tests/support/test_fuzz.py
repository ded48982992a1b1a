"""Every fuzzer, for a moment; a fuzzer that could not fail would show nothing."""

from __future__ import annotations

import pytest
from hypothesis.errors import Flaky

from tests.support import fuzz as fuzzing
from tests.support.fuzz import CRASHES, TARGETS, checked, fuzz


@pytest.mark.parametrize("name", TARGETS)
def test_each_parser_keeps_its_promise_for_a_moment(name: str) -> None:
    assert fuzz(name, 0.3) > 0


def test_a_promise_that_is_broken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(data: bytes) -> None:
        if b"data: " in data and len(data) > 8:
            raise ZeroDivisionError

    monkeypatch.setitem(TARGETS, "sse", (fragile, TARGETS["sse"][1]))
    with pytest.raises((ZeroDivisionError, Flaky)):
        fuzz("sse", 20)


def test_what_was_found_once_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setitem(TARGETS, "sse", (seen.append, TARGETS["sse"][1]))
    monkeypatch.setitem(CRASHES, "sse", (b"once",))
    fuzz("sse", 0.0)
    assert seen == [b"once"]


def test_an_input_that_takes_too_long_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "SECONDS", -1.0)
    with pytest.raises(AssertionError, match="took longer than"):
        checked(lambda _: None, b"")
