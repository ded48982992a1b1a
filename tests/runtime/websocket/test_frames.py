"""Laws of framing: whole texts from any cut of any frames, and what each breach of the rules is told."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.conversation import Called, Refused, ServerConversation
from foundry_proto.events import Head, Response
from foundry_proto.operations import ALL, WATCH
from foundry_proto.sentinels import NEED_DATA
from foundry_runtime.websocket.frames import Closed, Frames, Reply, Text
from tests.support.chunking import byte_by_byte, chunkings, whole
from tests.support.masking import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

LIMIT = 1000


def read(pieces: Iterable[bytes], *, eof: bool = False, limit: int = LIMIT) -> list[object]:
    """All events of a server's side that is given these bytes."""
    frames = Frames(limit=limit)
    events: list[object] = []

    def take() -> None:
        while (event := frames.next_event()) is not NEED_DATA:
            events.append(event)

    for piece in pieces:
        frames.receive_data(piece)
        take()
    if eof:
        frames.receive_eof()
        take()
    return events


def closing(code: int, reason: str) -> bytes:
    payload = struct.pack("!H", code) + reason.encode()[:123]
    return bytes([0x88, len(payload)]) + payload


def test_a_text_comes_whole_however_it_is_fragmented() -> None:
    text = "grün ☕".encode()
    data = frame(TEXT, text)
    data += frame(TEXT, text[:3], fin=False) + frame(CONTINUATION, text[3:7], fin=False)
    data += frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, text[7:])
    data += frame(TEXT)
    assert read([data]) == [Text(data=text), Text(data=text), Text(data=b"")]
    assert read(byte_by_byte(data)) == read([data])


def test_a_ping_is_answered_even_between_fragments() -> None:
    data = frame(TEXT, b"a", fin=False) + frame(PING, b"you?") + frame(PONG) + frame(CONTINUATION, b"b")
    assert read([data]) == [Reply(data=b"\x8a\x04you?"), Text(data=b"ab")]


@pytest.mark.parametrize(
    ("payload", "code", "reason", "owed"),
    [
        (b"", 1005, "", b"\x88\x00"),
        (struct.pack("!H", 1000) + b"bye", 1000, "bye", closing(1000, "bye")),
        (struct.pack("!H", 4321), 4321, "", closing(4321, "")),
    ],
)
def test_a_close_is_echoed_and_ends_it(payload: bytes, code: int, reason: str, owed: bytes) -> None:
    data = frame(CLOSE, payload) + frame(TEXT, b"more")
    assert read([data]) == [Closed(code=code, reason=reason, data=owed, clean=True)]
    assert read(byte_by_byte(data), eof=True) == read([data])


def test_an_end_without_a_word_is_told_behind_what_came() -> None:
    assert read([frame(TEXT, b"a") + b"\x81"], eof=True) == [Text(data=b"a"), Closed(code=1006, reason="")]
    frames = Frames(limit=LIMIT)
    frames.receive_data(frame(TEXT, b"a"))
    frames.receive_eof()
    assert frames.next_event() == Text(data=b"a")
    assert frames.next_event() == Closed(code=1006, reason="")
    assert frames.next_event() is NEED_DATA


BROKEN = {
    "unmasked": (frame(TEXT, b"a", masked=False), 1002),
    "unknown opcode": (frame(0x3), 1002),
    "unknown control opcode": (frame(0xB), 1002),
    "reserved bit": (frame(TEXT, b"a", rsv=4), 1002),
    "fragmented ping": (frame(PING, fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "nothing to continue": (frame(CONTINUATION, b"a"), 1002),
    "text within a text": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "length in too many bytes": (b"\x81\xfe\x00\x01", 1002),
    "length with the highest bit": (b"\x81\xff\x80" + b"\x00" * 7, 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "close with a code that is never sent": (frame(CLOSE, struct.pack("!H", 1006)), 1002),
    "close with a code that is none": (frame(CLOSE, struct.pack("!H", 999)), 1002),
    "close with a reason that is no UTF-8": (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
    "no UTF-8": (frame(TEXT, b"\xff"), 1007),
    "no UTF-8, behind some that is": (frame(TEXT, b"abc\xff"), 1007),
    "half a character": (frame(TEXT, b"\xe2\x98"), 1007),
    "half a character, continued wrongly": (
        frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"a"),
        1007,
    ),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "binary": (frame(BINARY, b"a"), 1003),
    "too large at once": (frame(TEXT, b"x" * (LIMIT + 1)), 1009),
    "too large in pieces": (
        frame(TEXT, b"x" * LIMIT, fin=False) + frame(CONTINUATION, b"x", fin=False),
        1009,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_breach_of_the_rules_has_its_code(name: str) -> None:
    data, code = BROKEN[name]
    events = read([frame(TEXT, b"before") + data + frame(TEXT, b"behind")])
    assert events[0] == Text(data=b"before")
    (closed,) = events[1:]
    assert isinstance(closed, Closed)
    assert (closed.code, closed.data) == (code, closing(code, closed.reason))
    assert closed.reason != ""
    assert read(byte_by_byte(frame(TEXT, b"before") + data)) == events


def test_the_limit_is_told_in_words() -> None:
    (closed,) = read([frame(TEXT, b"x" * 1001)])
    assert isinstance(closed, Closed)
    assert closed.reason == "expected a message of at most 1000 bytes, got more"
    assert read([frame(TEXT, b"x" * LIMIT)]) == [Text(data=b"x" * LIMIT)]


def test_nothing_is_held_of_empty_fragments() -> None:
    frames = Frames(limit=LIMIT)
    frames.receive_data(frame(TEXT, fin=False))
    for _ in range(1000):
        frames.receive_data(frame(CONTINUATION, fin=False))
        assert frames.next_event() is NEED_DATA
    frames.receive_data(frame(CONTINUATION, b"a"))
    assert frames.next_event() == Text(data=b"a")


def test_who_has_said_good_bye_says_nothing_more_but_listens() -> None:
    frames = Frames(limit=LIMIT)
    assert frames.text(b"a") == b"\x81\x01a"
    assert frames.ping() == b"\x89\x00"
    assert frames.close(1001, "gone") == closing(1001, "gone")
    assert (frames.text(b"a"), frames.ping(), frames.close(1000)) == (b"", b"", b"")
    frames.receive_data(frame(TEXT, b"b") + frame(PING) + frame(CLOSE, struct.pack("!H", 1001)))
    assert frames.next_event() == Text(data=b"b")
    assert frames.next_event() == Closed(code=1001, reason="", clean=True)


def test_a_breach_behind_a_good_bye_ends_it_without_another_word() -> None:
    frames = Frames(limit=LIMIT)
    frames.close(1000)
    frames.receive_data(frame(TEXT, b"\xff"))
    closed = frames.next_event()
    assert isinstance(closed, Closed)
    assert (closed.code, closed.data) == (1007, b"")


def test_a_reason_that_is_long_is_cut_between_characters() -> None:
    assert Frames(limit=LIMIT).close(1000, "ä" * 100) == closing(1000, "ä" * 61)


# Any cut, any bytes.

PIECES = st.lists(
    st.one_of(
        st.builds(
            frame,
            st.sampled_from([TEXT, CONTINUATION, PING, PONG]),
            st.sampled_from([b"", b"a", "☕".encode(), b"\xe2", b"x" * 200]),
            fin=st.booleans(),
        ),
        st.sampled_from([data for data, _ in BROKEN.values()]),
        st.just(frame(CLOSE, struct.pack("!H", 1000))),
        st.binary(max_size=8),
    ),
    max_size=6,
).map(b"".join)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_chunking_of_any_bytes_gives_the_same_events(data: st.DataObject) -> None:
    stream = data.draw(PIECES)
    assert read(data.draw(chunkings(stream)), eof=True) == read(whole(stream), eof=True)


# Framing and messages together.

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Grüße ☕"}]}
TEXTS = [
    json.dumps(said, ensure_ascii=False).encode()
    for said in (
        {"type": "watch", "topics": ["models"], "progressTokens": [{"a": "ö"}]},
        {"type": "chat", "id": "ä", "body": CHAT},
        {"type": "chat", "id": "ä", "body": CHAT},
        {"type": "chat", "id": "b", "body": {**CHAT, "temperature": 9}},
        {"type": "cancel", "id": "ä"},
        {"type": "nonsense"},
    )
]


def conversed(pieces: Iterable[bytes]) -> tuple[list[object], bytes]:
    """What a server does about these bytes, and what it sends at once."""
    talk = ServerConversation(ALL, head=Head(operation=WATCH, method="GET", query=None))
    frames = Frames(limit=LIMIT)
    done: list[object] = []
    sent = b""
    for event in read(pieces):
        if not isinstance(event, Text):
            done.append(event)
            continue
        meant = talk.receive(event.data)
        done.append(meant)
        if isinstance(meant, Refused):
            sent += frames.text(meant.data)
        if isinstance(meant, Called):
            sent += b"".join(map(frames.text, talk.send(meant.id, Response(value=b"{}"))))
    return done, sent


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """The texts as frames, in fragments, with pings between them."""
    stream = b""
    for text in TEXTS:
        pieces = draw(chunkings(text))
        for place, piece in enumerate(pieces):
            stream += frame(CONTINUATION if place else TEXT, piece, fin=place == len(pieces) - 1)
            stream += frame(PING, b"?") * draw(st.integers(0, 1))
    return stream


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_chunking_and_any_fragments_mean_the_same(data: st.DataObject) -> None:
    stream = data.draw(fragmented())
    done, sent = conversed(data.draw(chunkings(stream)))
    at_once, sent_at_once = conversed(frame(TEXT, text) for text in TEXTS)
    assert [one for one in done if not isinstance(one, Reply)] == at_once
    assert sent == sent_at_once
    assert conversed(byte_by_byte(stream)) == conversed([stream])
