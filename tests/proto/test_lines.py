"""LineBuffer: three line endings, any chunking, one limit, linear time."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.lines import LineBuffer
from foundry_proto.sentinels import NEED_DATA, NeedData
from tests.support.chunking import Decoded, byte_by_byte, chunkings, decode, in_pieces, whole
from tests.support.searched import Searched

Cut = Callable[[bytes], list[bytes]]

texts = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"bcd", b"\xff\0"]), max_size=30).map(b"".join)


class Lines:
    """A LineBuffer in the shape of the decoders; its last event is the unterminated rest."""

    def __init__(self, max_line_size: int) -> None:
        self.buffer = LineBuffer(max_line_size=max_line_size)
        self.receive_data = self.buffer.receive_data
        self.receive_eof = self.buffer.receive_eof

    def next_event(self) -> bytes | NeedData | None:
        line = self.buffer.next_line()
        if line is NEED_DATA:
            return NEED_DATA
        if line is None:
            return bytes(self.buffer.take_rest()) or None
        return bytes(line)


def lines(pieces: list[bytes], max_line_size: int = 1000) -> Decoded[bytes]:
    return decode(Lines(max_line_size), pieces)


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\rb\r", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"\n\r\r\n\n", [b"", b"", b"", b""]),
        (b"a\n\rb", [b"a", b"", b"b"]),
        (b"a\r\r\nb\n", [b"a", b"", b"b"]),
        (b"no ending", [b"no ending"]),
        ("a\u2028b\x0bc\x85d".encode(), ["a\u2028b\x0bc\x85d".encode()]),
    ],
)
def test_a_line_ends_with_lf_cr_or_crlf_and_nothing_else(
    cut: Cut, data: bytes, expected: list[bytes]
) -> None:
    assert lines(cut(data)) == Decoded(expected)


def test_a_cr_ends_its_line_before_the_next_piece_is_there() -> None:
    buffer = LineBuffer(max_line_size=10)
    buffer.receive_data(b"a\r")
    assert buffer.next_line() == b"a"
    buffer.receive_data(b"")
    buffer.receive_data(b"\nb\n")
    assert buffer.next_line() == b"b"
    assert buffer.next_line() is NEED_DATA


@given(st.data(), texts)
@settings(deadline=None)
def test_any_chunking_gives_the_same_lines(data: st.DataObject, text: bytes) -> None:
    expected = re.split(rb"\r\n|\r|\n", text)
    if not expected[-1]:
        expected.pop()
    assert lines(data.draw(chunkings(text))) == Decoded(expected)


@given(st.data(), texts)
@settings(deadline=None)
def test_any_chunking_breaks_the_limit_at_the_same_line(data: st.DataObject, text: bytes) -> None:
    assert lines(data.draw(chunkings(text)), 3) == lines([text], 3)


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n", b""])
def test_the_limit_counts_a_line_without_its_ending(cut: Cut, ending: bytes) -> None:
    assert lines(cut(b"ok\n1234" + ending), 4) == Decoded([b"ok", b"1234"])
    too_long = Decoded([b"ok"], "line: expected at most 4 bytes, got more")
    assert lines(cut(b"ok\n12345" + ending), 4) == too_long


@given(st.data(), st.binary(max_size=60))
@settings(deadline=None)
def test_what_is_kept_between_pieces_never_exceeds_the_limit(data: st.DataObject, text: bytes) -> None:
    decoder = Lines(8)
    for piece in data.draw(chunkings(text)):
        if decode(decoder, [piece], eof=False).error is not None:
            return
        assert len(decoder.buffer._buffer) - decoder.buffer._start <= 8


@given(texts, texts, st.integers(0, 5))
@example(b"a\nb\rc\n", b"d", 1)
@example(b"\n", b"\n", 0)
@example(b"\r", b"\r", 0)
@settings(deadline=None)
def test_lines_may_be_taken_late(first: bytes, second: bytes, taken: int) -> None:
    decoder = Lines(1000)
    decoder.receive_data(first)
    early = [line for _ in range(taken) if isinstance(line := decoder.next_event(), bytes)]
    assert [*early, *decode(decoder, [second]).events] == lines([first + second]).events


def test_taken_lines_do_not_stay_in_memory() -> None:
    buffer = LineBuffer(max_line_size=10)
    for _ in range(100):
        buffer.receive_data(b"0123456789\n")
        assert buffer.next_line() == b"0123456789"
        assert len(buffer._buffer) <= 11


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize(
    "text",
    [
        b"x" * 20000 + b"\n",
        b"x\n" * 10000,
        b"x\r" * 10000,
        b"x\r\n" * 7000,
        b"x\n" * 10000 + b"\r",
        b"x\r" * 10000 + b"\n",
        b"\n" * 20000,
    ],
)
def test_each_byte_is_searched_once_for_each_ending(text: bytes, size: int) -> None:
    decoder = Lines(100_000)
    spy = decoder.buffer._buffer = Searched()
    decode(decoder, in_pieces(text, size))
    assert spy.searched <= 2 * len(text)
    # All at once, so that nothing is taken before everything is there.
    decoder = Lines(100_000)
    spy = decoder.buffer._buffer = Searched()
    for piece in in_pieces(text, size):
        decoder.receive_data(piece)
    decode(decoder, [])
    assert spy.searched <= 2 * len(text)


def test_data_after_the_end_is_refused() -> None:
    buffer = LineBuffer(max_line_size=10)
    buffer.receive_eof()
    buffer.receive_eof()
    with pytest.raises(LocalProtocolError) as caught:
        buffer.receive_data(b"")
    assert str(caught.value) == "receive_data: expected no data after receive_eof"


@pytest.mark.parametrize(("data", "ended"), [(b"rest", False), (b"line\nrest", True)])
def test_the_rest_can_be_taken_only_behind_everything_else(data: bytes, ended: bool) -> None:
    buffer = LineBuffer(max_line_size=10)
    buffer.receive_data(data)
    if ended:
        buffer.receive_eof()
    with pytest.raises(LocalProtocolError) as caught:
        buffer.take_rest()
    assert str(caught.value) == "take_rest: expected the end of the stream and every line taken"


def test_the_rest_is_taken_once() -> None:
    buffer = LineBuffer(max_line_size=10)
    buffer.receive_data(b"rest")
    buffer.receive_eof()
    assert (buffer.next_line(), buffer.take_rest(), buffer.take_rest()) == (None, b"rest", b"")


@pytest.mark.parametrize(
    ("data", "expected", "left"),
    [
        (b"> a\n\n> b\n\n", b"a", b"> b"),
        (b"> \n\n", b"", NEED_DATA),
        (b"> a\nb\n\n", None, b"> a"),
        (b"a\n\n", None, b"a"),
        (b"> a\r\n\r\n", None, b"> a"),
        (b"> a\n\n> b\r", None, b"> a"),
        (b"> a", NEED_DATA, NEED_DATA),
        (b"> a\n", NEED_DATA, b"> a"),
        (b"> a\r", None, b"> a"),
        (b"\n> a\n\n", None, b""),
        (b"\r", None, b""),
        (b"", NEED_DATA, NEED_DATA),
    ],
)
def test_a_lone_line_is_taken_with_its_blank_line_or_not_at_all(
    data: bytes, expected: bytes | NeedData | None, left: bytes | NeedData
) -> None:
    buffer = LineBuffer(max_line_size=10)
    buffer.receive_data(data)
    assert buffer.next_lone_line(b"> ") == expected
    assert buffer.next_line() == left


@pytest.mark.parametrize("data", [b"> 12345\n\n", b"> 12345"])
def test_a_lone_line_over_the_limit_is_left_to_next_line(data: bytes) -> None:
    buffer = LineBuffer(max_line_size=6)
    buffer.receive_data(data)
    assert buffer.next_lone_line(b"> ") is None
    with pytest.raises(RemoteProtocolError, match=r"^line: expected at most 6 bytes, got more$"):
        buffer.next_line()


def test_no_lone_line_is_awaited_after_the_end() -> None:
    buffer = LineBuffer(max_line_size=10)
    buffer.receive_data(b"> a\n")
    buffer.receive_eof()
    assert buffer.next_lone_line(b"> ") is None
