"""TextStream: whole characters from tokens, up to the first stop sequence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.text_stream import TextStream
from foundry_proto.errors import LocalProtocolError
from tests.proto.test_stop import first_match
from tests.support.chunking import chunkings


def run(tokens: list[bytes], stops: list[str]) -> tuple[list[str], str | None]:
    stream = TextStream(tokens, stops)
    pieces = [stream.push(token_id) for token_id in range(len(tokens))]
    return [*pieces, stream.finish()], stream.stopped


@pytest.mark.parametrize(
    ("tokens", "pieces"),
    [
        ([b"Hel", b"lo"], ["Hel", "lo", ""]),
        (["é".encode()[:1], "é".encode()[1:] + b"!"], ["", "é!", ""]),
        ([bytes([byte]) for byte in "🙂".encode()], ["", "", "", "🙂", ""]),
        ([b"a", b"", b"b"], ["a", "", "b", ""]),
        ([b"a\xe2\x82"], ["a", "\ufffd"]),
        ([b"\xe2\x82", b"a"], ["", "\ufffda", ""]),
        ([b"\xff", b"\x80"], ["\ufffd", "\ufffd", ""]),
        ([b"\xf0\x9f", b"\xf0\x9f\x99\x82"], ["", "\ufffd🙂", ""]),
        ([b"\xef\xbb\xbfa", b"\0"], ["\ufeffa", "\0", ""]),
        ([], [""]),
    ],
)
def test_only_whole_characters_leave(tokens: list[bytes], pieces: list[str]) -> None:
    assert run(tokens, []) == (pieces, None)


@pytest.mark.parametrize(
    ("tokens", "stops", "pieces", "stopped"),
    [
        ([b"one", b" ST", b"OP two"], ["STOP"], ["one", " ", "", ""], "STOP"),
        ([b"one", b" ST", b"AY"], ["STOP"], ["one", " ", "STAY", ""], None),
        ([b"one", b" ST"], ["STOP"], ["one", " ", "ST"], None),
        ([b"a\xf0\x9f", b"\x99\x82b"], ["🙂"], ["a", "", ""], "🙂"),
        ([b"aST", b"\xe2"], ["STOP"], ["a", "", "ST\ufffd"], None),
        ([b"aST", b"\xe2"], ["T\ufffd"], ["aS", "", ""], "T\ufffd"),
        ([b"a.", b"b", b"\xe2"], [".", "b"], ["a", "", "", ""], "."),
    ],
)
def test_no_part_of_a_stop_sequence_leaves(
    tokens: list[bytes], stops: list[str], pieces: list[str], stopped: str | None
) -> None:
    assert run(tokens, stops) == (pieces, stopped)


@given(
    st.lists(st.sampled_from([b"a", b"b", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x99\x82", b"\xed\xa0"])),
    st.lists(st.text("abé🙂\ufffd", min_size=1, max_size=3), max_size=4),
    st.data(),
)  # fmt: skip
@settings(deadline=None)
def test_any_tokens_of_the_same_bytes_give_the_same_text(
    parts: list[bytes], stops: list[str], data: st.DataObject
) -> None:
    joined = b"".join(parts)
    pieces, stopped = run(data.draw(chunkings(joined)), stops)
    assert ("".join(pieces), stopped) == first_match(stops, joined.decode("utf-8", "replace"))


def test_an_incomplete_character_is_not_counted_as_held() -> None:
    stream = TextStream([b"aST", b"\xe2", b"\x82\xac"], ["ST\u20ac!"])
    assert [(stream.push(token), stream.held) for token in range(3)] == [("a", 2), ("", 2), ("", 3)]


def test_one_table_serves_many_streams_and_may_be_a_mapping() -> None:
    table = {7: b"a", 70_000: b"b", 9: b""}
    first, second = TextStream(table), TextStream(table, ("b",))
    assert [first.push(7), first.push(70_000), first.push(9), first.finish()] == ["a", "b", "", ""]
    assert [second.push(7), second.push(70_000), second.finish(), second.stopped] == ["a", "", "", "b"]


@pytest.mark.parametrize("token_id", [-1, 2, 1_000_000])
def test_an_id_beyond_the_table_is_refused(token_id: int) -> None:
    for table in ([b"a", b"b"], {0: b"a", 1: b"b"}):
        stream = TextStream(table)
        with pytest.raises(LocalProtocolError) as caught:
            stream.push(token_id)
        assert str(caught.value) == f"token id: expected one of the byte table, got {token_id}"
        assert stream.push(1) == "b"


def test_nothing_follows_finish() -> None:
    stream = TextStream([b"a"])
    stream.finish()
    with pytest.raises(LocalProtocolError, match=r"^expected no call after finish$"):
        stream.push(0)
    with pytest.raises(LocalProtocolError, match=r"^expected no call after finish$"):
        stream.finish()


def test_stop_sequences_are_checked() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        TextStream([], [""])
    assert str(caught.value) == "stops[0]: expected a string that is not empty, got ''"


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([b" Hello", b" you"], "Hello you"),
        ([b"", b"  a"], " a"),
        ([b"a", b" b"], "a b"),
        ([b" "], ""),
        ([], ""),
    ],
)
def test_only_a_blank_at_the_very_start_is_dropped(tokens: list[bytes], expected: str) -> None:
    stream = TextStream(tokens, drop_first_blank=True)
    assert "".join(map(stream.push, range(len(tokens)))) + stream.finish() == expected
