"""The opening handshake: what may go on as a WebSocket, and what it's told otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from foundry_proto.connection import Phase, ServerConnection
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Failure, Head, Headers, Request, Response, Upgrade
from foundry_proto.exchange import ServerExchange
from foundry_proto.operations import WATCH, Operations
from foundry_proto.upgrade import as_handshake, check_origin, check_websocket, websocket_headers
from tests.support.chunking import chunkings
from tests.support.connections import Driver, phase
from tests.support.fakes import DROP, FIND

TABLE = Operations([WATCH, FIND])

# The key and the answer of RFC 6455, section 1.3.
KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
ACCEPT = (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
VERSION = (b"sec-websocket-version", b"13")
ASKED: Headers = ((b"upgrade", b"websocket"), (b"connection", b"Upgrade"), KEY, VERSION)

LINES = (
    b"GET /foundry/watch HTTP/1.1",
    b"Host: localhost:5272",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: " + KEY[1],
    b"Sec-WebSocket-Version: 13",
    b"",
    b"",
)
REQUEST = b"\r\n".join(LINES)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nserver: test\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def asked(connection: ServerConnection, data: bytes = REQUEST) -> Upgrade:
    connection.receive_data(data)
    assert isinstance(connection.next_event(), Head)
    event = connection.next_event()
    assert isinstance(event, Upgrade)
    return event


@pytest.mark.parametrize(
    ("upgrade", "connection"),
    [
        (b"websocket", b"Upgrade"),
        (b"WebSocket", b"keep-alive, Upgrade"),
        (b"h2c, websocket", b"upgrade,keep-alive"),
    ],
)
def test_a_request_that_asks_as_the_rfc_says_goes_on(upgrade: bytes, connection: bytes) -> None:
    headers = ((b"upgrade", upgrade), (b"connection", connection), KEY, VERSION)
    assert check_websocket(headers) is None
    assert websocket_headers(headers)[-1] == ACCEPT


def test_words_of_a_header_that_comes_twice_count_together() -> None:
    more: Headers = ((b"connection", b"keep-alive"), (b"upgrade", b"h2c"))
    assert check_websocket((*more, *ASKED)) is None
    assert check_websocket((*ASKED, *more)) is None


@pytest.mark.parametrize(
    "kept",
    [(), ASKED, ((b"upgrade", b"h2c"), (b"sec-websocket-key", b""), *ASKED, (b"connection", b"close"))],
)
def test_what_its_carrier_has_seen_to_passes_whatever_is_left_of_it(kept: Headers) -> None:
    mine: Headers = ((b"host", b"localhost"), (b"sec-websocket-protocol", b"chat"), (b"origin", b"null"))
    headers = as_handshake((*kept, *mine))
    assert check_websocket(headers) is None
    assert headers[:3] == mine
    assert {name for name, _ in headers[3:]} == {name for name, _ in ASKED}
    assert len(headers) == 7


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ASKED[1:],
        (ASKED[0], *ASKED[2:]),
        ((b"upgrade", b"websockets"), *ASKED[1:]),
        (ASKED[0], (b"connection", b"keep-alive"), *ASKED[2:]),
    ],
)
def test_who_does_not_ask_for_a_websocket_is_told_what_this_route_is_for(headers: Headers) -> None:
    assert check_websocket(headers) == Failure(
        status=426,
        message="upgrade: expected websocket, and upgrade in connection: this route is for WebSockets",
        code="upgrade_required",
        headers=((b"upgrade", b"websocket"), (b"connection", b"Upgrade")),
    )


@pytest.mark.parametrize(("version", "shown"), [(b"8", "8"), (b"13, 8", "13, 8"), (None, "nothing")])
def test_another_version_is_told_the_one_that_is_spoken(version: bytes | None, shown: str) -> None:
    given_version: Headers = () if version is None else ((b"sec-websocket-version", version),)
    failure = check_websocket((*ASKED[:3], *given_version))
    assert failure is not None
    assert (failure.status, failure.message) == (426, f"sec-websocket-version: expected 13, got {shown}")
    assert failure.headers[-1] == VERSION


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (None, "nothing"),
        (b"", "nothing"),
        (b"dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ"),
        (b"dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25jZR=="),  # its last bits are not 0
        (b"YQ==", "YQ=="),
        (b"\xff" * 100, "\ufffd" * 80),
    ],
)
def test_a_key_that_is_none_is_refused(key: bytes | None, shown: str) -> None:
    given_key: Headers = () if key is None else ((b"sec-websocket-key", key),)
    message = f"sec-websocket-key: expected 16 bytes in base64, got {shown}"
    assert check_websocket((*ASKED[:2], VERSION, *given_key)) == Failure(status=400, message=message)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:8080",
        "http://127.0.0.1:5272",
        "http://[::1]:1",
        "HTTP://LocalHost",
    ],
)
def test_a_page_of_this_machine_may_have_one(origin: str) -> None:
    assert check_origin(((b"origin", origin.encode()),)) is None
    assert check_origin(()) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://example.com",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://example.com/http://localhost",
        "http://localhost@example.com",
        "file://localhost",
        "http://[::1].example.com",
    ],
)
def test_a_page_of_another_site_may_not(origin: str) -> None:
    assert check_origin(((b"origin", origin.encode()),)) == Failure(
        status=403, message=f"origin: expected a page of this machine, got {origin}", code="foreign_origin"
    )


def test_an_accepted_upgrade_ends_http_on_the_connection() -> None:
    connection = ServerConnection(TABLE, headers=lambda: ((b"server", b"test"),), client="127.0.0.1:50123")
    upgrade = asked(connection, REQUEST + b"\x81\x80")
    assert (upgrade.head.operation, upgrade.head.client) == (WATCH, "127.0.0.1:50123")
    assert phase(connection) is Phase.RESPONDING
    assert connection.switch(upgrade) == (ACCEPTED, b"\x81\x80")
    assert phase(connection) is Phase.SWITCHED
    with pytest.raises(LocalProtocolError, match=r"^receive_data: expected no data after switch$"):
        connection.receive_data(b"x")
    with pytest.raises(LocalProtocolError, match=r"^cannot send an answer while the connection is switched$"):
        connection.send(Response(value=None))
    with pytest.raises(LocalProtocolError, match=r"^cannot switch while the connection is switched$"):
        connection.switch(upgrade)


def test_a_refused_upgrade_leaves_the_connection_good() -> None:
    connection = ServerConnection(TABLE)
    refused = asked(connection)
    (write,) = connection.send(Failure(status=403, message="no"))
    assert write.data.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert phase(connection) is Phase.IDLE
    with pytest.raises(LocalProtocolError, match=r"^cannot switch while the connection is idle$"):
        connection.switch(refused)
    upgrade = asked(connection)
    assert connection.switch(upgrade)[1] == b""


def test_what_did_not_ask_cannot_be_switched() -> None:
    connection = ServerConnection(Operations([DROP]))
    connection.receive_data(b"GET /widgets/drop HTTP/1.1\r\nHost: x\r\n\r\n")
    head = connection.next_event()
    assert isinstance(head, Head)
    assert isinstance(connection.next_event(), Request)
    with pytest.raises(LocalProtocolError, match=r"^cannot switch while the connection is responding$"):
        connection.switch(Upgrade(head=head, headers=websocket_headers(ASKED)))


def test_http_1_0_knows_no_upgrade() -> None:
    driver = Driver(ServerConnection(TABLE))
    driver.feed(REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert driver.output.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")


def test_another_protocol_is_ignored_where_there_is_none() -> None:
    driver = Driver(ServerConnection(TABLE))
    driver.feed(REQUEST.replace(b"/foundry/watch", b"/widgets/a"))
    assert driver.seen() == ["Head", "Request"]
    assert driver.connection.phase is Phase.IDLE


def test_a_body_that_nobody_reads_stands_before_the_websocket() -> None:
    connection = ServerConnection(TABLE)
    upgrade = asked(connection, REQUEST[:-2] + b"Content-Length: 3\r\n\r\nabc\x81")
    assert connection.switch(upgrade)[1] == b"\x81"


def test_a_client_that_waits_for_it_is_told_to_go_on_first() -> None:
    connection = ServerConnection(TABLE)
    connection.receive_data(REQUEST[:-2] + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert isinstance(connection.next_event(), Head)
    assert connection.accept_body().startswith(b"HTTP/1.1 100")


@settings(deadline=None, max_examples=50)
@given(chunkings(REQUEST * 3 + b"\x81\x80abcd"))
def test_any_chunking_gives_the_same_handshake(pieces: list[bytes]) -> None:
    connection = ServerConnection(TABLE)
    found = 0
    behind = b""
    for piece in pieces:
        if phase(connection) is Phase.SWITCHED:
            behind += piece
            continue
        connection.receive_data(piece)
        while isinstance(event := connection.next_event(), Head | Upgrade):
            if isinstance(event, Upgrade):
                found += 1
                if found == 3:
                    behind = connection.switch(event)[1]
                else:
                    connection.send(Failure(status=403, message="no"))
    assert (found, behind) == (3, b"\x81\x80abcd")


def test_an_exchange_alone_says_it_too() -> None:
    exchange = ServerExchange(TABLE)
    assert isinstance(exchange.receive_head("HEAD", "/foundry/watch", ASKED), Failure)
    head = exchange.receive_head("GET", "/foundry/watch?x=1", ASKED)
    assert isinstance(head, Head)
    assert exchange.receive_end() == Upgrade(head=head, headers=(*ASKED[:2], ACCEPT))
