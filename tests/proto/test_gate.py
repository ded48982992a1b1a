"""Laws of a gate: it is asked once, first, with what stands on the wire; its headers are every answer's."""

from __future__ import annotations

import pytest

from foundry_proto.connection import Limits, Phase, ServerConnection
from foundry_proto.events import Failure, Head, Headers, Request, Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer, Asked, ServerExchange, Start
from tests.support.connections import Driver, phase
from tests.support.fakes import FAKES, FIND, PUT, Widget

SHARED: Headers = ((b"vary", b"origin"),)
OK = Response(value=Widget(name="a"))
GET = b"GET /widgets/a HTTP/1.1\r\nHost: x\r\n\r\n"


class Porter:
    """A gate that remembers what it was asked."""

    def __init__(self, verdict: Headers | Failure | Response[None] = SHARED) -> None:
        self.asked: list[Asked] = []
        self._verdict = verdict

    def __call__(self, asked: Asked) -> Headers | Failure | Response[None]:
        self.asked.append(asked)
        return self._verdict


def exchange(porter: Porter, method: str, target: str, headers: Headers = ()) -> ServerExchange:
    one = ServerExchange(FAKES, client="[::1]:5", gate=porter)
    one.receive_head(method, target, headers)
    return one


def start_of(one: ServerExchange, answer: Answer) -> Start:
    start = one.send(answer)[0]
    assert isinstance(start, Start)
    return start


@pytest.mark.parametrize(
    ("method", "target", "authority", "operation", "allow"),
    [
        ("GET", "/widgets/a?x=y", None, FIND, ("GET", "PUT", "POST", "HEAD", "OPTIONS")),
        ("HEAD", "http://Host:1/widgets/a", "Host:1", FIND, ("GET", "PUT", "POST", "HEAD", "OPTIONS")),
        ("PUT", "HTTPS://u@h/widgets/a", "u@h", PUT, ("GET", "PUT", "POST", "HEAD", "OPTIONS")),
        ("OPTIONS", "/widgets/a", None, None, ("GET", "PUT", "POST", "HEAD", "OPTIONS")),
        ("DELETE", "/widgets/a", None, None, ("GET", "PUT", "POST", "HEAD", "OPTIONS")),
        ("GET", "http://h", "h", None, ()),
        ("OPTIONS", "*", None, None, ()),
    ],
)
def test_a_gate_is_told_what_stands_on_the_wire(
    method: str, target: str, authority: str | None, operation: object, allow: tuple[str, ...]
) -> None:
    porter = Porter()
    exchange(porter, method, target, ((b"host", b"x"),))
    (asked,) = porter.asked
    assert (asked.method, asked.authority, asked.operation, asked.allow) == (
        method,
        authority,
        operation,
        allow,
    )
    assert (asked.headers, asked.client) == (((b"host", b"x"),), "[::1]:5")


@pytest.mark.parametrize(
    ("method", "target", "answer"),
    [
        ("GET", "/widgets/a", OK),
        ("GET", "/widgets/a", Failure(status=500, message="no")),
        ("GET", "/nowhere", Failure(status=404, message="no")),
        ("OPTIONS", "/widgets/a", Response(value=None, status=204)),
        ("GET", "/v1/changes", StreamItem(value=Widget(name="a"), headers=((b"x", b"y"),))),
        ("GET", "/v1/changes", StreamEnd()),
    ],
)
def test_the_headers_of_who_is_let_in_stand_in_every_answer(method: str, target: str, answer: Answer) -> None:
    with_it, without = (
        start_of(exchange(Porter(verdict), method, target), answer) for verdict in (SHARED, ())
    )
    assert with_it.status == without.status
    assert with_it.headers == (*without.headers, *SHARED)


def test_they_stand_there_once() -> None:
    one = exchange(Porter(), "GET", "/v1/changes")
    start_of(one, StreamItem(value=Widget(name="a")))
    assert not any(isinstance(piece, Start) for piece in one.send(StreamItem(value=Widget(name="b"))))


@pytest.mark.parametrize("target", ["/widgets/a", "/nowhere", "/widgets/%ff"])
@pytest.mark.parametrize("verdict", [Failure(status=403, message="no"), Response(value=None, status=204)])
def test_an_answer_of_the_gate_comes_before_all_else(target: str, verdict: Failure | Response[None]) -> None:
    one = ServerExchange(FAKES, gate=Porter(verdict))
    assert one.receive_head("GET", target, ()) is verdict


def test_who_is_refused_sends_no_body() -> None:
    porter = Porter(Failure(status=401, message="no"))
    driver = Driver(ServerConnection(FAKES, gate=porter), lambda _: (OK,))
    driver.feed(b"PUT /widgets/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
    assert driver.seen() == ["Failure"]
    assert b"HTTP/1.1 401 Unauthorized\r\n" in driver.output
    assert b"100 Continue" not in driver.output
    assert b"connection: close\r\n" in driver.output
    assert phase(driver.connection) is Phase.CLOSING


def test_who_is_refused_with_little_behind_may_ask_again() -> None:
    porter = Porter(Failure(status=401, message="no"))
    driver = Driver(ServerConnection(FAKES, gate=porter), lambda _: (OK,))
    driver.feed(b"PUT /widgets/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123456789" + GET)
    assert driver.seen() == ["Failure", "Failure"]
    assert len(porter.asked) == 2


def test_a_connection_asks_at_each_request() -> None:
    porter = Porter()
    driver = Driver(ServerConnection(FAKES, gate=porter), lambda _: (OK,))
    driver.feed(GET * 3)
    assert len(porter.asked) == 3
    assert driver.output.count(b"\r\nvary: origin\r\n") == 3


# The limits that an owner sets.


def test_the_owners_limit_of_bodies_counts_instead_of_the_rows() -> None:
    for limit, length, status in ((50, 51, 413), (200, 199, 200), (None, 101, 413), (None, 100, 200)):
        body = b'{"name":"%b"}' % (b"a" * (length - 11))
        driver = Driver(ServerConnection(FAKES, limits=Limits(body=limit)), lambda _: (OK,))
        driver.feed(b"PUT /widgets/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert driver.output.startswith(b"HTTP/1.1 %d " % status), (limit, length)


def test_the_owners_limit_of_nesting_counts() -> None:
    body = b'{"name":[[[1]]]}'
    request = b"PUT /widgets/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for depth, words in ((4, b"expected a string"), (3, b"expected at most 3 levels of nesting, got more")):
        driver = Driver(ServerConnection(FAKES, limits=Limits(depth=depth)), lambda _: (OK,))
        driver.feed(request)
        assert words in driver.output


@pytest.mark.parametrize("more", [0, 1])
def test_the_owners_limit_of_headers_counts(more: int) -> None:
    lines = b"".join(b"X%d: a\r\n" % number for number in range(9 + more))
    driver = Driver(ServerConnection(FAKES, limits=Limits(headers=10)), lambda _: (OK,))
    driver.feed(b"GET /widgets/a HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
    if more:
        assert driver.seen() == ["expected at most 10 headers, got more"]
        assert driver.output.startswith(b"HTTP/1.1 431 ")
    else:
        assert [type(one) for one in driver.events] == [Head, Request]
