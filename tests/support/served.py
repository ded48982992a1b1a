"""Requests to the tests' own operations, a driver that answers them, and another reader of its replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import h11

from foundry_proto.connection import Limits, ServerConnection
from foundry_proto.events import (
    Response,
)
from foundry_proto.exchange import Answer
from tests.support.connections import Driver
from tests.support.fakes import FAKES, Widget

__all__ = [
    "CHUNKED",
    "COPY",
    "GET",
    "HEAD",
    "OK",
    "OK_BYTES",
    "REFUSED",
    "REFUSED_WITH_BODY",
    "SMALL",
    "Cut",
    "always",
    "heads",
    "served",
    "statuses",
]

OK = Response(value=Widget(name="a"))
OK_BYTES = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"name":"a"}'
GET = b"GET /widgets/a HTTP/1.1\r\nHost: x\r\n\r\n"
COPY = b'POST /v1/copies HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{"name":"b"}'
CHUNKED = (
    b"POST /v1/copies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'7\r\n{"name"\r\n5;ext=1\r\n:"b"}\r\n0\r\nTrailer: x\r\n\r\n'
)
HEAD = b"HEAD /widgets/a HTTP/1.1\r\nHost: x\r\n\r\n"
REFUSED = b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n"
REFUSED_WITH_BODY = b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
Cut = Callable[[bytes], list[bytes]]
SMALL = Limits(head=200, drain=20, waiting=50)


def always(*answers: Answer) -> Driver:
    """A driver that answers every request with the same."""
    return Driver(ServerConnection(FAKES, limits=SMALL), lambda _: answers)


def served(data: Iterable[bytes], *answers: Answer) -> Driver:
    driver = always(*(answers or (OK,)))
    driver.feed(*data)
    return driver


def heads(data: bytes) -> list[h11.Event]:
    """What an independent client reads, up to its first need of data, for GET requests."""
    events: list[h11.Event] = []
    while data:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        while (event := client.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            events.append(event)  # type: ignore[arg-type]
        data = client.trailing_data[0]
    return events


def statuses(output: bytes) -> list[int]:
    return [event.status_code for event in heads(output) if isinstance(event, h11.Response)]
