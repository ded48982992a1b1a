"""Every fuzzer, for a moment; a fuzzer that could not fail would show nothing."""

from __future__ import annotations

import sys
import tracemalloc

import pytest

from tests.support import fuzz as fuzzing
from tests.support.fuzz import CHANGES, CRASHES, TARGETS, Broken, changed, checked, fuzz
from tests.support.fuzz_all import Run, report, run_all


@pytest.mark.parametrize("name", TARGETS)
def test_each_parser_keeps_its_promise_for_a_moment(name: str) -> None:
    assert fuzz(name, 0.3) > 0


def test_a_promise_that_is_broken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(data: bytes) -> None:
        if b"data: " in data and len(data) > 8:
            raise ZeroDivisionError

    monkeypatch.setitem(TARGETS, "sse", (fragile, TARGETS["sse"][1]))
    with pytest.raises(Broken, match="ZeroDivisionError") as raised:
        fuzz("sse", 20)
    assert b"data: " in raised.value.data
    assert len(raised.value.data) == 9


def test_an_input_is_changed_in_the_same_ways_each_time() -> None:
    first = list(changed(b"data: x\n\n", [b"seed"]))
    assert first == list(changed(b"data: x\n\n", [b"seed"]))
    assert len(first) == CHANGES
    assert len(set(first)) > CHANGES / 2


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


def test_an_input_that_costs_much_memory_is_a_failure() -> None:
    def greedy(_: bytes) -> None:
        bytearray(fuzzing.MEMORY + 1)

    tracemalloc.start()
    try:
        checked(lambda _: None, b"")
        with pytest.raises(AssertionError, match="cost"):
            checked(greedy, b"")
    finally:
        tracemalloc.stop()


def test_all_are_run_and_what_fails_is_shown() -> None:
    script = "print('sse: 12 inputs in 1 s'); print('Broken: {}', file=sys.stderr); sys.exit({})"
    well, ill = (
        Run("sse", "hypothesis", (sys.executable, "-c", "import sys; " + script.format(status, status)))
        for status in (0, 3)
    )
    good, bad = run_all([well, ill], jobs=2)
    assert (good.inputs, good.failure) == (12, "")
    assert "Broken: 3" in bad.failure
    text = report([good, bad], seconds=1, machine="a machine")
    assert "| `sse` | hypothesis | 12 |" in text
    assert "Broken: 3" in text
