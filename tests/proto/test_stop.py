"""Stop sequences: which match counts, what is held back, any cut, linear time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import SupportsIndex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.stop import StopMatcher
from foundry_proto.errors import LocalProtocolError
from tests.support.chunking import chunkings

stop_lists = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)
texts = st.text("abc", max_size=30)


def run(stops: list[str], pieces: list[str]) -> tuple[str, str | None]:
    matcher = StopMatcher(stops)
    text = "".join(map(matcher.push, pieces))
    return text + matcher.finish(), matcher.stopped


def first_match(stops: list[str], text: str) -> tuple[str, str | None]:
    """The law, by trying everything: the end decides, then the start."""
    for end in range(1, len(text) + 1):
        for start in range(end):
            if text[start:end] in stops:
                return text[:start], text[start:end]
    return text, None


@pytest.mark.parametrize(
    ("stops", "text", "expected"),
    [
        ([], "all of it", ("all of it", None)),
        (["END"], "no stop", ("no stop", None)),
        (["END"], "textENDmore", ("text", "END")),
        (["END"], "END", ("", "END")),
        (["END"], "text EN", ("text EN", None)),
        (["END"], "EENDEND", ("E", "END")),
        (["aab"], "aaab", ("a", "aab")),
        (["abac"], "ababac", ("ab", "abac")),
        (["\n\n", "\n"], "a\n\nb", ("a", "\n")),
        (["bc", "abcd"], "abcd", ("a", "bc")),
        (["bc", "abc", "c"], "xabc", ("x", "abc")),
        (["c", "abc"], "xabc", ("x", "abc")),
        (["é", "🙂"], "ok🙂", ("ok", "🙂")),
        (["e\u0301"], "\u00e9e", ("\u00e9e", None)),
        (["x", "x"], "axb", ("a", "x")),
    ],
)
def test_the_match_that_ends_first_counts_and_of_those_the_longest(
    stops: list[str], text: str, expected: tuple[str, str | None]
) -> None:
    assert run(stops, [text]) == expected
    assert run(stops, list(text)) == expected


@given(stop_lists, texts, st.data())
@settings(deadline=None, max_examples=300)
def test_any_cut_of_the_text_ends_it_before_the_first_match(
    stops: list[str], text: str, data: st.DataObject
) -> None:
    assert run(stops, data.draw(chunkings(text))) == first_match(stops, text)


@given(stop_lists, texts, st.data())
@settings(deadline=None, max_examples=300)
def test_exactly_the_longest_end_that_begins_a_stop_sequence_is_held_back(
    stops: list[str], text: str, data: st.DataObject
) -> None:
    matcher = StopMatcher(stops)
    read, sent = "", ""
    for piece in data.draw(chunkings(text)):
        read += piece
        sent += matcher.push(piece)
        if matcher.stopped is not None:
            break
        begins = [stop[:length] for stop in stops for length in range(len(stop))]
        held = max((begin for begin in begins if read.endswith(begin)), key=len, default="")
        assert sent + held == read
        assert matcher.held == len(held)


def test_what_is_held_back_leaves_when_it_cannot_match_any_more() -> None:
    matcher = StopMatcher(["<stop>"])
    assert [matcher.push(piece) for piece in ("a<", "st", "o", "o<", "b", "<s")] == [
        "a",
        "",
        "",
        "<stoo",
        "<b",
        "",
    ]
    assert matcher.finish() == "<s"


def test_text_after_a_match_is_ignored() -> None:
    matcher = StopMatcher(["|"])
    assert [matcher.push(piece) for piece in ("a|b", "c", "|", "")] == ["a", "", "", ""]
    assert (matcher.stopped, matcher.finish()) == ("|", "")


def test_a_sequence_costs_nothing_before_a_text_follows_it() -> None:
    matcher = StopMatcher(["ab" * 1_000_000])
    assert matcher.push("aba") == ""
    assert len(matcher._candidates[0]._borders) == 3
    assert matcher.finish() == "aba"


class Counted(str):
    """Text whose characters count how often they are compared."""

    __slots__ = ()
    comparisons = 0

    def __iter__(self) -> Iterator[str]:
        return map(Counted, super().__iter__())

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        return Counted(super().__getitem__(key))

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        Counted.comparisons += 1
        return super().__ne__(other)

    __hash__ = str.__hash__


@pytest.mark.parametrize("size", [1, 100, 5000])
@pytest.mark.parametrize("stop", ["a" * 2000 + "b", "ab" * 1000 + "c", ("a" * 50 + "b") * 20, "ab"])
def test_time_is_linear_in_the_text(stop: str, size: int) -> None:
    text = Counted((stop[:-1] * 5000)[:5000])
    matcher = StopMatcher([Counted(stop), Counted("a" * 500 + "c")])
    Counted.comparisons = 0
    for start in range(0, len(text), size):
        matcher.push(text[start : start + size])
    assert 0 < Counted.comparisons <= 2 * 6 * len(text)


@pytest.mark.parametrize(
    ("stops", "message"),
    [
        (["a", ""], "stops[1]: expected a string that is not empty, got ''"),
        ("ab", "stops: expected a sequence of strings, got the string 'ab'"),
    ],
)
def test_stop_sequences_are_checked(stops: list[str], message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        StopMatcher(stops)
    assert str(caught.value) == message


def test_nothing_follows_finish() -> None:
    matcher = StopMatcher(["a"])
    matcher.finish()
    with pytest.raises(LocalProtocolError, match=r"^expected no call after finish$"):
        matcher.push("")
    with pytest.raises(LocalProtocolError, match=r"^expected no call after finish$"):
        matcher.finish()
