"""The progress of a model's download: lines of text, then one JSON object.

Knows: the two lines that one update has on the wire, `("model.onnx.data", 0.78)` as the REST reference page
has it and `Total 78% Downloading model.onnx.data` as clients read it; the end marker; the flat final object.
The decoder takes any mixture of them, since servers differ.
Also which news of a download are worth an update.
Refuses to know: HTTP, the time, and how long a writer pauses before the final object (real clients look for
it at the beginning of a network read; the stream's format says how long).
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from enum import Enum
from typing import Final, NoReturn, TypeAlias, assert_never

from attrs import define, field, frozen

from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.lines import LineBuffer
from foundry_proto.sentinels import NEED_DATA, NeedData

__all__ = [
    "DownloadResult",
    "Progress",
    "ProgressDecoder",
    "ProgressEnd",
    "ProgressEvent",
    "ProgressPace",
    "encode_progress",
]


def _float(number: float) -> float:
    """Return 1.0 for 1, and 0.0 for -0.0, whose sign no reader expects."""
    return number + 0.0


@frozen(kw_only=True)
class Progress:
    """How far the download has come.

    Raises:
        LocalProtocolError: The fraction is no number from 0 to 1; or it is 1 without a file, which on the
            wire is `ProgressEnd`.
    """

    file: str
    """The file that is being downloaded, as a path inside the model's folder."""
    fraction: float = field(converter=_float)
    """The part of the *whole* download that is done, from 0 to 1."""

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:  # as NaN, too, is not
            raise LocalProtocolError(f"fraction: expected a number from 0 to 1, got {self.fraction!r}")
        if self.fraction == 1 and not self.file:
            raise LocalProtocolError("file: expected a name when the fraction is 1, got '' (use ProgressEnd)")


@frozen(kw_only=True)
class ProgressEnd:
    """No further progress will come: the result is next, be it success or failure.

    A failed download has this marker too: some clients read no result before it.
    """


@frozen(kw_only=True)
class DownloadResult:
    """What became of the download: the last event."""

    success: bool
    error_message: str | None = None


ProgressEvent: TypeAlias = Progress | ProgressEnd | DownloadResult

_LEAST: Final = 0.1
"""Seconds between two updates: no eye sees more."""
_MOST: Final = 0.9
"""Seconds without an update: whoever looks every tenth of a second sends one each second."""
_NEARLY: Final = 0.999
"""The most that is told before the end, which alone says that all is done."""
_DIGITS: Final = 5
"""Of a fraction: as many as a percentage with three decimals has."""


@define
class ProgressPace:
    """Choose, of all news of one download, those that become updates.

    The first one does; then at most ten a second, and at least one, were it the same again: a client that
    hears nothing cannot tell a slow line from a lost one. What is told never falls back.
    """

    _told_at: float | None = field(init=False, default=None)
    _told: Progress = field(init=False, factory=lambda: Progress(file="", fraction=0))

    def next(self, now: float, file: str, fraction: float) -> Progress | None:
        """Say what to tell, if anything.

        Args:
            now: Seconds on any clock that runs evenly.
            file: What is worked on.
            fraction: How much of the whole download is done, from 0 to 1, as far as is known.

        Returns:
            The update to send; `None` while there is none.
        """
        fraction = round(min(fraction, _NEARLY), _DIGITS)
        progress = Progress(file=file, fraction=max(self._told.fraction, fraction))
        silence = None if self._told_at is None else now - self._told_at
        if silence is not None and silence < (_LEAST if progress != self._told else _MOST):
            return None
        self._told_at, self._told = now, progress
        return progress


_END: Final = b'("", 1)\nTotal 100% Downloading \n[DONE] All Completed!\n'

# Escaped in every text beyond what JSON itself escapes, so that
# - a line stays one line for readers who split at all of Unicode's line ends, as some HTTP clients do;
# - the only "%" of an update is the percentage's, and the only "{" of the stream opens the final object:
#   clients search for them;
# - a lone surrogate, which a file name may have, can be sent at all.
_SPECIAL: Final = re.compile("[%{}\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def encode_progress(event: ProgressEvent) -> bytes:
    """Encode one event; `ProgressDecoder` is the inverse.

    Args:
        event: `Progress` in any number, then `ProgressEnd`, then `DownloadResult`.

    Returns:
        Whole lines, to be sent in one write; the result's line in a write of its own, some time later.
    """
    match event:
        case Progress(file=file, fraction=fraction):
            return f"({_quote(file)}, {_decimal(fraction)})\n{_total_line(event)}\n".encode()
        case ProgressEnd():
            return _END
        case DownloadResult(success=success, error_message=message):
            flag = "true" if success else "false"
            text = "null" if message is None else _quote(message)
            # Flat, and each value under every key: the reference's casing, and what each known client reads.
            return (
                f'{{"success":{flag},"errorMessage":{text},"error":{text},'
                f'"Success":{flag},"ErrorMessage":{text}}}\n'
            ).encode()
        case _:
            assert_never(event)


def _quote(text: str) -> str:
    """Return `text` as a JSON string that is one line for every reader."""
    return _SPECIAL.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _unquote(quoted: str) -> str:
    """Return the text of a string as `_quote` writes it."""
    try:
        return str(json.loads(quoted))
    except ValueError:
        # Choice: what is no JSON string is taken as it stands: a server that does not escape `v3\model.onnx`.
        return quoted[1:-1]


def _decimal(fraction: float) -> str:
    """Return the shortest decimal that reads back as `fraction`, without exponent: 1, 0.78, 0.00001."""
    return f"{Decimal(repr(fraction)):f}".removesuffix(".0")


def _total_line(progress: Progress) -> str:
    """Return the second line of an update: percent with up to three decimals, and the file."""
    percent = f"{progress.fraction * 100:.3f}".rstrip("0").removesuffix(".")
    # Choice: rounding never makes it 100, which clients may take for the end.
    if percent == "100" and progress.fraction < 1:
        percent = "99.999"
    return f"Total {percent}% Downloading {_quote(progress.file)[1:-1]}"


_NUMBER: Final = rb"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
_TUPLE_LINE: Final = re.compile(
    rb'\(\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*,\s*' + _NUMBER + rb"\s*\)\s*", re.DOTALL
)
_TOTAL_LINE: Final = re.compile(rb"Total\s+" + _NUMBER + rb"\s*%\s+Downloading(?: (.*))?", re.DOTALL)
# No sample of this line is on record: clients look for either text, anywhere in a line.
_END_MARKERS: Final = (b"[DONE]", b"All Completed")
# Choice: the final object begins with a "{" that begins a line, or (unless the line is a tuple) one that a
# quotation mark or nothing follows: the reference shows no separator, so a server may write the object behind
# its last line.
_OBJECT_START: Final = re.compile(rb'\A[ \t]*\{|\{[ \t]*(?:"|\Z)')
_STRUCTURE: Final = re.compile(rb'\\.|["{}]', re.DOTALL)
_DEPTH: Final = {b"{": 1, b"}": -1}
_BOM: Final = b"\xef\xbb\xbf"


class _Phase(Enum):
    PROGRESS = "progress"
    ENDED = "ended"
    OBJECT = "object"
    DONE = "done"


@define(eq=False)
class ProgressDecoder:
    """Decode the answer to a download request incrementally; any cut of the same bytes gives the same events.

    The events are `Progress` in any number, at most one `ProgressEnd`, and one `DownloadResult`, in this
    order; the two lines of one update are one event. After the result, everything is ignored.

    Args:
        max_event_size: The most bytes of one line, and of the final object.

    Source: the REST reference page, "POST /openai/download".
    """

    # Choice: a line that is none of the known ones is ignored, and so are a fraction above 1 and progress
    # after its end: the reference's own example has a line of dots, and progress is decoration. What the
    # stream is for is its result: a stream that has none, or one that cannot be read, is broken.

    _max_event_size: int = field(kw_only=True)
    _lines: LineBuffer = field(init=False)
    _eof: bool = field(init=False, default=False)
    _phase: _Phase = field(init=False, default=_Phase.PROGRESS)
    # The line that would only repeat the tuple line before it.
    _echo: str | None = field(init=False, default=None)
    # What stood behind a progress line and is to be read next: the object's beginning.
    _glued: bytes = field(init=False, default=b"")
    # The final object so far, its open braces, and whether a string is open.
    _object: bytearray = field(init=False, factory=bytearray)
    _depth: int = field(init=False, default=0)
    _in_string: bool = field(init=False, default=False)
    _error: str | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._lines = LineBuffer(max_line_size=self._max_event_size)

    def receive_data(self, data: bytes) -> None:
        """Give the next piece of the stream; an empty piece changes nothing.

        Take every event with `next_event` before giving more data: what is kept between two calls is then at
        most one unfinished line and one unfinished object, each of at most `max_event_size` bytes.

        Args:
            data: Bytes, cut anywhere.

        Raises:
            LocalProtocolError: The end of the stream was already given.
        """
        if self._eof:
            raise LocalProtocolError("receive_data: expected no data after receive_eof")
        if self._phase is not _Phase.DONE:
            self._lines.receive_data(data)

    def receive_eof(self) -> None:
        """Say that the stream has ended; saying it again changes nothing."""
        self._eof = True
        self._lines.receive_eof()

    def next_event(self) -> ProgressEvent | NeedData | None:
        """Take the next event.

        Returns:
            The event; `NEED_DATA` when the input so far holds no further one; `None` when the stream is over.

        Raises:
            RemoteProtocolError: The stream ended without a result; the result is no JSON object with a
                boolean `success`; a line or the result exceeds `max_event_size`. So says every later call.
                Any other exception is a bug.
        """
        if self._error is not None:
            raise RemoteProtocolError(self._error)
        while self._phase is not _Phase.DONE:
            if self._glued:
                line, self._glued = self._glued, b""
            else:
                next_line = self._lines.next_line()
                if next_line is NEED_DATA:
                    return NEED_DATA
                line = next_line if next_line is not None else self._lines.take_rest()
                if next_line is None and not line:
                    self._fail("stream: expected a whole result before the end, got none")
            event = self._read_object(line) if self._phase is _Phase.OBJECT else self._read_line(line)
            if event is not None:
                return event
        return None if self._eof else NEED_DATA

    def _read_line(self, line: bytes) -> ProgressEvent | None:
        line = line.removeprefix(_BOM)  # .NET's writers begin a stream with one
        start = None if _TUPLE_LINE.fullmatch(line) else _OBJECT_START.search(line)
        if start is None:
            return self._read_progress(line)
        event = self._read_progress(line[: start.start()])
        self._glued = line[start.start() :]
        self._phase = _Phase.OBJECT
        return event

    def _read_progress(self, line: bytes) -> Progress | ProgressEnd | None:
        echo, self._echo = self._echo, None
        if self._phase is _Phase.ENDED or _decode(line) == echo:
            return None
        if update := _TUPLE_LINE.fullmatch(line):
            file, fraction = _unquote(_decode(update[1])), float(update[2])
        elif total := _TOTAL_LINE.fullmatch(line):
            file, fraction = _decode(total[2] or b""), float(total[1]) / 100
        elif any(marker in line for marker in _END_MARKERS):
            file, fraction = "", 1.0
        else:
            return None
        if fraction > 1:
            return None
        if fraction == 1 and not file:
            self._phase = _Phase.ENDED
            return ProgressEnd()
        progress = Progress(file=file, fraction=fraction)
        if update:
            self._echo = _total_line(progress)
        return progress

    def _read_object(self, line: bytes) -> DownloadResult | None:
        """Add a line to the final object, which ends with the brace that closes its first."""
        end = len(line)
        for found in _STRUCTURE.finditer(line):
            if found[0] == b'"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += _DEPTH.get(found[0], 0)
                if self._depth == 0:
                    self._phase = _Phase.DONE
                    end = found.end()
                    break
        self._object += line[:end]
        self._object += b"\n"
        if len(self._object) - 1 > self._max_event_size:
            self._fail(f"result: expected at most {self._max_event_size} bytes, got more")
        if self._phase is not _Phase.DONE:
            return None
        result = self._decode_result()
        self._lines = LineBuffer(max_line_size=self._max_event_size)  # what else came is of no interest
        return result

    def _decode_result(self) -> DownloadResult:
        try:
            members = json.loads(
                _decode(self._object), object_pairs_hook=list, parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError):
            self._fail("result: expected a JSON object, got something else")
        flags = [value for key, value in members if key.lower() == "success"]
        if not flags or not all(isinstance(flag, bool) for flag in flags):
            self._fail('result: expected a boolean "success"')
        texts = [
            value
            for name in ("errormessage", "error")
            for key, value in members
            if key.lower() == name and isinstance(value, str)
        ]
        # Choice: a result that says both is a failure.
        return DownloadResult(success=all(flags), error_message=texts[0] if texts else None)

    def _fail(self, message: str) -> NoReturn:
        self._error = message
        raise RemoteProtocolError(message)


def _decode(data: bytes | bytearray) -> str:
    # Choice: invalid UTF-8 is replaced, not refused: a broken byte in a message must not hide the message.
    return data.decode("utf-8", "replace")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
