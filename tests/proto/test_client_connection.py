"""A client's connection: calls, reuse, and what any reply's framing is read as."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.connection import ClientConnection, ServerConnection
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Failure, Headers, Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer
from foundry_proto.operations import Operation
from foundry_proto.sentinels import NEED_DATA
from tests.support.chunking import byte_by_byte, chunkings, in_pieces, whole
from tests.support.connections import Driver, Read, read
from tests.support.fakes import COPY, DROP, FAKES, FIND, PUT, Widget

BODY = b'{"name":"a"}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n" + BODY
HEADERS = ((b"content-type", b"application/json"), (b"content-length", b"12"))
RESPONSE = Response(value=Widget(name="a"), headers=HEADERS)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAMED = STREAM_HEAD + b'd\r\n{"name":"a"}\n\r\n4\r\nend\n\r\n0\r\n\r\n'
ITEM = StreamItem(value=Widget(name="a"))


def calling(operation: Operation[Any, Any, Any] = FIND, **arguments: Any) -> ClientConnection:
    """A connection on which a call was begun."""
    client = ClientConnection("localhost:5272", limit=1000)
    value = Widget(name="b") if operation.has_body else None
    client.call(operation, value, **{"params": {"name": "a"}, **arguments})
    return client


def test_a_call_is_a_request_in_full() -> None:
    client = ClientConnection("localhost:5272")
    assert client.reusable
    assert client.call(
        PUT,
        Widget(name="é"),
        params={"name": "a b"},
        query={"x": "1"},
        headers=((b"authorization", b"Bearer t"),),
        method="POST",
    ) == (
        b"POST /widgets/a%20b?x=1 HTTP/1.1\r\nhost: localhost:5272\r\ncontent-type: application/json\r\n"
        b"content-length: 13\r\nauthorization: Bearer t\r\n\r\n" + '{"name":"é"}'.encode()
    )
    assert not client.reusable


def test_a_call_without_a_body_is_a_head() -> None:
    call = ClientConnection("x").call(FIND, params={"name": "a"})
    assert call == b"GET /widgets/a HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_an_answer_ends_the_call_and_keeps_the_connection(cut: Any) -> None:
    client = calling()
    for _ in range(3):
        assert read(client, cut(WHOLE)) == Read([RESPONSE])
        assert client.reusable
        client.call(FIND, params={"name": "a"})


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_a_streamed_answer_ends_with_its_end_and_keeps_the_connection(cut: Any) -> None:
    client = calling(COPY)
    assert read(client, cut(STREAMED)) == Read([ITEM, StreamEnd()])
    assert client.reusable


def test_a_connection_is_reusable_as_soon_as_the_last_event_was_told() -> None:
    client = calling(COPY)
    client.receive_data(STREAMED)
    reusable = [(client.next_event(), client.reusable) for _ in range(3)]
    assert reusable == [(ITEM, False), (StreamEnd(), True), (NEED_DATA, True)]


def test_a_connection_waits_for_the_framing_behind_the_last_event() -> None:
    client = calling(COPY)
    assert read(client, [STREAMED[:-7]]) == Read([ITEM, StreamEnd()])
    assert not client.reusable
    assert read(client, [STREAMED[-7:-1]]) == Read([])
    assert not client.reusable
    assert read(client, [STREAMED[-1:]]) == Read([])
    assert client.reusable


def test_what_follows_a_streams_end_is_forgotten() -> None:
    client = calling(COPY)
    more = b"5\r\nmore\n\r\n" * 1000
    assert read(client, in_pieces(STREAMED[:-5] + more + b"0\r\n\r\n", 500)) == Read([ITEM, StreamEnd()])
    assert client.reusable


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_what_is_broken_behind_an_answer_only_ends_the_connection(cut: Any) -> None:
    client = calling(COPY)
    assert read(client, cut(STREAMED[:-5] + b"nonsense\r\n\r\n"), eof=True) == Read([ITEM, StreamEnd()])
    assert not client.reusable


CLOSED: dict[str, tuple[bytes, list[object]]] = {
    "close": (WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), []),
    "HTTP/1.0": (WHOLE.replace(b"1.1", b"1.0"), []),
    "an end by closing": (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, []),
}


@pytest.mark.parametrize(("reply", "_"), CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_an_answer_that_closes_the_connection_is_whole_all_the_same(reply: bytes, _: Any, cut: Any) -> None:
    client = calling()
    told = read(client, cut(reply), eof=True)
    assert told.error is None
    assert [event.value for event in told.events if isinstance(event, Response)] == [Widget(name="a")]
    assert not client.reusable


def test_a_connection_that_the_server_closes_while_idle_is_not_reusable() -> None:
    client = calling()
    assert read(client, [WHOLE]) == Read([RESPONSE])
    assert client.reusable
    assert read(client, [], eof=True) == Read([])
    assert not client.reusable


@pytest.mark.parametrize("before", [b"", WHOLE])
def test_bytes_that_nobody_asked_for_spoil_the_connection(before: bytes) -> None:
    # They would be taken for the next call's answer.
    client = calling() if before else ClientConnection("x")
    assert read(client, [before + WHOLE]) == Read([RESPONSE] if before else [])
    assert not client.reusable
    assert read(client, [b"more"]) == Read([])


def test_before_a_call_there_is_nothing_to_tell() -> None:
    client = ClientConnection("x")
    assert client.next_event() is NEED_DATA
    client.receive_eof()
    assert client.next_event() is NEED_DATA
    assert not client.reusable


def test_interim_answers_are_passed_over() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    assert read(calling(), [interim * 50 + WHOLE]) == Read([RESPONSE])


def test_an_answer_to_head_has_no_body() -> None:
    client = calling(method="HEAD")
    assert read(client, [WHOLE.removesuffix(BODY)]) == Read([Response(value=None, headers=HEADERS)])
    assert client.reusable


def test_a_failure_ends_the_call_and_keeps_the_connection() -> None:
    body = b'{"error":{"message":"no such widget","type":"invalid_request_error","param":"name"}}'
    reply = b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    client = calling()
    told = read(client, [reply])
    headers: Headers = ((b"content-length", b"%d" % len(body)),)
    assert told == Read([Failure(status=404, message="no such widget", param="name", headers=headers)])
    assert client.reusable


FRAMING = "the server broke the framing: "
BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the server closed the connection without an answer"),
    "an interim answer alone": (
        b"HTTP/1.1 100 Continue\r\n\r\n",
        "the server closed the connection without an answer",
    ),
    "a part of a head": (WHOLE[:20], FRAMING + "peer unexpectedly closed connection"),
    "a part of a body": (
        WHOLE[:-1],
        FRAMING
        + "peer closed connection without sending complete message body (received 11 bytes, expected 12)",
    ),
    "a part of a chunk": (
        STREAMED[:-8],
        FRAMING + "peer closed connection without sending complete message body (incomplete chunked read)",
    ),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", FRAMING + "illegal status line"),
    "TLS": (b"\x15\x03\x01\x00\x02\x02\x46", FRAMING + "illegal status line"),
    "a head over the limit": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, FRAMING + "receive buffer too long"),
    "an unknown coding": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        FRAMING + "only Transfer-Encoding: chunked is supported",
    ),
    "another protocol": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        FRAMING + "received server _SWITCH_UPGRADE event without a pending proposal",
    ),
    "a body over the limit": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001,
        "expected an answer of at most 1000 bytes, got more",
    ),
    "an answer that means nothing": (
        WHOLE.replace(b"name", b"size"),
        "the answer is not what was expected: name: expected a string, got nothing",
    ),
}


@pytest.mark.parametrize(("reply", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_reply_is_an_error_for_good(reply: bytes, message: str) -> None:
    for size in (1, 7, 1000, 100_000):
        client = calling()
        assert read(client, in_pieces(reply, size), eof=True) == Read([], message)
        assert not client.reusable
        with pytest.raises(LocalProtocolError, match=r"^cannot call: the connection is busy or closing$"):
            client.call(DROP)


def test_an_offered_switch_of_protocol_is_no_answer() -> None:
    client = calling(headers=((b"connection", b"upgrade"), (b"upgrade", b"x")))
    reply = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes"
    assert read(client, [reply]) == Read([], "expected an answer, got a switch to another protocol")


def test_a_head_up_to_the_limit_is_read() -> None:
    head, _, body = WHOLE.partition(b"\r\n\r\n")
    padded = head + b"\r\nX: " + b"a" * (65_536 - len(head) - 9) + b"\r\n\r\n"
    assert len(padded) == 65_536
    for size in (1000, 100_000):
        told = read(calling(), in_pieces(padded + body, size))
        assert [type(event) for event in told.events] == [Response]


def test_a_second_call_has_to_wait_for_the_first() -> None:
    client = calling()
    with pytest.raises(LocalProtocolError, match=r"^cannot call: the connection is busy or closing$"):
        client.call(DROP)
    assert read(client, [WHOLE]) == Read([RESPONSE])


@pytest.mark.parametrize(
    ("host", "arguments", "message"),
    [
        (
            "é",
            {},
            "cannot call: 'ascii' codec can't encode character '\\xe9' in position 0: ordinal not in range",
        ),
        ("a\r\nb: c", {}, "cannot call: Illegal header value b'a\\r\\nb: c'"),
        ("x", {"method": "GET /"}, "cannot call: Illegal method characters"),
        ("x", {"headers": ((b"host", b"y"),)}, "cannot call: Found multiple Host: headers"),
        (
            "x",
            {"headers": ((b"x-note", b"a\nb"),)},
            "cannot send the header b'x-note' with the value b'a\\nb'",
        ),
        (
            "x",
            {"headers": ((b"content-length", b"5"),)},
            "cannot send the header b'content-length' with the value b'5'",
        ),
        ("x", {"params": {}}, "find: expected a value for each parameter of /widgets/{name}"),
    ],
)
def test_a_call_that_cannot_be_sent_is_misuse(host: str, arguments: dict[str, Any], message: str) -> None:
    client = ClientConnection(host)
    with pytest.raises(LocalProtocolError) as caught:
        client.call(FIND, **{"params": {"name": "a"}, **arguments})
    assert str(caught.value).removesuffix("(128)") == message
    # Nothing was sent: another call is still possible, if there is one.
    assert client.reusable


def test_data_after_the_end_is_misuse() -> None:
    client = ClientConnection("x")
    client.receive_eof()
    with pytest.raises(LocalProtocolError, match=r"^receive_data: expected no data after receive_eof$"):
        client.receive_data(b"x")


@pytest.mark.parametrize(
    ("operation", "answers"),
    [
        (FIND, [Response(value=Widget(name="é"))]),
        (FIND, [Failure(status=404, message="no such widget: é", param="name", code="x")]),
        (PUT, [Response(value=None, status=201)]),
        (PUT, [Response(value=None, status=204)]),
        (DROP, [Failure(status=503, message="later", headers=((b"retry-after", b"5"),))]),
        (COPY, [StreamEnd()]),
        (COPY, [ITEM, StreamItem(value=Widget(name="é", size=5)), StreamEnd()]),
        (COPY, [ITEM, Failure(status=500, message="no")]),
        (COPY, [Response(value=Widget(name="a"))]),
    ],
)
def test_a_client_is_told_what_a_server_sent(
    operation: Operation[Any, Any, Any], answers: list[Answer]
) -> None:
    client = ClientConnection("x")
    driver = Driver(ServerConnection(FAKES), lambda _: answers)
    value = Widget(name="b") if operation.has_body else None
    driver.feed(client.call(operation, value, params={"name": "a"}))
    told = read(client, [driver.output])
    assert told.error is None
    assert client.reusable

    def bare(event: Any) -> Any:
        return evolve(event, headers=()) if isinstance(event, Response | Failure) else event

    assert list(map(bare, told.events)) == list(map(bare, answers))


REPLIES = (
    WHOLE,
    STREAMED,
    STREAM_HEAD + b"a\r\nfailed no\n\r\n0\r\nTrailer: x\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno",
    *(reply for reply, _ in BROKEN.values() if len(reply) < 5000),
    *(reply for reply, _ in CLOSED.values()),
)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A reply and some of another, with bytes taken out, changed or put in between."""
    data = bytearray(draw(st.sampled_from(REPLIES)) + draw(st.sampled_from([b"", *REPLIES])))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 4)))
        data[start:end] = draw(
            st.binary(max_size=3) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n", b"5"])
        )
    return bytes(data)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([FIND, COPY, DROP]), mutations() | st.binary(max_size=60), st.booleans(), st.data())
def test_any_reply_in_any_chunking_gives_the_same_events_or_a_remote_error(
    operation: Operation[Any, Any, Any], data: bytes, eof: bool, draw: st.DataObject
) -> None:
    at_once = calling(operation)
    in_cuts = calling(operation)
    told = read(at_once, [data], eof=eof)
    assert read(in_cuts, draw.draw(chunkings(data)), eof=eof) == told
    assert at_once.reusable is in_cuts.reusable
    if told.error is not None or eof:
        assert not at_once.reusable
