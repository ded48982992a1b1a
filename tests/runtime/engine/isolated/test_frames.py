"""Messages between processes: written and read they are the same, and nothing else is taken for one."""

from __future__ import annotations

import io
import math
import struct
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_runtime.engine import _messages as messages
from foundry_runtime.engine._frames import FrameError, read_message, write_message
from foundry_runtime.engine._messages import Message


def written(message: Message) -> bytes:
    out = io.BytesIO()
    write_message(out, message)
    return out.getvalue()


def read(data: bytes) -> Message | None:
    return read_message(io.BytesIO(data))


integers = st.integers(-(2**63), 2**63 - 1)
likely = st.builds(
    messages.Likely,
    st.floats(allow_nan=False),
    st.lists(integers).map(tuple),
    st.lists(st.floats(allow_nan=False)).map(tuple),
)
texts = st.text()
floats = st.floats(allow_nan=False)
troubles = st.builds(messages.Trouble, texts, texts, st.none() | texts, st.none() | texts, st.none() | floats)
events = st.one_of(
    st.builds(messages.Begun, integers, integers),
    st.builds(messages.Said, integers, integers, st.none() | likely),
    st.builds(messages.Ended, integers, texts, st.none() | troubles),
)
said = st.one_of(
    st.builds(messages.Hello, integers, texts, texts, integers, integers, texts),
    st.builds(messages.Ready, integers, integers),
    troubles,
    st.builds(
        messages.Admit,
        integers,
        st.none() | integers,
        st.lists(integers).map(tuple),
        integers,
        st.booleans(),
        st.none() | integers,
        floats,
        floats,
        integers,
        floats,
        floats,
        floats,
        floats,
        st.lists(integers).map(tuple),
        st.lists(floats).map(tuple),
        st.none() | texts,
    ),
    st.builds(messages.Events, integers, integers, integers, st.lists(events).map(tuple)),
    st.builds(messages.Mask, st.binary()),
    st.builds(messages.LogLine, integers, texts, texts),
    st.builds(messages.Constrain, integers, integers),
    st.builds(messages.Accepted, integers, integers),
    st.builds(messages.Cast, st.booleans()),
    st.builds(messages.Begin, integers),
    st.builds(messages.Cancel, integers),
    st.sampled_from([messages.Step(), messages.Close(), messages.Admitted()]),
)


@given(said)
def test_what_was_written_is_read(message: Message) -> None:
    plain = repr(message).encode(errors="replace").decode()  # lone surrogates leave as question marks
    assert repr(read(written(message))) == plain


def test_every_kind_of_message_is_drawn_above() -> None:
    drawn = {type(one) for one in _examples()}
    assert drawn == set(typing.get_args(Message))


def _examples() -> list[Message]:
    return [
        messages.Hello(1, "", "", 0, 0, ""),
        messages.Ready(1, 2),
        messages.Trouble("", ""),
        messages.Admit(1, None, (), 1, False, None, 1.0, 1.0, 0, 0.0, 1.0, 0.0, 0.0, (), (), None),
        messages.Admitted(),
        messages.Cancel(1),
        messages.Step(),
        messages.Events(1, 2, 3, (messages.Begun(1, 2), messages.Said(1, 2), messages.Ended(1, "stop"))),
        messages.Begin(1),
        messages.Constrain(1, 2),
        messages.Accepted(1, 2),
        messages.Cast(True),
        messages.Mask(b""),
        messages.LogLine(1, "", ""),
        messages.Close(),
    ]


def test_a_number_that_json_has_no_word_for_is_carried() -> None:
    admit = messages.Admit(
        1, None, (), 1, False, None, math.nan, math.inf, 0, 0, 1, 0, 0, (), (), str(2**200)
    )
    found = read(written(admit))
    assert isinstance(found, messages.Admit)
    assert math.isnan(found.temperature)
    assert found.top_p == math.inf
    assert found.seed == str(2**200)


def test_a_token_takes_eighteen_bytes() -> None:
    one, two = (messages.Events(1, 2, 3, (messages.Said(1, 2),) * count) for count in (1, 2))
    assert len(written(two)) - len(written(one)) == 18


@given(said, st.data())
def test_a_cut_frame_is_the_end(message: Message, data: st.DataObject) -> None:
    whole = written(message)
    assert read(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    try:
        read(data)
    except FrameError:
        pass


@given(said, st.data())
def test_a_spoiled_frame_is_a_message_or_an_error(message: Message, data: st.DataObject) -> None:
    spoiled = bytearray(written(message))
    at = data.draw(st.integers(4, len(spoiled) - 1))
    spoiled[at] = data.draw(st.integers(0, 255))
    try:
        read(bytes(spoiled))
    except FrameError:
        pass


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (struct.pack("<IB", 2**31, 0), "expected a frame of at most 268435456 bytes, got one of 2147483648"),
        (struct.pack("<IB", 0, 200), "expected a message's kind below 15, got 200"),
        (struct.pack("<IB", 0, 5), "expected 8 more bytes in a frame, got 0"),
        (struct.pack("<IBq", 9, 5, 1) + b"x", "expected the end of Cancel, got 1 bytes"),
        (struct.pack("<IBI", 4 + 1, 12, 1) + b"", None),
        (struct.pack("<IBqqqIB", 29, 7, 1, 1, 1, 1, 9), "expected a kind below 3, got 9"),
        (struct.pack("<IBqI", 13, 13, 1, 1) + b"\xff", "a text is no UTF-8: "),
        (
            struct.pack("<IBq?I", 16, 3, 1, False, 3) + b"abc",
            "expected whole numbers of 8 bytes, got 3 bytes",
        ),
    ],
)
def test_what_is_wrong_with_a_frame_is_told(data: bytes, text: str | None) -> None:
    if text is None:
        assert read(data) is None
        return
    with pytest.raises(FrameError, match=text):
        read(data)
