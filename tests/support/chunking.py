"""The any-chunking law, for every incremental parser: ways to cut an input, and one way to feed it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import AnyStr, Generic, Protocol, TypeVar

import pytest
from attrs import frozen
from hypothesis import strategies as st

from foundry_proto.errors import RemoteProtocolError
from foundry_proto.sentinels import NEED_DATA, NeedData

EventT = TypeVar("EventT")
EventT_co = TypeVar("EventT_co", covariant=True)


class Decoder(Protocol[EventT_co]):
    """The shape that the parsers share."""

    def receive_data(self, data: bytes) -> None: ...

    def receive_eof(self) -> None: ...

    def next_event(self) -> EventT_co | NeedData | None: ...


@frozen
class Decoded(Generic[EventT]):
    """What came out of a decoder: its events, and the error that ended them, if one did."""

    events: list[EventT]
    error: str | None = None


def whole(data: AnyStr) -> list[AnyStr]:
    return [data]


def byte_by_byte(data: AnyStr) -> list[AnyStr]:
    return in_pieces(data, 1)


def in_pieces(data: AnyStr, size: int) -> list[AnyStr]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def chunkings(data: AnyStr) -> st.SearchStrategy[list[AnyStr]]:
    """Any cut of `data`, with empty pieces too."""

    def cut(cuts: list[int]) -> list[AnyStr]:
        return [data[start:end] for start, end in pairwise([0, *sorted(cuts), len(data)])]

    return st.lists(st.integers(0, len(data)), max_size=12).map(cut)


def decode(decoder: Decoder[EventT], pieces: Iterable[bytes], *, eof: bool = True) -> Decoded[EventT]:
    """Feed `pieces`, taking every event after each, then the end; a second error must repeat the first."""
    events: list[EventT] = []
    try:
        for piece in pieces:
            decoder.receive_data(piece)
            while (event := decoder.next_event()) is not NEED_DATA:
                if event is None:
                    raise AssertionError("the decoder said that the stream is over, before its end")
                events.append(event)
        if eof:
            decoder.receive_eof()
            while (event := decoder.next_event()) is not None:
                if event is NEED_DATA:
                    raise AssertionError("the decoder asked for data after the end")
                events.append(event)
    except RemoteProtocolError as error:
        message = str(error)
    else:
        return Decoded(events)
    with pytest.raises(RemoteProtocolError) as repeated:
        decoder.next_event()
    assert str(repeated.value) == message
    return Decoded(events, message)
