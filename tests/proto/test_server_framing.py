"""What a server's connection refuses of a request's framing; memory, time, the laws for any bytes at all."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import h11
import pytest
from attrs import define, field
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foundry_proto.connection import Limits, Phase, ServerConnection
from foundry_proto.events import Disconnected, Failure, Head, Request, Response
from foundry_proto.sentinels import NEED_DATA
from tests.support.chunking import byte_by_byte, chunkings, in_pieces, whole
from tests.support.connections import Driver, phase, wants_data
from tests.support.fakes import FAKES, Widget

OK = Response(value=Widget(name="a"))
GET = b"GET /widgets/a HTTP/1.1\r\nHost: x\r\n\r\n"
COPY_HEAD = b"POST /v1/copies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMITS = Limits(head=200, drain=20, waiting=50)


def driven(*pieces: bytes, limits: Limits = LIMITS, eof: bool = False) -> Driver:
    driver = Driver(ServerConnection(FAKES, limits=limits), lambda _: (OK,))
    driver.feed(*pieces)
    if eof:
        driver.end()
    return driver


def outcome(driver: Driver) -> tuple[list[object], bytes, Phase]:
    return driver.events, driver.output, phase(driver.connection)


def answered(driver: Driver) -> list[int]:
    """The statuses of all final answers."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", driver.output)]


def get(*headers: bytes) -> bytes:
    return b"\r\n".join((b"GET /widgets/a HTTP/1.1", b"Host: x", *headers, b"", b""))


@pytest.mark.parametrize(
    "host", [b"x", b"", b"x.example:80", b"127.0.0.1:5272", b"[::1]:5272", b"[fe80::1%25a]", b"x:"]
)
def test_a_host_may_be_a_name_or_an_address(host: bytes) -> None:
    driver = driven(b"GET /widgets/a HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert answered(driver) == [200]


LF = "expected no bare LF in a request's head"
CR = "expected no bare CR and no folded header in a request's head"
NUL = "expected no NUL in a request's head"
LONG = "expected a request's head of at most 200 bytes, got more"

MALFORMED: dict[str, tuple[bytes, int, str]] = {
    # RFC 9112, section 2.2: a lone LF may end a line for a lenient reader, and for no other.
    "bare LF": (b"GET /widgets/a HTTP/1.1\nHost: x\n\n", 400, LF),
    "bare LF first": (b"\nGET /widgets/a HTTP/1.1\r\nHost: x\r\n\r\n", 400, LF),
    "bare LF in the request line": (b"GET /widgets/a\n HTTP/1.1\r\nHost: x\r\n\r\n", 400, LF),
    "bare LF before the end": (b"GET /widgets/a HTTP/1.1\r\nHost: x\n\r\n", 400, LF),
    "bare LF as the end": (b"GET /widgets/a HTTP/1.1\r\nHost: x\r\n\n", 400, LF),
    "bare LF in a value": (get(b"X: a\nTransfer-Encoding: chunked"), 400, LF),
    "bare CR in a value": (get(b"X: a\rb"), 400, CR),
    "bare CR in a name": (get(b"X\rY: a"), 400, CR),
    "two CRs": (b"GET /widgets/a HTTP/1.1\r\r\nHost: x\r\n\r\n", 400, CR),
    "bare CR first": (b"\rGET /widgets/a HTTP/1.1\r\nHost: x\r\n\r\n", 400, CR),
    # Section 5.2: obs-fold.
    "a folded header": (get(b"X: a\r\n b"), 400, CR),
    "a header folded by a tab": (get(b"X: a\r\n\tb"), 400, CR),
    "a folded request line": (b"GET /widgets/a HTTP/1.1\r\n Host: x\r\n\r\n", 400, CR),
    "NUL in a value": (get(b"X: a\0b"), 400, NUL),
    "NUL in the target": (b"GET /widgets/\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400, NUL),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, NUL),
    # Of two things that are wrong, the first is told.
    "NUL before LF": (b"\0\n", 400, NUL),
    "LF before NUL": (b"\n\0", 400, LF),
    "a blank before the method": (b" " + GET, 400, "illegal request line"),
    "no version": (b"GET /widgets/a\r\n\r\n", 400, "illegal request line"),
    "two blanks": (b"GET  /widgets/a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "illegal request line"),
    "a letter beyond ASCII": (
        "GET /widgets/é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        400,
        "illegal request line",
    ),
    "a long version": (b"GET /widgets/a HTTP/1.10\r\nHost: x\r\n\r\n", 400, "illegal request line"),
    "HTTP/2's preface": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        505,
        "expected HTTP/1.1 or HTTP/1.0, got HTTP/2.0",
    ),
    "HTTP/0.9": (b"GET /widgets/a HTTP/0.9\r\n\r\n", 505, "expected HTTP/1.1 or HTTP/1.0, got HTTP/0.9"),
    "no host": (b"GET /widgets/a HTTP/1.1\r\n\r\n", 400, "missing mandatory Host: header"),
    "a host that is none": (
        b"GET /widgets/a HTTP/1.1\r\nHost: a b/c\r\n\r\n",
        400,
        "host: expected a name or an address, got 'a b/c'",
    ),
    "a host with a user": (
        b"GET /widgets/a HTTP/1.1\r\nHost: me@x\r\n\r\n",
        400,
        "host: expected a name or an address, got 'me@x'",
    ),
    "a port that is none": (
        b"GET /widgets/a HTTP/1.1\r\nHost: x:http\r\n\r\n",
        400,
        "host: expected a name or an address, got 'x:http'",
    ),
    "two hosts": (get(b"Host: x"), 400, "found multiple Host: headers"),
    "a blank before the colon": (get(b"X : a"), 400, "illegal header line"),
    "no colon": (get(b"X"), 400, "illegal header line"),
    "no name": (get(b": a"), 400, "illegal header line"),
    "a form feed": (get(b"X: a\x0cb"), 400, "illegal header line"),
    "a length that is none": (get(b"Content-Length: x"), 400, "bad Content-Length"),
    "a negative length": (get(b"Content-Length: -1"), 400, "bad Content-Length"),
    "a signed length": (get(b"Content-Length: +1"), 400, "bad Content-Length"),
    "an endless length": (get(b"Content-Length: " + b"1" * 21), 400, "bad Content-Length"),
    "two lengths": (
        get(b"Content-Length: 1", b"Content-Length: 2"),
        400,
        "conflicting Content-Length headers",
    ),
    "a list of lengths": (get(b"Content-Length: 1, 2"), 400, "conflicting Content-Length headers"),
    "an unknown coding": (
        get(b"Transfer-Encoding: gzip"),
        501,
        "only Transfer-Encoding: chunked is supported",
    ),
    "two codings": (
        get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        501,
        "multiple Transfer-Encoding headers",
    ),
    "a head over the limit": (get(b"X: " + b"a" * 200), 431, LONG),
    "a request line over the limit": (b"GET /" + b"a" * 200, 431, LONG),
    "many headers": (get(*[b"a:"] * 100), 431, LONG),
    # What is wrong beyond the limit is not looked at.
    "LF beyond the limit": (get(b"X: " + b"a" * 200 + b"\n"), 431, LONG),
    "LF before the limit": (get(b"X: \n" + b"a" * 200), 400, LF),
    "CR at the limit": (b"GET /" + b"a" * 194 + b"\rx", 431, LONG),
    "a chunk without a size": (COPY_HEAD + b"\r\n", 400, "illegal chunk header"),
    "a chunk's size that is none": (COPY_HEAD + b"x\r\n", 400, "illegal chunk header"),
    "a chunk's size with a sign": (COPY_HEAD + b"+5\r\n", 400, "illegal chunk header"),
    "a chunk's size in hexadecimal of C": (COPY_HEAD + b"0x5\r\n", 400, "illegal chunk header"),
    "a chunk's size of 21 digits": (COPY_HEAD + b"0" * 21 + b"\r\n", 400, "illegal chunk header"),
    "a chunk's size behind a blank": (COPY_HEAD + b" 5\r\n", 400, "illegal chunk header"),
    "a bare LF in a chunk's extension": (COPY_HEAD + b"5;a\nb\r\n", 400, "illegal chunk header"),
    "a chunk that goes on": (COPY_HEAD + b"2\r\n{}{}\r\n", 400, "malformed chunk footer"),
    "a chunk's extension over the limit": (COPY_HEAD + b"5;" + b"a" * 200, 431, "receive buffer too long"),
    "trailers over the limit": (COPY_HEAD + b"0\r\nX: " + b"a" * 200, 431, "receive buffer too long"),
    "a trailer without a colon": (COPY_HEAD + b"0\r\nX\r\n\r\n", 400, "illegal header line"),
    "a bare LF as a chunked body's end": (
        COPY_HEAD + b"2\r\n{}\r\n0\r\n\n" + GET,
        400,
        "expected CRLF CRLF at the end of a chunked body",
    ),
    "trailers that end with bare LFs": (
        COPY_HEAD + b"2\r\n{}\r\n0\r\nX: y\n\n" + GET,
        400,
        "expected CRLF CRLF at the end of a chunked body",
    ),
}


@pytest.mark.parametrize(("data", "status", "message"), MALFORMED.values(), ids=MALFORMED)
def test_broken_framing_is_answered_and_ends_the_connection(data: bytes, status: int, message: str) -> None:
    driver = driven(data, GET)
    assert driver.seen()[-1] == message
    assert f'"message":"{message}"'.encode() in driver.output
    assert answered(driver) == [status]
    assert b"\r\nconnection: close\r\n" in driver.output.lower()
    assert phase(driver.connection) is Phase.CLOSING


@pytest.mark.parametrize(("data", "status", "message"), MALFORMED.values(), ids=MALFORMED)
def test_broken_framing_is_the_same_however_it_is_cut(data: bytes, status: int, message: str) -> None:
    at_once = outcome(driven(*whole(data + GET)))
    for size in (1, 2, 3, 7, 200, 201):
        assert outcome(driven(*in_pieces(data + GET, size))) == at_once


def test_a_server_error_of_framing_is_called_one() -> None:
    driver = driven(b"GET / HTTP/3.0\r\n\r\n")
    assert b'"type":"server_error"' in driver.output


@pytest.mark.parametrize("padding", [-1, 0])
def test_a_head_up_to_the_limit_is_read(padding: int) -> None:
    bare = len(get(b"X: "))
    data = get(b"X: " + b"a" * (LIMITS.head - bare + padding))
    for cut in (whole, byte_by_byte):
        assert driven(*cut(data)).seen() == ["Head", "Request"]


@pytest.mark.parametrize("length", [b"5, 5", b"5,5", b"05"])
def test_one_length_may_be_written_in_several_ways(length: bytes) -> None:
    data = b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\nhello" + GET
    assert driven(data).seen() == ["Failure", "Head", "Request"]


@pytest.mark.parametrize(
    "body",
    [
        b"0\r\n\r\n",
        b"2\r\n{}\r\n0\r\n\r\n",
        b"1\r\n{\r\n1\r\n}\r\n000\r\n\r\n",
        b"2;name=value\r\n{}\r\n0;last\r\nX: y\r\nZ:\r\n\r\n",
        b"A\r\n          \r\n0\r\n\r\n",
    ],
)
def test_chunks_are_read_to_their_very_end(body: bytes) -> None:
    for cut in (whole, byte_by_byte):
        driver = driven(*cut((COPY_HEAD + body + GET) * 2))
        assert driver.seen() == ["Head", "Failure", "Head", "Request"] * 2
        assert phase(driver.connection) is Phase.IDLE


@define
class Counting(h11.Connection):
    """Counts what it is given, and how much it holds at most."""

    given: int = field(init=False, default=0)
    most: int = field(init=False, default=0)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given = self.most = 0

    def receive_data(self, data: bytes) -> None:
        self.given += len(data)
        super().receive_data(data)
        self.most = max(self.most, len(self._receive_buffer))


def counted(head: bytes, body: bytes, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """How much h11 is given of a request whose body arrives in pieces of 64 KiB."""
    monkeypatch.setattr(h11, "Connection", Counting)
    connection = ServerConnection(FAKES)
    http = connection._requests._http
    assert isinstance(http, Counting)
    events: list[object] = []
    for piece in in_pieces(head + body, 65_536):
        connection.receive_data(piece)
        while (event := connection.next_event()) is not NEED_DATA:
            events.append(event)
        # Nothing stays in the input: what is read is the exchange's.
        assert not connection._requests._input
    assert [type(event) for event in events] == [Head, Request]
    return http


def test_a_body_is_handed_on_once_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"name":"' + b"x" * 3_000_000 + b'"}'
    head = b"POST /v1/copies HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    http = counted(head, body, monkeypatch)
    assert http.given == len(head)  # A body whose length is told needs no parser.


def test_a_chunked_body_is_handed_on_once_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b'{"name":"' + b"x" * 1_000_000 + b'"}'
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in in_pieces(text, 1000)) + b"0\r\n\r\n"
    http = counted(COPY_HEAD, body, monkeypatch)
    assert http.given == len(COPY_HEAD) + len(body)
    assert http.most <= Limits().head + 1


def test_a_head_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Searched(bytearray):
        searched = 0

        def find(self, sub: Any, start: Any = 0, end: Any = None, /) -> int:
            found = super().find(sub, start, end)
            self.searched += (found if found >= 0 else min(len(self), end)) - start
            return found

    connection = ServerConnection(FAKES)
    buffer = connection._requests._input = Searched()
    data = get(b"X: " + b"a" * 30_000)
    for piece in byte_by_byte(data):
        connection.receive_data(piece)
        assert connection.next_event() is NEED_DATA or connection.phase is Phase.BODY
    # Three bytes are looked at again each time: they may begin the head's end.
    assert buffer.searched <= 4 * len(data)


def test_memory_stays_within_the_limits_while_an_answer_is_made() -> None:
    driver = Driver(ServerConnection(FAKES), lambda _: ())
    driver.feed(GET)
    piece = GET * 100
    tracemalloc.start()
    while wants_data(driver.connection):
        driver.feed(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The buffer, and room for it to grow.
    assert peak < 2 * (Limits().waiting + len(piece))


def test_memory_stays_within_the_limits_whatever_a_client_sends() -> None:
    for endless in (b"\r\n", b"GET /", b"X: y\r\n", b"a"):
        driver = driven(limits=Limits())
        piece = endless * (65_536 // len(endless))
        tracemalloc.start()
        for _ in range(20):
            driver.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 * Limits().head


def test_a_large_body_of_an_answered_request_is_not_kept() -> None:
    limits = Limits(drain=1_000_000)
    driver = driven(b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", limits=limits)
    tracemalloc.start()
    for _ in range(100):
        driver.feed(b"x" * 10_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    assert phase(driver.connection) is Phase.IDLE


def test_a_closing_connection_keeps_nothing() -> None:
    driver = driven(b"nonsense\r\n\r\n" + b"x" * 100)
    driver.feed(b"x" * 100_000)
    assert not driver.connection._requests._input
    assert wants_data(driver.connection)


REQUESTS = (
    GET,
    get(b"Expect: 100-continue", b"Content-Length: 3") + b"abc",
    b'POST /v1/copies HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{"name":"b"}',
    COPY_HEAD + b'7\r\n{"name"\r\n5;ext=1\r\n:"b"}\r\n0\r\nTrailer: x\r\n\r\n',
    b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"GET /widgets/a HTTP/1.0\r\n\r\n",
    b"HEAD /widgets/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    *(data for data, _, _ in MALFORMED.values()),
)
TOKENS = st.sampled_from(
    [
        *b"\r\n\0 :\t;,",
        *(b"\r\n", b"\r\n\r\n", b"HTTP/1.1", b"HTTP/2.0", b"GET ", b"POST ", b"Content-Length: ", b"5", b"-"),
        *(
            b"Transfer-Encoding: chunked\r\n",
            b"Expect: 100-continue\r\n",
            b"Connection: close\r\n",
            b"Host: x\r\n",
        ),
        *(b"/widgets/a", b"/v1/copies", b"%ff", b"?", b"\xff", b"0\r\n\r\n", b'{"name":"b"}'),
    ]
).map(lambda token: bytes([token]) if isinstance(token, int) else token)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """Requests in a row, with bytes taken out, doubled, changed or put in between."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 5)))
        data[start:end] = draw(
            st.just(b"") | st.just(bytes(data[start:end] * 2)) | TOKENS | st.binary(max_size=3)
        )
    return bytes(data)


ANYTHING = mutations() | st.binary(max_size=100) | st.lists(TOKENS, max_size=20).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(ANYTHING, st.booleans())
@example(b"\r", False)
@example(b"\r\n\r\n\r", True)
def test_any_bytes_give_events_or_a_remote_error(data: bytes, eof: bool) -> None:
    # Any other exception, or one while the answer is sent, would end this test.
    driver = driven(data, eof=eof)
    # Each request, whole or not, has one answer.
    questions = [event for event in driver.events if isinstance(event, str | Request | Failure | Response)]
    assert len(answered(driver)) == len(questions)
    # The end is told once, and is the end.
    assert Disconnected() not in driver.events[:-1]
    if eof:
        assert phase(driver.connection) is Phase.CLOSING


@settings(deadline=None, max_examples=300)
@given(ANYTHING, st.data())
def test_any_chunking_of_any_bytes_gives_the_same_events(data: bytes, draw: st.DataObject) -> None:
    assert outcome(driven(*draw.draw(chunkings(data)))) == outcome(driven(data))


@settings(deadline=None, max_examples=100)
@given(ANYTHING)
def test_any_bytes_one_by_one_give_the_same_events(data: bytes) -> None:
    assert outcome(driven(*byte_by_byte(data), eof=True)) == outcome(driven(data, eof=True))
