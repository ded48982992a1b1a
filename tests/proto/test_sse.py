"""Server-sent events: each rule of the standard by name, any chunking, any bytes, limits, the encoders."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.errors import LocalProtocolError
from foundry_proto.sentinels import NEED_DATA
from foundry_proto.sse import ServerSentEvent, SSEDecoder, encode_data, encode_event
from tests.support.chunking import Decoded, byte_by_byte, chunkings, decode, in_pieces, whole
from tests.support.searched import Searched

Cut = Callable[[bytes], list[bytes]]
E = ServerSentEvent


def events(pieces: list[bytes], max_event_size: int = 1000) -> Decoded[ServerSentEvent]:
    return decode(SSEDecoder(max_event_size=max_event_size), pieces)


# The examples of the standard's section 9.2.6, and a transcript for each rule of 9.2.5 and 9.2.6.
RULES = {
    "several data lines are joined by LF": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [E("YHOO\n+2\n10")]),
    "comments, ids and a lone space after the colon": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [E("first event", id="1"), E("second event"), E(" third event")],
    ),
    "an empty data line is data, and an unfinished event is none": (
        b"data\n\ndata\ndata\n\ndata:",
        [E(""), E("\n")],
    ),
    "one blank after the colon is dropped": (b"data:test\n\ndata: test\n\n", [E("test"), E("test")]),
    "only a blank is dropped": (b"data:\ttest\n\n", [E("\ttest")]),
    "lines end with CR": (b"data: a\rdata: b\r\rdata: c\r\r", [E("a\nb"), E("c")]),
    "lines end with CRLF": (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [E("a\nb"), E("c")]),
    "line endings may be mixed": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\n\r", [E("a"), E("b"), E("c")]),
    "no other character ends a line": (
        "data: a\u2028b\x85c\x0bd\n\n".encode(),
        [E("a\u2028b\x85c\x0bd")],
    ),
    "one BOM at the start is stripped": (b"\xef\xbb\xbfdata: a\n\n", [E("a")]),
    "a second BOM belongs to the field's name": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [E("b")]),
    "a BOM elsewhere belongs to the field's name": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [E("a")]),
    "a BOM may stand before a comment": (b"\xef\xbb\xbf:\ndata: a\n\n", [E("a")]),
    "a stream of a BOM alone is empty": (b"\xef\xbb\xbf\n\xef\xbb\xbf\n\n", []),
    "a line that begins with a colon is a comment": (b":data: a\n: \n:\ndata: b\n\n", [E("b")]),
    "a block of comments is no event": (b": keep-alive\n\n: keep-alive\n\n", []),
    "unknown fields are ignored": (b"date: a\nData: b\n data: c\ndata : d\n\n", []),
    "a line without a colon is a field with an empty value": (b"data\nevent\nid\nretry\n\n", [E("")]),
    "only the first colon separates": (b"data: a: b:c\n\n", [E("a: b:c")]),
    "event names the type": (b"event: add\ndata: 1\n\n", [E("1", event="add")]),
    "the last event field counts": (b"event: a\nevent: b\ndata: 1\n\n", [E("1", event="b")]),
    "an empty type means message": (b"event: a\nevent:\ndata: 1\n\n", [E("1")]),
    "the type ends with its block": (b"event: add\ndata: 1\n\ndata: 2\n\n", [E("1", event="add"), E("2")]),
    "a block without data is no event, and its type is forgotten": (b"event: add\n\ndata: 2\n\n", [E("2")]),
    "an id holds for the events that follow": (
        b"id: 7\ndata: a\n\ndata: b\n\nid: 8\n\ndata: c\n\n",
        [E("a", id="7"), E("b", id="7"), E("c", id="8")],
    ),
    "an empty id resets it": (b"id: 7\ndata: a\n\nid:\ndata: b\n\n", [E("a", id="7"), E("b")]),
    "an id with NUL is ignored": (b"id: 7\nid: 8\0\ndata: a\n\n", [E("a", id="7")]),
    "NUL elsewhere is a character": (b"data: \0\n\n", [E("\0")]),
    "retry of ASCII digits is a time": (b"retry: 0150\ndata: a\n\ndata: b\n\n", [E("a", retry=150), E("b")]),
    "retry of anything else is ignored": (
        "retry: 1\nretry: -2\nretry: 3.0\nretry:  4\nretry: 5 \nretry:\nretry: ٣\nretry: 0x1\n".encode()
        + b"data: a\n\n",
        [E("a", retry=1)],
    ),
    "retry beyond any clock is ignored": (b"retry: 1000000000000000\ndata: a\n\n", [E("a")]),
    "retry just within the bound counts": (
        b"retry: 999999999999999\ndata: a\n\n",
        [E("a", retry=999_999_999_999_999)],
    ),
    "blank lines dispatch nothing by themselves": (b"\n\n\ndata: a\n\n\n\n", [E("a")]),
    "an event without its blank line is discarded at the end": (b"data: a\n\ndata: b\n", [E("a")]),
    "an unterminated blank line is none": (b"data: a\n\ndata: b", [E("a")]),
    "invalid UTF-8 becomes U+FFFD": (b"data: a\xffb\xe2\x82\n\nevent: \xff\nid: \xff\ndata:\n\n", [
        E("a\ufffdb\ufffd"),
        E("", event="\ufffd", id="\ufffd"),
    ]),
    "an incomplete character does not swallow the line ending": (b"data: \xe2\x82\ndata: \xf0\r\r", [
        E("\ufffd\n\ufffd")
    ]),
}  # fmt: skip


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize(("data", "expected"), RULES.values(), ids=RULES.keys())
def test_each_rule_of_the_standard(cut: Cut, data: bytes, expected: list[ServerSentEvent]) -> None:
    assert events(cut(data)) == Decoded(expected)


def interpret(stream: bytes) -> list[ServerSentEvent]:
    """The standard's algorithm for a stream that is there as a whole, written down sentence by sentence."""
    found = []
    data, event, last_id, retry = "", "", "", None
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    for line in re.split("\r\n|\r|\n", text)[:-1]:
        if not line:
            if data:
                found.append(ServerSentEvent(data.removesuffix("\n"), event or "message", last_id, retry))
            data, event, retry = "", "", None
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data += value + "\n"
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "retry" and re.fullmatch("[0-9]{1,15}", value):
            retry = int(value)
    return found


FRAGMENTS = [
    b"data: ", b"data:", b"data", b"event: ", b"id: ", b"id", b"retry: ", b":", b" ", b"\n", b"\n\n", b"\r",
    b"\r\n", b"\xef\xbb\xbf", b"\xff", b"\xe2\x82", b"\0", b"x", b"12", b"data: {}\n\n",
]  # fmt: skip
streams = st.one_of(
    st.binary(max_size=60), st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(b"".join)
)  # fmt: skip


@given(st.data(), streams)
@settings(deadline=None, max_examples=300)
def test_any_chunking_of_any_bytes_gives_the_events_of_the_standard(
    data: st.DataObject, stream: bytes
) -> None:
    assert events(data.draw(chunkings(stream))) == Decoded(interpret(stream))


@given(st.data(), streams, st.integers(0, 12))
@settings(deadline=None)
def test_any_chunking_breaks_a_limit_at_the_same_event(
    data: st.DataObject, stream: bytes, limit: int
) -> None:
    assert events(data.draw(chunkings(stream)), limit) == events([stream], limit)


@given(st.data(), streams, st.integers(0, 12))
@settings(deadline=None)
def test_what_is_kept_between_pieces_never_exceeds_the_limits(
    data: st.DataObject, stream: bytes, limit: int
) -> None:
    decoder = SSEDecoder(max_event_size=limit)
    for piece in data.draw(chunkings(stream)):
        if decode(decoder, [piece], eof=False).error is not None:
            return
        assert len(decoder._lines._buffer) - decoder._lines._start <= max(limit, 1)
        assert len(decoder._data) + len(decoder._event) <= limit


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"data: 123456\n\n", None),
        (b"data: 1234567\n\n", "line: expected at most 12 bytes, got more"),
        (b"data: 1234567", "line: expected at most 12 bytes, got more"),
        (b"data:1\ndata:2\n\n", None),
        (b"data:1\ndata:23\n\n", "event: expected at most 12 bytes, got more"),
        (b"data:1\ndata:23\n", "event: expected at most 12 bytes, got more"),
        (b"event:1\nid:345\ndata\n", "event: expected at most 12 bytes, got more"),
        (b": 3456789012\n: 3456789012\nfoo:56789012\ndata: 789012\n\n", None),
        (b": 34567890123\n", "line: expected at most 12 bytes, got more"),
    ],
)
def test_the_limit_counts_the_lines_of_an_event_and_comments_only_as_lines(
    cut: Cut, stream: bytes, error: str | None
) -> None:
    assert events(cut(stream), 12).error == error
    assert events(cut(b"data: ok\n\n" + stream), 12).error == error
    assert events(cut(b"data: ok\n\n" + stream), 12).events[0] == E("ok")


def test_an_event_arrives_as_soon_as_its_blank_line_is_there() -> None:
    for ending in (b"\n", b"\r"):
        decoder = SSEDecoder(max_event_size=100)
        for number in range(3):
            decoder.receive_data(b"data: %d" % number + ending)
            assert decoder.next_event() is NEED_DATA
            decoder.receive_data(ending)
            assert decoder.next_event() == E(str(number))
            assert decoder.next_event() is NEED_DATA


def test_the_common_event_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = SSEDecoder(max_event_size=100)
    decode(decoder, [b"id: 1\n\n"], eof=False)
    monkeypatch.delattr(SSEDecoder, "_interpret")
    assert decode(decoder, byte_by_byte(b"data: a\n\ndata: b\n\n"), eof=False).events == [
        E("a", id="1"),
        E("b", id="1"),
    ]


def test_the_stream_is_over_only_after_its_end() -> None:
    decoder = SSEDecoder(max_event_size=100)
    decoder.receive_data(b"data: a\n\ndata: b\n\n")
    decoder.receive_eof()
    assert [decoder.next_event() for _ in range(4)] == [E("a"), E("b"), None, None]
    with pytest.raises(LocalProtocolError) as caught:
        decoder.receive_data(b"data: c\n\n")
    assert str(caught.value) == "receive_data: expected no data after receive_eof"


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_reconnection_state_outlives_blocks_without_data(cut: Cut) -> None:
    decoder = SSEDecoder(max_event_size=100)
    decode(decoder, cut(b"retry: 20\n\nid: 5\n\nid: 6\ndata: unfinished"))
    assert (decoder.reconnection_time, decoder.last_event_id) == (20, "5")


def test_a_new_decoder_knows_no_reconnection_state() -> None:
    decoder = SSEDecoder(max_event_size=100)
    assert (decoder.reconnection_time, decoder.last_event_id) == (None, "")


@pytest.mark.parametrize("size", [1, 64, 4096])
@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 20000 + b"\n\n",
        b"data: x\n\n" * 2000,
        b"data: x\r\n\r\n" * 2000,
        b"data: x\n" * 2000 + b"\n",
        b": comment\n\n" * 2000 + b"data: x",
        b"data: x\n\n" * 2000 + b"\r",
    ],
)
def test_each_byte_is_searched_once_for_each_line_ending(stream: bytes, size: int) -> None:
    decoder = SSEDecoder(max_event_size=100_000)
    spy = decoder._lines._buffer = Searched()
    decode(decoder, in_pieces(stream, size))
    assert spy.searched <= 2 * len(stream)


def test_an_event_is_frozen() -> None:
    with pytest.raises(AttributeError):
        E("a").data = "b"  # type: ignore[misc]


def test_encode_data_writes_one_line_and_a_blank_one() -> None:
    assert encode_data(b'{"a": 1}') == b'data: {"a": 1}\n\n'


@pytest.mark.parametrize("payload", [b"a\nb", b"a\rb", b"\r\n"])
def test_encode_data_refuses_a_line_ending(payload: bytes) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_data(payload)
    assert str(caught.value) == "payload: expected one line, got a line ending in it"


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (encode_event("hi"), b"data: hi\n\n"),
        (encode_event(""), b"data: \n\n"),
        (encode_event("a\nb\r\nc\rd\n"), b"data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        (
            encode_event(" é", event="add", id="7", retry=150),
            "event: add\nid: 7\nretry: 150\ndata:  é\n\n".encode(),
        ),
        (encode_event("x", event="", id="", retry=0), b"event: \nid: \nretry: 0\ndata: x\n\n"),
    ],
)
def test_encode_event_writes_each_field_on_its_line(encoded: bytes, expected: bytes) -> None:
    assert encoded == expected


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda: encode_event("", event="a\nb"), r"event: expected one line, got 'a\nb'"),
        (lambda: encode_event("", event="a\rb"), r"event: expected one line, got 'a\rb'"),
        (lambda: encode_event("", id="a\nb"), r"id: expected one line, got 'a\nb'"),
        (lambda: encode_event("", id="a\0"), r"id: expected text without NUL, got 'a\x00'"),
        (lambda: encode_event("", retry=-1), "retry: expected milliseconds from 0 to 10**15 - 1, got -1"),
        (
            lambda: encode_event("", retry=10**15),
            "retry: expected milliseconds from 0 to 10**15 - 1, got 1000000000000000",
        ),
        (
            lambda: encode_event("\ud800"),
            "event: expected text that UTF-8 can carry, got a lone surrogate",
        ),
    ],
)
def test_what_the_format_cannot_carry_is_refused(encode: Callable[[], bytes], message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode()
    assert str(caught.value) == message


texts = st.text(st.characters(codec="utf-8"), max_size=20)
names = texts.filter(lambda name: not re.search("[\r\n\0]", name))


@given(
    st.lists(
        st.builds(ServerSentEvent, texts, names.filter(bool), names, st.none() | st.integers(0, 10**15 - 1)),
        max_size=4,
    ),
    st.data(),
)
@settings(deadline=None)
def test_decoding_is_the_inverse_of_encoding(sent: list[ServerSentEvent], data: st.DataObject) -> None:
    stream = b"".join(encode_event(e.data, event=e.event, id=e.id, retry=e.retry) for e in sent)
    # The one thing that the format cannot carry.
    expected = [E(re.sub("\r\n?", "\n", e.data), e.event, e.id, e.retry) for e in sent]
    assert events(data.draw(chunkings(stream))) == Decoded(expected)
