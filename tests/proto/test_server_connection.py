"""A server's connection: keep-alive and its end, answers before the body is read, the end of the input."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.connection import Phase, ServerConnection
from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import (
    Disconnected,
    Failure,
    Head,
    Request,
    StreamEnd,
    StreamItem,
)
from foundry_proto.sentinels import NEED_DATA
from tests.support.chunking import byte_by_byte, chunkings, whole
from tests.support.connections import Driver, phase, wants_data
from tests.support.fakes import DROP, FAKES, FIND, Widget
from tests.support.served import (
    CHUNKED,
    COPY,
    GET,
    HEAD,
    OK,
    OK_BYTES,
    REFUSED,
    REFUSED_WITH_BODY,
    SMALL,
    Cut,
    always,
    heads,
    served,
    statuses,
)


def test_a_request_is_answered_and_the_connection_goes_on() -> None:
    driver = always(OK)
    assert phase(driver.connection) is Phase.IDLE
    driver.feed(GET[:5])
    assert phase(driver.connection) is Phase.HEAD
    driver.feed(GET[5:])
    assert driver.seen() == ["Head", "Request"]
    assert driver.output == OK_BYTES
    assert phase(driver.connection) is Phase.IDLE
    driver.feed(COPY[:-3])
    assert phase(driver.connection) is Phase.BODY
    driver.feed(COPY[-3:])
    assert driver.output == OK_BYTES * 2


def test_every_request_of_a_connection_is_its_peers() -> None:
    driver = Driver(ServerConnection(FAKES, client="[::1]:50123"))
    driver.feed(GET * 2)
    assert [event.client for event in driver.events if isinstance(event, Head)] == ["[::1]:50123"] * 2


def test_a_request_is_being_answered_until_the_answer_is_whole() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(COPY)
    assert isinstance(connection.next_event(), Head)
    assert phase(connection) is Phase.BODY
    assert isinstance(connection.next_event(), Request)
    assert phase(connection) is Phase.RESPONDING
    assert connection.next_event() is NEED_DATA
    connection.send(StreamItem(value=Widget(name="b")))
    assert phase(connection) is Phase.RESPONDING
    connection.send(StreamEnd())
    assert phase(connection) is Phase.IDLE


MEANINGLESS = b"POST /v1/copies HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
OPTIONS = b"OPTIONS /v1/copies HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /widgets/a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
CONNECT = b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"
KEPT = {
    "GET": (GET, ["Head", "Request"]),
    "POST": (COPY, ["Head", "Request"]),
    "chunked": (CHUNKED, ["Head", "Request"]),
    "refused": (REFUSED, ["Failure"]),
    "refused with a body": (REFUSED_WITH_BODY, ["Failure"]),
    "without a meaning": (MEANINGLESS, ["Head", "Failure"]),
    "OPTIONS": (OPTIONS, ["Response"]),
    "HEAD": (HEAD, ["Head", "Request"]),
    "an upgrade that is not offered": (UPGRADE, ["Head", "Request"]),
    "CONNECT": (CONNECT, ["Failure"]),
    "empty lines before it": (b"\r\n\r\n" + GET, ["Head", "Request"]),
}


@pytest.mark.parametrize(("request_", "seen"), KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_pipelined_requests_are_answered_in_turn(request_: bytes, seen: list[str], cut: Cut) -> None:
    driver = served(cut(request_ * 3))
    assert driver.seen() == seen * 3
    assert phase(driver.connection) is Phase.IDLE
    assert driver.output == served(whole(request_)).output * 3


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(KEPT)), max_size=5), st.data())
def test_any_chunking_of_any_requests_gives_the_same_events(names: list[str], data: st.DataObject) -> None:
    stream = b"".join(KEPT[name][0] for name in names)
    driver = served(data.draw(chunkings(stream)))
    assert driver.seen() == [event for name in names for event in KEPT[name][1]]
    assert driver.output == served(whole(stream)).output
    driver.end()
    assert isinstance(driver.events[-1], Disconnected)
    assert phase(driver.connection) is Phase.CLOSING


CLOSING = {
    "close asked for": GET.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive, Close\r\n\r\n"),
    "HTTP/1.0": b"GET /widgets/a HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with keep-alive": b"GET /widgets/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "a length and chunks": CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 12\r\n\r\n", 1),
    "chunks in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "refused, close asked for": REFUSED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    "refused with a large body": REFUSED_WITH_BODY.replace(b": 5", b": 21"),
    "refused with chunks": CHUNKED.replace(b"/v1/copies", b"/nope"),
    "refused while waiting for 100": REFUSED_WITH_BODY.replace(
        b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"
    ),
}


@pytest.mark.parametrize("request_", CLOSING.values(), ids=CLOSING)
@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_an_answer_that_must_be_the_last_says_so(request_: bytes, cut: Cut) -> None:
    driver = served(cut(request_ + GET))
    response = heads(driver.output)[0]
    assert isinstance(response, h11.Response)
    assert (b"connection", b"close") in response.headers
    # What came behind it is not looked at.
    assert len(statuses(driver.output)) == 1
    assert phase(driver.connection) is Phase.CLOSING
    driver.feed(GET)
    driver.end()
    assert driver.seen()[-1] == "Disconnected"
    assert len(statuses(driver.output)) == 1


def test_a_stream_to_http_1_0_is_not_chunked() -> None:
    request = COPY.replace(b"HTTP/1.1", b"HTTP/1.0")
    driver = served([request], StreamItem(value=Widget(name="a")), StreamEnd())
    head, _, body = driver.output.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert body == b'{"name":"a"}\nend\n'


def test_a_stream_to_http_1_1_is_chunked_piece_by_piece() -> None:
    driver = served([COPY], StreamItem(value=Widget(name="a")), StreamEnd())
    head, _, body = driver.output.partition(b"\r\n\r\n")
    assert head == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-cache\r\n"
        b"Transfer-Encoding: chunked"
    )
    assert body == b'd\r\n{"name":"a"}\n\r\n4\r\nend\n\r\n0\r\n\r\n'


EXPECTING = COPY.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
EXPECTING_HEAD, EXPECTING_BODY = EXPECTING[:-12], EXPECTING[-12:]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_client_that_waits_for_100_is_told_to_go_on() -> None:
    driver = always(OK)
    driver.feed(EXPECTING_HEAD)
    assert driver.seen() == ["Head"]
    assert driver.output == CONTINUE
    # It is told once.
    assert driver.connection.accept_body() == b""
    driver.feed(EXPECTING_BODY)
    assert driver.output == CONTINUE + OK_BYTES
    assert phase(driver.connection) is Phase.IDLE


def test_a_client_that_does_not_wait_is_told_nothing() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(COPY)
    assert connection.accept_body() == b""
    connection.next_event()
    assert connection.accept_body() == b""


def test_a_client_that_waits_may_be_refused_instead() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(EXPECTING_HEAD)
    assert isinstance(connection.next_event(), Head)
    (write,) = connection.send(Failure(status=401, message="who are you?"))
    assert write.data.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nconnection: close\r\n" in write.data
    assert phase(connection) is Phase.CLOSING


def test_a_waiting_client_without_a_body_keeps_its_connection() -> None:
    driver = served([GET.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")])
    assert driver.output == CONTINUE + OK_BYTES
    assert phase(driver.connection) is Phase.IDLE


@pytest.mark.parametrize("size", [0, 1, 20])
def test_a_small_rest_of_an_unwanted_body_is_forgotten(size: int) -> None:
    request = REFUSED_WITH_BODY.replace(b": 5", b": %d" % size)[:-5]
    driver = served([request])
    assert statuses(driver.output) == [404]
    assert phase(driver.connection) is (Phase.BODY if size else Phase.IDLE)
    driver.feed(b"x" * size + GET)
    assert statuses(driver.output) == [404, 200]
    assert phase(driver.connection) is Phase.IDLE


def test_what_was_read_of_a_body_does_not_count_to_its_rest() -> None:
    connection = ServerConnection(FAKES, limits=SMALL)
    connection.receive_data(b"PUT /widgets/a HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n" + b"x" * 30)
    assert isinstance(connection.next_event(), Head)
    assert connection.next_event() is NEED_DATA
    (write,) = connection.send(Failure(status=403, message="no"))
    assert b"connection: close" not in write.data
    assert phase(connection) is Phase.BODY
    connection.receive_data(b"x" * 20)
    assert connection.next_event() is NEED_DATA
    assert phase(connection) is Phase.IDLE


def test_a_body_that_becomes_too_large_is_refused_and_ends_the_connection() -> None:
    head = b"PUT /widgets/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    driver = served([head, b"65\r\n", b"x" * 0x65 + b"\r\n", b"0\r\n\r\n" + GET])
    assert driver.seen() == ["Head", "Failure"]
    assert driver.events[1] == Failure(
        status=413, message="body: expected at most 100 bytes, got more", code="request_too_large"
    )
    assert statuses(driver.output) == [413]
    assert phase(driver.connection) is Phase.CLOSING


def test_while_an_answer_is_made_input_waits_up_to_a_limit() -> None:
    driver = Driver(ServerConnection(FAKES, limits=SMALL), lambda _: ())
    driver.feed(GET)
    connection = driver.connection
    assert phase(connection) is Phase.RESPONDING
    assert wants_data(connection)
    driver.feed(b"x" * 49)
    assert wants_data(connection)
    driver.feed(b"x")
    assert not wants_data(connection)
    assert len(connection._requests._input) == 50
    driver.writes += connection.send(OK)
    assert wants_data(connection)
    driver.feed()
    assert statuses(driver.output) == [200]


@pytest.mark.parametrize("data", [b"", GET[:9], COPY[:-3]])
def test_outside_of_an_answer_input_is_always_wanted(data: bytes) -> None:
    driver = served([data])
    assert wants_data(driver.connection)


def test_the_end_of_the_input_is_told_once() -> None:
    driver = always(OK)
    driver.end()
    driver.pump()
    assert driver.events == [Disconnected()]
    assert phase(driver.connection) is Phase.CLOSING


def test_a_client_that_hangs_up_while_it_is_answered_is_told_of_at_once() -> None:
    driver = Driver(ServerConnection(FAKES), lambda _: ())
    driver.feed(COPY + GET)
    driver.end()
    driver.pump()
    assert driver.seen() == ["Head", "Request", "Disconnected"]
    # It may have closed one way only: the answer can still be sent, and is the last.
    assert phase(driver.connection) is Phase.RESPONDING
    driver.writes += driver.connection.send(OK)
    assert driver.output == OK_BYTES
    assert phase(driver.connection) is Phase.CLOSING
    assert driver.connection.next_event() is NEED_DATA


def test_requests_that_came_before_the_end_of_the_input_are_answered() -> None:
    driver = always(OK)
    driver.connection.receive_data(GET + COPY)
    driver.connection.receive_eof()
    driver.pump()
    assert driver.seen() == ["Head", "Request", "Head", "Request", "Disconnected"]
    assert driver.output == OK_BYTES * 2


@pytest.mark.parametrize("request_", [GET, COPY, CHUNKED, REFUSED_WITH_BODY])
def test_a_request_that_ends_anywhere_is_400_and_the_end(request_: bytes) -> None:
    for end in range(1, len(request_)):
        driver = served([request_[:end]])
        driver.end()
        if b"404" in driver.output:
            # It was answered before its body came: nothing is left to say.
            assert statuses(driver.output) == [404]
            assert driver.seen() == ["Failure", "Disconnected"]
        else:
            part = "body" if b"\r\n\r\n" in request_[:end] else "head"
            error = f"expected the rest of the request's {part}, got the end of the input"
            assert driver.seen() == ["Head"] * (part == "body") + [error]
            assert statuses(driver.output) == [400]
        assert phase(driver.connection) is Phase.CLOSING
        assert driver.connection.next_event() is NEED_DATA


def test_data_after_the_end_is_misuse() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_eof()
    with pytest.raises(LocalProtocolError, match=r"^receive_data: expected no data after receive_eof$"):
        connection.receive_data(b"x")


def test_giving_up_on_a_request_answers_it_and_ends_the_connection() -> None:
    for data in (GET[:9], COPY[:-3], CHUNKED[:-3], EXPECTING_HEAD):
        driver = served([data])
        before = driver.output
        (write,) = driver.connection.give_up(Failure(status=408, message="too slow"))
        assert before in (b"", CONTINUE)
        assert write.data.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"\r\nconnection: close\r\n" in write.data
        assert phase(driver.connection) is Phase.CLOSING


def test_giving_up_on_the_rest_of_an_answered_request_says_nothing() -> None:
    driver = served([REFUSED_WITH_BODY[:-1]])
    assert phase(driver.connection) is Phase.BODY
    assert driver.connection.give_up(Failure(status=408, message="too slow")) == []
    assert phase(driver.connection) is Phase.CLOSING


def test_giving_up_is_for_what_is_not_whole() -> None:
    connection = ServerConnection(FAKES)
    failure = Failure(status=408, message="too slow")
    with pytest.raises(LocalProtocolError, match=r"^cannot give up while the connection is idle$"):
        connection.give_up(failure)
    connection.receive_data(GET)
    connection.next_event()
    connection.next_event()
    with pytest.raises(LocalProtocolError, match=r"^cannot give up while the connection is responding$"):
        connection.give_up(failure)


def test_events_say_which_operation_was_asked_for() -> None:
    driver = served([GET + b"GET /widgets/drop HTTP/1.1\r\nHost: x\r\n\r\n"])
    operations = [event.operation for event in driver.events if isinstance(event, Head)]
    assert operations == [FIND, DROP]


def test_an_early_answer_stops_the_reading_of_the_body() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(COPY[:-3])
    assert isinstance(connection.next_event(), Head)
    connection.send(StreamItem(value=Widget(name="a")))
    connection.receive_data(COPY[-3:] + GET)
    assert connection.next_event() is NEED_DATA
    connection.send(StreamEnd())
    assert isinstance(connection.next_event(), Head)


def test_an_error_carries_the_answer_that_closes_the_connection() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(b"nonsense\r\n\r\n")
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert caught.value.failure == Failure(status=400, message="illegal request line")
    assert phase(connection) is Phase.RESPONDING
    assert connection.next_event() is NEED_DATA
    (write,) = connection.send(caught.value.failure)
    assert statuses(write.data) == [400]
    assert phase(connection) is Phase.CLOSING
