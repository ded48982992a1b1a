"""A server's connection: what `send` gives, and what is misuse of it."""

from __future__ import annotations

import h11
import pytest

from foundry_proto.connection import Phase, ServerConnection, Write
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import (
    Failure,
    Head,
    Headers,
    Request,
    Response,
    StreamEnd,
    StreamItem,
)
from foundry_proto.exchange import Answer
from tests.support.connections import Driver, phase
from tests.support.fakes import FAKES, Widget
from tests.support.served import (
    COPY,
    GET,
    HEAD,
    OK,
    OK_BYTES,
    REFUSED,
    REFUSED_WITH_BODY,
    heads,
    served,
    statuses,
)


def test_every_response_has_the_servers_headers() -> None:
    numbers = iter(range(10))

    def headers() -> Headers:
        return ((b"server", b"test/%d" % next(numbers)),)

    driver = Driver(ServerConnection(FAKES, headers=headers), lambda _: (OK,))
    driver.feed(GET + REFUSED + b"nonsense\r\n\r\n")
    servers = [
        dict(event.headers)[b"server"] for event in heads(driver.output) if isinstance(event, h11.Response)
    ]
    assert servers == [b"test/0", b"test/1", b"test/2"]


def test_several_events_leave_as_one_write_but_never_across_a_pause() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(COPY)
    connection.next_event()
    connection.next_event()
    item = StreamItem(value=Widget(name="a"))
    first = connection.send(item, item)
    assert [(write.after, write.data.count(b'{"name":"a"}')) for write in first] == [(0.0, 2)]
    chunk = b'd\r\n{"name":"a"}\n\r\n'
    assert connection.send(item, StreamEnd()) == [
        Write(data=chunk),
        Write(data=b"4\r\nend\n\r\n0\r\n\r\n", after=0.15),
    ]


def test_a_pause_stands_before_the_last_piece_of_an_empty_stream_too() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(COPY)
    connection.next_event()
    connection.next_event()
    head, end = connection.send(StreamEnd())
    assert head.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (head.after, end) == (0.0, Write(data=b"4\r\nend\n\r\n0\r\n\r\n", after=0.15))


def test_an_answer_to_head_writes_its_head_alone() -> None:
    driver = served([HEAD])
    assert driver.writes == [Write(data=OK_BYTES.removesuffix(b'{"name":"a"}'))]
    # Of a stream, too, where nothing remains to be written or to pause for.
    driver = served(
        [HEAD.replace(b"/widgets/a", b"/v1/changes")], StreamItem(value=Widget(name="a")), StreamEnd()
    )
    (write,) = driver.writes
    assert write.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert write.data.endswith(b"\r\n\r\n")
    assert phase(driver.connection) is Phase.IDLE


def test_sending_nothing_is_nothing() -> None:
    connection = ServerConnection(FAKES)
    assert connection.send() == []


@pytest.mark.parametrize(
    ("data", "eof", "name"),
    [(b"", False, "idle"), (GET[:9], False, "head"), (b"", True, "closing")],
)
def test_an_answer_to_nothing_is_misuse(data: bytes, eof: bool, name: str) -> None:
    driver = served([data])
    if eof:
        driver.end()
    with pytest.raises(LocalProtocolError, match=f"^cannot send an answer while the connection is {name}$"):
        driver.connection.send(OK)


def test_a_second_answer_is_misuse() -> None:
    driver = served([GET])
    with pytest.raises(LocalProtocolError, match=r"^cannot send an answer while the connection is idle$"):
        driver.connection.send(OK)
    driver = served([REFUSED_WITH_BODY[:-1]])
    with pytest.raises(LocalProtocolError, match=r"^cannot send Response after a whole answer$"):
        driver.connection.send(OK)
    # It changed nothing: the body's rest is still forgotten, and the next request read.
    driver.feed(REFUSED_WITH_BODY[-1:] + GET)
    assert statuses(driver.output) == [404, 200]


def test_what_was_taken_before_an_error_leaves_with_the_next_answer() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(COPY)
    connection.next_event()
    connection.next_event()
    with pytest.raises(LocalProtocolError, match=r"^encode: expected a value that JSON can carry: "):
        connection.send(StreamItem(value=Widget(name="a")), StreamItem(value=Widget(name="\ud800")))
    taken, failed = connection.send(Failure(status=500, message="the server failed"))
    assert taken.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert taken.data.endswith(b'\r\n\r\nd\r\n{"name":"a"}\n\r\n')
    assert failed == Write(data=b"19\r\nfailed the server failed\n\r\n0\r\n\r\n", after=0.15)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Response(value=None, headers=((b"x-note", b"a\r\nb: c"),)),
            "cannot send the header b'x-note' with the value b'a\\r\\nb: c'",
        ),
        (Response(value=None, status=1000), "cannot send the status 1000: expected one from 200 to 599"),
        (StreamEnd(), "cannot send a stream: the operation has none"),
    ],
)
@pytest.mark.parametrize("before_the_body", [False, True])
def test_an_answer_that_cannot_be_sent_leaves_room_for_another(
    answer: Answer, message: str, before_the_body: bool
) -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(GET)
    assert isinstance(connection.next_event(), Head)
    if not before_the_body:
        assert isinstance(connection.next_event(), Request)
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(answer)
    assert str(caught.value) == message
    (write,) = connection.send(Failure(status=500, message="the server failed"))
    assert statuses(write.data) == [500]
    assert phase(connection) is Phase.IDLE


def test_a_servers_own_header_that_cannot_be_sent_is_misuse() -> None:
    connection = ServerConnection(FAKES, headers=lambda: ((b"server", b"a\nb"),))
    connection.receive_data(GET)
    connection.next_event()
    with pytest.raises(
        LocalProtocolError, match=r"^cannot send the header b'server' with the value b'a\\nb'$"
    ):
        connection.send(OK)


def test_an_unnamed_status_is_sent() -> None:
    driver = served([GET], Failure(status=529, message="overloaded"))
    assert driver.output.startswith(b"HTTP/1.1 529 Server Error\r\n")


def streaming(request: bytes = COPY) -> ServerConnection:
    """A connection whose client has got the first item of a stream."""
    connection = ServerConnection(FAKES)
    connection.receive_data(request)
    connection.next_event()
    connection.next_event()
    connection.send(ITEM)
    return connection


ITEM = StreamItem(value=Widget(name="a"))


@pytest.mark.parametrize("request_", [COPY, COPY.replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_a_further_item_in_the_short_way_is_the_same_bytes(request_: bytes) -> None:
    short, long = streaming(request_), streaming(request_)
    for _ in range(3):
        (write,) = long.send(ITEM)
        assert short.send_item(ITEM) == write.data
    assert short.send(StreamEnd()) == long.send(StreamEnd())
    assert phase(short) is phase(long)


def test_the_short_way_takes_no_other_event() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(COPY)
    assert connection.send_item(ITEM) is None  # Nothing was asked.
    connection.next_event()
    connection.next_event()
    assert connection.send_item(ITEM) is None  # The first one brings the head.
    connection.send(ITEM)
    for event in (StreamEnd(), Failure(status=500, message="no"), OK):
        assert connection.send_item(event) is None
    connection.send(StreamEnd())
    assert connection.send_item(ITEM) is None


def test_the_short_way_gives_a_head_nothing() -> None:
    connection = ServerConnection(FAKES)
    connection.receive_data(HEAD.replace(b"/widgets/a", b"/v1/changes"))
    connection.next_event()
    connection.next_event()
    connection.send(ITEM)
    assert connection.send_item(ITEM) is None
    assert connection.send(ITEM) == []


def test_the_short_way_overtakes_nothing_that_waits() -> None:
    connection = streaming()
    with pytest.raises(LocalProtocolError, match=r"^encode: expected a value that JSON can carry: "):
        connection.send(ITEM, StreamItem(value=Widget(name="\ud800")))
    assert connection.send_item(ITEM) is None
    (write,) = connection.send(ITEM)
    assert write.data.count(b'{"name":"a"}') == 2


def test_what_cannot_be_sent_in_the_short_way_leaves_room_for_another() -> None:
    connection = streaming()
    with pytest.raises(LocalProtocolError, match=r"^encode: expected a value that JSON can carry: "):
        connection.send_item(StreamItem(value=Widget(name="\ud800")))
    assert connection.send_item(ITEM) is not None


@pytest.mark.parametrize(
    ("value", "last"), [(b"close", True), (b"Upgrade, CLOSE", True), (b"keep-alive", False)]
)
def test_a_handler_may_close_the_connection(value: bytes, last: bool) -> None:
    driver = served([GET], Response(value=None, headers=((b"connection", value),)))
    assert phase(driver.connection) is (Phase.CLOSING if last else Phase.IDLE)
    assert (b"\r\nconnection: close\r\n\r\n" in driver.output) is last
