"""The format of streamed answers, written and read; and what other servers put into such streams."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.codec import encode
from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Failure, StreamEnd, StreamItem
from foundry_proto.messages.completions import ChatCompletionChunk, ChunkChoice, Delta
from foundry_proto.progress import Progress
from foundry_proto.sentinels import ABSENT, NEED_DATA
from foundry_proto.streams import PROGRESS, SSE_JSON, StreamDecoder
from tests.support.chunking import byte_by_byte, chunkings, whole
from tests.support.fakes import LINES, Widget


def chunk(text: str) -> ChatCompletionChunk:
    choice = ChunkChoice(index=0, delta=Delta(content=text))
    return ChatCompletionChunk(id="i", created=1, model="m", choices=(choice,))


def read(decoder: StreamDecoder, pieces: list[bytes], *, eof: bool = True) -> list[object]:
    """All events, and the error that ended them, if one did."""
    events: list[object] = []
    try:
        for piece in pieces:
            decoder.receive_data(piece)
            while (event := decoder.next_event()) is not NEED_DATA:
                events.append(event)
        if eof:
            decoder.receive_eof()
            while (event := decoder.next_event()) is not NEED_DATA:
                events.append(event)
    except RemoteProtocolError as error:
        events.append(str(error))
        # What is wrong once is wrong for good.
        with pytest.raises(RemoteProtocolError) as repeated:
            decoder.next_event()
        assert str(repeated.value) == events[-1]
    return events


def read_chunks(*pieces: bytes, limit: int = 1000, eof: bool = True) -> list[object]:
    return read(SSE_JSON.decoder(ChatCompletionChunk, limit=limit), list(pieces), eof=eof)


FAILURE = Failure(status=500, message="out of memory", code="lost")
FAILED = b"".join(SSE_JSON.encode_failure(FAILURE))
END = b"".join(SSE_JSON.encode_end())

WRONG = "an event of the stream is not what was expected"

STREAMS: list[tuple[bytes, list[object]]] = [
    (b"data: [DONE]\n\n", [StreamEnd()]),
    (
        SSE_JSON.encode_item(chunk("é")) + SSE_JSON.encode_item(encode(chunk("b"))) + END,
        [StreamItem(value=chunk("é")), StreamItem(value=chunk("b")), StreamEnd()],
    ),
    (
        SSE_JSON.encode_item(chunk("a")) + FAILED,
        [StreamItem(value=chunk("a")), FAILURE],
    ),
    # After the end nothing counts.
    (b"data: [DONE]\n\ndata: garbage\n\nmore", [StreamEnd()]),
    (FAILED + END, [FAILURE]),
    # Comments and other fields are no part of it.
    (b": ping\n\nid: 7\nretry: 5\nevent: message\ndata: [DONE]\n\n", [StreamEnd()]),
    (b"", ["expected data: [DONE], got the end of the stream"]),
    (b"data: [DONE]", ["expected data: [DONE], got the end of the stream"]),
    (
        b"data: nonsense\n\ndata: [DONE]\n\n",
        [f"{WRONG}: body: expected JSON, got a syntax error at line 1, column 1: expecting value"],
    ),
    (
        b'data: {"id":5}\n\n',
        [f"{WRONG}: id: expected a string, got 5"],
    ),
    (b"data: 5\n\n", [f"{WRONG}: body: expected an object, got 5"]),
    # An error may look in many ways; a null is none.
    (b'data: {"error":"no"}\n\n', [Failure(status=500, message="no")]),
    (b'data: {"error":{"message":"no","code":5}}\n\n', [Failure(status=500, message="no", code="5")]),
    (b'data: {"error":{"odd":1}}\n\n', [Failure(status=500, message="the stream ended with an error")]),
    (
        b'data: {"error":null,"id":"i","created":1,"model":"m","choices":[]}\n\ndata: [DONE]\n\n',
        [
            StreamItem(
                value=ChatCompletionChunk(id="i", created=1, model="m", choices=(), system_fingerprint=ABSENT)
            ),
            StreamEnd(),
        ],
    ),
]


@pytest.mark.parametrize(("data", "events"), STREAMS, ids=[repr(data[:40]) for data, _ in STREAMS])
def test_a_stream_is_read_as_what_it_says(data: bytes, events: list[object]) -> None:
    assert read_chunks(*whole(data)) == events
    assert read_chunks(*byte_by_byte(data)) == events


@settings(deadline=None)
@given(st.sampled_from(STREAMS), st.data())
def test_any_chunking_gives_the_same_events(stream: tuple[bytes, list[object]], data: st.DataObject) -> None:
    text, events = stream
    assert read_chunks(*data.draw(chunkings(text))) == events


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(st.sampled_from('data:{}[]"DONE\n\r 5error')).map(str.encode))
def test_any_bytes_give_events_or_one_error(data: bytes) -> None:
    read_chunks(data)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_items_are_read_as_they_were_written(texts: list[str]) -> None:
    data = b"".join(SSE_JSON.encode_item(chunk(text)) for text in texts) + END
    events = [StreamItem(value=chunk(text)) for text in texts]
    assert read_chunks(data, limit=10_000) == [*events, StreamEnd()]


def test_what_follows_the_end_is_not_kept() -> None:
    decoder = SSE_JSON.decoder(ChatCompletionChunk, limit=1000)
    assert read(decoder, [END], eof=False) == [StreamEnd()]
    tracemalloc.start()
    assert read(decoder, [b"data: more\n" * 100] * 1000) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000


def test_an_event_over_the_limit_is_refused() -> None:
    message = "line: expected at most 100 bytes, got more"
    assert read_chunks(b"data: " + b"x" * 100, limit=100, eof=False) == [message]


def test_the_format_is_server_sent_events() -> None:
    assert SSE_JSON.media_type == b"text/event-stream"
    assert SSE_JSON.final_pause == 0
    assert SSE_JSON.encode_item({"a": "é"}) == 'data: {"a":"é"}\n\n'.encode()
    assert SSE_JSON.encode_item(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert SSE_JSON.encode_end() == (b"data: [DONE]\n\n",)
    assert SSE_JSON.encode_failure(FAILURE) == (
        b'data: {"error":{"message":"out of memory","type":"server_error","param":null,"code":"lost"}}\n\n',
    )


def test_an_item_of_several_lines_is_misuse() -> None:
    with pytest.raises(LocalProtocolError, match=r"^payload: expected one line, got a line ending in it$"):
        SSE_JSON.encode_item(b'{"a":\n1}')


def test_another_format_is_one_object() -> None:
    pieces = (LINES.encode_item(Widget(name="a")), LINES.encode_item(b'{"name":"b"}'), *LINES.encode_end())
    assert read(LINES.decoder(Widget, limit=100), byte_by_byte(b"".join(pieces))) == [
        StreamItem(value=Widget(name="a")),
        StreamItem(value=Widget(name="b")),
        StreamEnd(),
    ]


def read_progress(*pieces: bytes, eof: bool = True) -> list[object]:
    return read(PROGRESS.decoder(Progress, limit=1000), list(pieces), eof=eof)


ITEM = Progress(file="model.onnx.data", fraction=0.78)
FULL_DISK = Failure(status=507, message="disk full")
MARKER = b'("", 1)\nTotal 100% Downloading \n[DONE] All Completed!\n'

PROGRESSES: list[tuple[tuple[bytes, ...], list[object]]] = [
    ((PROGRESS.encode_item(ITEM), *PROGRESS.encode_end()), [StreamItem(value=ITEM), StreamEnd()]),
    (PROGRESS.encode_end(), [StreamEnd()]),
    (
        (PROGRESS.encode_item(ITEM), *PROGRESS.encode_failure(FULL_DISK)),
        [StreamItem(value=ITEM), Failure(status=500, message="disk full")],
    ),
    # As servers write it that have no marker, or no reason; and what follows the result is no part of it.
    ((b'{"Success":true}{"success":false}\n("m", 0.5)\n',), [StreamEnd()]),
    ((b'{"success":false,"errorMessage":null}',), [Failure(status=500, message="the download failed")]),
    (
        (PROGRESS.encode_item(ITEM), MARKER),
        [StreamItem(value=ITEM), "stream: expected a whole result before the end, got none"],
    ),
]


@pytest.mark.parametrize(("pieces", "events"), PROGRESSES)
def test_a_download_is_told_as_progress_and_then_its_end_or_failure(
    pieces: tuple[bytes, ...], events: list[object]
) -> None:
    assert read_progress(*pieces) == events
    assert read_progress(*byte_by_byte(b"".join(pieces))) == events


def test_the_result_of_a_download_is_a_piece_of_its_own_behind_the_marker_and_a_pause() -> None:
    assert PROGRESS.media_type == b"text/plain; charset=utf-8"
    assert PROGRESS.final_pause >= 0.15
    for pieces, members in (
        (PROGRESS.encode_end(), {"success": True, "error": None}),
        (PROGRESS.encode_failure(FULL_DISK), {"success": False, "error": "disk full"}),
    ):
        marker, result = pieces
        assert marker == MARKER
        assert members.items() <= json.loads(result).items()
