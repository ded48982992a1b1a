"""Download progress: the exact wire format, what real clients do with it, any chunking, any bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.errors import LocalProtocolError
from foundry_proto.progress import (
    DownloadResult,
    Progress,
    ProgressDecoder,
    ProgressEnd,
    ProgressEvent,
    ProgressPace,
    encode_progress,
)
from foundry_proto.sentinels import NEED_DATA
from tests.support.chunking import Decoded, byte_by_byte, chunkings, decode, in_pieces, whole
from tests.support.searched import Searched

Cut = Callable[[bytes], list[bytes]]

DONE = b'{"success":true,"errorMessage":null,"error":null,"Success":true,"ErrorMessage":null}\n'
OK = DownloadResult(success=True)
NO_RESULT = "stream: expected a whole result before the end, got none"
NO_OBJECT = "result: expected a JSON object, got something else"
NO_FLAG = 'result: expected a boolean "success"'


def p(file: str, fraction: float) -> Progress:
    return Progress(file=file, fraction=fraction)


def events(pieces: list[bytes], max_event_size: int = 1000) -> Decoded[ProgressEvent]:
    return decode(ProgressDecoder(max_event_size=max_event_size), pieces)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (p("model.onnx.data", 0.78), b'("model.onnx.data", 0.78)\nTotal 78% Downloading model.onnx.data\n'),
        (p("v3/m", 0.76268), b'("v3/m", 0.76268)\nTotal 76.268% Downloading v3/m\n'),
        (p("m", 1), b'("m", 1)\nTotal 100% Downloading m\n'),
        (p("m", 0), b'("m", 0)\nTotal 0% Downloading m\n'),
        (p("m", -0.0), b'("m", 0)\nTotal 0% Downloading m\n'),
        (p("m", 0.1), b'("m", 0.1)\nTotal 10% Downloading m\n'),
        (p("m", 0.29), b'("m", 0.29)\nTotal 29% Downloading m\n'),
        (p("m", 1 / 3), b'("m", 0.3333333333333333)\nTotal 33.333% Downloading m\n'),
        (p("m", 1e-7), b'("m", 0.0000001)\nTotal 0% Downloading m\n'),
        (p("m", 0.9999999), b'("m", 0.9999999)\nTotal 99.999% Downloading m\n'),
        (p("", 0.5), b'("", 0.5)\nTotal 50% Downloading \n'),
        (p("é", 0.5), '("é", 0.5)\nTotal 50% Downloading é\n'.encode()),
        (
            p('a"b\\c\nd\re\x85f\u2028g\x7f', 0.5),
            (
                rb'("a\"b\\c\nd\re\u0085f\u2028g\u007f", 0.5)'
                b"\n"
                rb"Total 50% Downloading a\"b\\c\nd\re\u0085f\u2028g\u007f"
                b"\n"
            ),
        ),
        (
            p("50%{}\udcff", 0.5),
            rb'("50\u0025\u007b\u007d\udcff", 0.5)' + b"\n"
            rb"Total 50% Downloading 50\u0025\u007b\u007d\udcff" + b"\n",
        ),
        (ProgressEnd(), b'("", 1)\nTotal 100% Downloading \n[DONE] All Completed!\n'),
        (OK, DONE),
        (
            DownloadResult(success=False, error_message="disk full"),
            (
                b'{"success":false,"errorMessage":"disk full","error":"disk full",'
                b'"Success":false,"ErrorMessage":"disk full"}\n'
            ),
        ),
        (
            DownloadResult(success=False),
            b'{"success":false,"errorMessage":null,"error":null,"Success":false,"ErrorMessage":null}\n',
        ),
    ],
)
def test_the_wire_format_is_exact(event: ProgressEvent, expected: bytes) -> None:
    assert encode_progress(event) == expected


@pytest.mark.parametrize("fraction", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_fraction_is_from_0_to_1(fraction: float) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        p("m", fraction)
    assert str(caught.value) == f"fraction: expected a number from 0 to 1, got {fraction!r}"


def test_the_end_is_no_progress() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        p("", 1)
    assert str(caught.value) == "file: expected a name when the fraction is 1, got '' (use ProgressEnd)"


# What the standard library's `os.fsdecode` can return: lone low surrogates stand for bytes that are no UTF-8.
names = st.text(st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
progress = st.builds(p, names.filter(bool), st.floats(0, 1)) | st.builds(
    p, st.just(""), st.floats(0, 1, exclude_max=True)
)
results = st.builds(DownloadResult, success=st.booleans(), error_message=st.none() | names)


@given(st.lists(progress, max_size=5), st.booleans(), results, st.data())
@settings(deadline=None)
def test_decoding_is_the_inverse_of_encoding(
    updates: list[Progress], ended: bool, result: DownloadResult, data: st.DataObject
) -> None:
    sent: list[ProgressEvent] = [*updates, *([ProgressEnd()] if ended else []), result]
    stream = b"".join(encode_progress(event) for event in sent)
    assert events(data.draw(chunkings(stream)), 100_000) == Decoded(sent)


@given(progress)
@settings(deadline=None)
def test_an_update_is_two_lines_with_one_percentage_for_every_reader(update: Progress) -> None:
    lines = encode_progress(update).decode().splitlines()  # which knows eleven line endings
    assert len(lines) == 2
    assert json.loads(f"[{lines[0][1:-1]}]") == [update.file, update.fraction]
    (percent,) = re.findall(r"(\d+(?:\.\d+)?)%", "".join(lines))
    assert lines[1].startswith(f"Total {percent}% Downloading ")
    assert float(percent) == pytest.approx(update.fraction * 100, abs=0.001)
    assert (percent == "100") == (update.fraction == 1)


@given(results)
@settings(deadline=None)
def test_the_result_is_one_flat_line_of_json_for_every_reader(result: DownloadResult) -> None:
    (line,) = encode_progress(result).decode().splitlines()
    assert line.rindex("{") == 0
    assert json.loads(line) == dict.fromkeys(("success", "Success"), result.success) | dict.fromkeys(
        ("errorMessage", "error", "ErrorMessage"), result.error_message
    )


TRANSCRIPTS: dict[str, tuple[bytes, list[ProgressEvent]]] = {
    "the reference's example": (
        (
            b'("genai_config.json", 0.01)\n("genai_config.json", 0.2)\n("model.onnx.data", 0.5)\n'
            b'("model.onnx.data", 0.78)\n...\n("", 1)\n{"Success": true, "ErrorMessage": null}'
        ),
        [
            p("genai_config.json", 0.01),
            p("genai_config.json", 0.2),
            p("model.onnx.data", 0.5),
            p("model.onnx.data", 0.78),
            ProgressEnd(),
            OK,
        ],
    ),
    "lines as the clients read them": (
        (
            b"Total 6.66% Downloading v3/model.onnx.data\r\nTotal 79.74% Downloading v3/model.onnx.data\r\n"
            b"Total 100% Downloading v3/model.onnx.data\r\n[DONE] All Completed!\r\n"
            b'{\r\n  "success": true,\r\n  "errorMessage": null\r\n}\r\n'
        ),
        [
            p("v3/model.onnx.data", 0.0666),
            p("v3/model.onnx.data", 0.7974),
            p("v3/model.onnx.data", 1),
            ProgressEnd(),
            OK,
        ],
    ),
    "the two lines of an update are one event": (
        b'("a", 0.5)\nTotal 50% Downloading a\n("a", 0.50001)\nTotal 50.001% Downloading a\n' + DONE,
        [p("a", 0.5), p("a", 0.50001), OK],
    ),
    "only the line right behind repeats": (
        b'("a", 0.5)\nTotal 51% Downloading a\n("a", 0.5)\n\nTotal 50% Downloading a\n'
        b"Total 50% Downloading a\n" + DONE,
        [p("a", 0.5), p("a", 0.51), p("a", 0.5), p("a", 0.5), p("a", 0.5), OK],
    ),
    "blanks in a tuple are free": (b'(  "a"  ,\t0.5 ) \n' + DONE, [p("a", 0.5), OK]),
    "a fraction may have an exponent": (
        b'("a", 1e-2)\n("a", 5.0E-1)\n' + DONE,
        [p("a", 0.01), p("a", 0.5), OK],
    ),
    "names are JSON strings": (rb'("a\"b\\\u00e9", 0.5)' + b"\n" + DONE, [p('a"b\\é', 0.5), OK]),
    "a name that is no JSON string is taken as it stands": (
        rb'("v3\model.onnx", 0.5)' + b"\nTotal 60% Downloading v3\\new.onnx\n" + DONE,
        [p(r"v3\model.onnx", 0.5), p(r"v3\new.onnx", 0.6), OK],
    ),
    "a name may hold what ends the stream": (
        b'("[DONE]", 0.5)\n("All Completed{", 0.6)\nTotal 70% Downloading [DONE] {a\n' + DONE,
        [p("[DONE]", 0.5), p("All Completed{", 0.6), p("[DONE] {a", 0.7), OK],
    ),
    "a name may be missing": (b'("", 0.5)\nTotal 60% Downloading\n' + DONE, [p("", 0.5), p("", 0.6), OK]),
    "each end marker alone ends the progress": (b"[DONE]\n" + DONE, [ProgressEnd(), OK]),
    "the other one too": (b"-- All Completed --\n" + DONE, [ProgressEnd(), OK]),
    "the total without a name too": (b"Total 100.000% Downloading \n" + DONE, [ProgressEnd(), OK]),
    "progress behind its end is ignored": (b'("", 1)\n("a", 0.5)\n[DONE]\n' + DONE, [ProgressEnd(), OK]),
    "a result needs no end marker": (DONE, [OK]),
    "other text is ignored": (
        b'\nhello\n(0.5)\n("a")\n("a", x)\n("a", .5)\n("a", -1)\n("a", 1.5)\n("a", 1e999)\n("a", 0.5) b\n'
        b"Total 101% Downloading a\nTotal x% Downloading a\nTotal 5 Downloading a\n"
        b"total 5% downloading a\n" + DONE,
        [OK],
    ),
    "invalid UTF-8 is replaced": (
        b'("\xff", 0.5)\n{"success": false, "errorMessage": "\xe2\x82"}',
        [p("\ufffd", 0.5), DownloadResult(success=False, error_message="\ufffd")],
    ),
    "a BOM is no text": (b'\xef\xbb\xbf("a", 0.5)\n' + DONE, [p("a", 0.5), OK]),
    "a BOM before the result is no text": (b"\xef\xbb\xbf" + DONE, [OK]),
    "the result may be glued to a tuple": (b'("", 1){ "Success":true}', [ProgressEnd(), OK]),
    "the result may be glued to a total": (b"Total 5% Downloading a" + DONE, [p("a", 0.05), OK]),
    "the result may be glued to the marker": (b"[DONE]" + DONE, [ProgressEnd(), OK]),
    "a glued result may go on below": (b'[DONE]{"Success":\ntrue\n}', [ProgressEnd(), OK]),
    "or begin there": (b'[DONE]{ \n"Success":\ntrue\n}', [ProgressEnd(), OK]),
    "the result may be indented": (b' \t{\n\t"success"\n:true}', [OK]),
    "nothing behind the result counts": (DONE + b'("a", 0.5)\n{"success":false}' + b"x" * 2000, [OK]),
    "nothing behind its brace counts": (b'{"success":true}}{ "a" ("a", 0.5)\n', [OK]),
    "braces and quotation marks in strings are text": (
        rb'{"success":false,"errorMessage":"}{\"}\\"}',
        [DownloadResult(success=False, error_message='}{"}\\')],
    ),
    "nested objects are no obstacle": (
        b'{"a":{"success":1,"b":{}},"success":false,"error":{"message":"x"}}',
        [DownloadResult(success=False)],
    ),
    "keys in any casing": (
        b'{"SUCCESS":true,"errormessage":"x"}',
        [DownloadResult(success=True, error_message="x")],
    ),
    "the error's text under its second name": (
        b'{"success":false,"error":"x","ErrorMessage":null}',
        [DownloadResult(success=False, error_message="x")],
    ),
    "the first name has precedence": (
        b'{"error":"x","success":false,"errorMessage":"y"}',
        [DownloadResult(success=False, error_message="y")],
    ),
    "a result that says both is a failure": (
        b'{"success":true,"Success":false}',
        [DownloadResult(success=False)],
    ),
}


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize(("stream", "expected"), TRANSCRIPTS.values(), ids=TRANSCRIPTS.keys())
def test_any_mixture_is_understood(cut: Cut, stream: bytes, expected: list[ProgressEvent]) -> None:
    assert events(cut(stream)) == Decoded(expected)


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", NO_RESULT),
        (b'("", 1)\n', NO_RESULT),
        (b'("", 1)\n[DONE] All Completed!', NO_RESULT),
        (b'{"success":true', NO_RESULT),
        (b'{"success":"}', NO_RESULT),
        (b"{}", NO_FLAG),
        (b'{"success":1}', NO_FLAG),
        (b'{"success":null}', NO_FLAG),
        (b'{"success":true,"Success":"true"}', NO_FLAG),
        (b'{"error":{"success":true}}', NO_FLAG),
        (b"{success:true}", NO_OBJECT),
        (b"{\\n}", NO_OBJECT),
        (b'{"success":true,}', NO_OBJECT),
        (b'{"success":true,"a":NaN}', NO_OBJECT),
        (b'{"success":true,"a":-Infinity}', NO_OBJECT),
        (b'{"success":true,"a":"x\ny"}', NO_OBJECT),
        (b'{"success":true,"a":' + b"[" * 50_000 + b"}", NO_OBJECT),
        (b'{"success":true,"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", NO_OBJECT),
        (b'{"success":true,"a":' + b"9" * 50_000 + b"}", NO_OBJECT),
    ],
)
def test_a_stream_without_a_readable_result_is_broken(cut: Cut, stream: bytes, error: str) -> None:
    assert events(cut(b'("a", 0.5)\n' + stream), 200_000).error == error


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b'("123456", 0.5)', NO_RESULT),
        (b'("1234567", 0.5)', "line: expected at most 15 bytes, got more"),
        (b"{       \n}".ljust(16), NO_FLAG),
        (b"{" + b"      \n" * 2 + b"}", "result: expected at most 15 bytes, got more"),
        (b"{" + b" " * 13 + b"}", NO_FLAG),
        (b"{" + b" " * 14 + b"}", "line: expected at most 15 bytes, got more"),
        (b"[DONE]{\n" + b" \n" * 20, "result: expected at most 15 bytes, got more"),
    ],
)
def test_the_limit_holds_for_a_line_and_for_the_result(cut: Cut, stream: bytes, error: str) -> None:
    assert events(cut(stream), 15).error == error


FRAGMENTS = [
    b'("a", 0.5)',
    b'("", 1)',
    b"Total 50% Downloading a",
    b"[DONE]",
    b"{",
    b"}",
    b'{"success":true}',
    b'"success"',
    b":",
    b",",
    b"true",
    b"false",
    b'"',
    b"\\",
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"\xef\xbb\xbf",
    b"\xff",
    b"(",
    b"NaN",
]
streams = st.binary(max_size=60) | st.lists(st.sampled_from(FRAGMENTS), max_size=25).map(b"".join)


@given(st.data(), streams, st.integers(0, 200))
@settings(deadline=None, max_examples=300)
def test_any_chunking_of_any_bytes_gives_the_same_events_or_the_same_error(
    data: st.DataObject, stream: bytes, limit: int
) -> None:
    once = events([stream], limit)
    assert events(data.draw(chunkings(stream)), limit) == once
    order = [type(event) for event in once.events if not isinstance(event, Progress)]
    assert order in ([], [ProgressEnd], [DownloadResult], [ProgressEnd, DownloadResult])
    assert (DownloadResult in order) == (once.error is None)


@given(st.data(), streams | st.just(DONE + b"x" * 101))
@settings(deadline=None)
def test_what_is_kept_between_pieces_never_exceeds_the_limits(data: st.DataObject, stream: bytes) -> None:
    decoder = ProgressDecoder(max_event_size=100)
    for piece in data.draw(chunkings(stream)):
        if decode(decoder, [piece], eof=False).error is not None:
            return
        assert len(decoder._lines._buffer) - decoder._lines._start <= 100
        assert len(decoder._object) <= 101
        assert not decoder._glued


@pytest.mark.parametrize("size", [1, 4096])
@pytest.mark.parametrize("stream", [b'("aaa", 0.5)\n' * 2000, b"{" + b"{\n" * 8000, b"{ " * 8000])
def test_each_byte_is_searched_once_for_each_line_ending(stream: bytes, size: int) -> None:
    decoder = ProgressDecoder(max_event_size=100_000)
    spy = decoder._lines._buffer = Searched()
    decode(decoder, in_pieces(stream, size))
    assert spy.searched <= 2 * len(stream)


def test_the_result_arrives_with_its_line_and_the_stream_is_over_at_its_end() -> None:
    decoder = ProgressDecoder(max_event_size=100)
    decoder.receive_data(DONE)
    assert decoder.next_event() == OK
    assert decoder.next_event() is NEED_DATA
    decoder.receive_data(b"more")
    assert decoder.next_event() is NEED_DATA
    decoder.receive_eof()
    assert [decoder.next_event(), decoder.next_event()] == [None, None]
    with pytest.raises(LocalProtocolError) as caught:
        decoder.receive_data(b"more")
    assert str(caught.value) == "receive_data: expected no data after receive_eof"


def test_the_first_news_is_told_at_once() -> None:
    assert ProgressPace().next(7.0, "m", 0.0) == p("m", 0)


def test_news_are_told_at_most_ten_times_a_second_and_silence_is_broken_each_second() -> None:
    pace, told = ProgressPace(), []
    for millisecond in range(0, 10_000, 5):
        now = millisecond / 1000
        # Steady progress for five seconds, and then none.
        if (progress := pace.next(now, "m", min(now, 5) / 10)) is not None:
            told.append((now, progress.fraction))
    moving = [now for now, _ in told if now <= 5]
    still = [now for now, _ in told if now > 5]
    assert 40 <= len(moving) <= 51
    assert min(later - earlier for earlier, later in pairwise(moving)) >= 0.1 - 1e-9
    assert all(0.1 <= later - earlier <= 1 for earlier, later in pairwise(still))
    assert len(still) >= 4


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["a", "b"]), st.floats(0, 2)), max_size=30))
def test_what_is_told_never_falls_back_and_only_the_end_says_that_all_is_done(
    news: list[tuple[float, str, float]],
) -> None:
    pace, now, told = ProgressPace(), 0.0, []
    for fraction, file, seconds in news:
        now += seconds
        if (progress := pace.next(now, file, fraction)) is not None:
            assert progress.file == file
            told.append(progress.fraction)
    assert told == sorted(told)
    assert all(fraction < 1 for fraction in told)


def test_another_file_is_news() -> None:
    pace = ProgressPace()
    pace.next(0.0, "a", 0.5)
    assert pace.next(0.1, "b", 0.5) == p("b", 0.5)
    assert pace.next(0.15, "c", 0.5) is None
