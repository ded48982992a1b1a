"""A driver without a network: bytes into a connection object, its events, and what would be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest
from attrs import define, field, frozen

from foundry_proto.connection import ClientConnection, Phase, ServerConnection, Write
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Disconnected, Failure, Head, Headers, Request, Response
from foundry_proto.exchange import Answer, ClientAnswer, ServerExchange
from foundry_proto.sentinels import NEED_DATA
from tests.support.fakes import FAKES

__all__ = ["Driver", "Read", "headed", "phase", "read", "wants_data"]

Respond = Callable[[Request[object]], Iterable[Answer]]


def _nothing(_: Request[object]) -> Iterable[Answer]:
    return (Response(value=None),)


def phase(connection: ServerConnection) -> Phase:
    """The connection's phase; a call, so that type checkers forget it with the next event."""
    return connection.phase


def wants_data(connection: ServerConnection) -> bool:
    """Whether the connection wants data; a call for the same reason."""
    return connection.wants_data


def headed(method: str, target: str, headers: Headers = ()) -> ServerExchange:
    """An exchange whose head was taken."""
    exchange = ServerExchange(FAKES)
    exchange.receive_head(method, target, headers)
    return exchange


@define(eq=False)
class Driver:
    """Drives a server's connection: takes every event after each piece, and answers at once."""

    connection: ServerConnection
    respond: Respond = _nothing
    events: list[object] = field(init=False, factory=list)
    """Events, and the text of a `RemoteProtocolError`."""
    writes: list[Write] = field(init=False, factory=list)

    @property
    def output(self) -> bytes:
        return b"".join(write.data for write in self.writes)

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.receive_data(piece)
            self.pump()

    def end(self) -> None:
        self.connection.receive_eof()
        self.pump()

    def pump(self) -> None:
        while self.step():
            pass

    def step(self) -> bool:
        """Take one event; false when there is none."""
        try:
            event = self.connection.next_event()
        except RemoteProtocolError as error:
            self.events.append(str(error))
            self.writes += self.connection.send(*[error.failure] if error.failure else ())
            return True
        if event is NEED_DATA:
            return False
        self.events.append(event)
        match event:
            case Head():
                if data := self.connection.accept_body():
                    self.writes.append(Write(data=data))
            case Request():
                # Each on its own, as a handler would: a piece of the stream is a chunk of the body.
                for answer in self.respond(event):
                    self.writes += self.connection.send(answer)
            case Failure() | Response():
                self.writes += self.connection.send(event)
            case Disconnected():
                pass
        return True

    def seen(self) -> list[str]:
        """The kinds of the events, and the errors' texts."""
        return [event if isinstance(event, str) else type(event).__name__ for event in self.events]


@frozen
class Read:
    """What a client was told, and the error that ended it, if one did."""

    events: list[ClientAnswer]
    error: str | None = None


def read(client: ClientConnection, pieces: Sequence[bytes], *, eof: bool = False) -> Read:
    """Feed a reply, taking every event after each piece; a second error must repeat the first."""
    events: list[ClientAnswer] = []

    def take() -> None:
        while (event := client.next_event()) is not NEED_DATA:
            events.append(event)

    try:
        for piece in pieces:
            client.receive_data(piece)
            take()
        if eof:
            client.receive_eof()
            take()
    except RemoteProtocolError as error:
        message = str(error)
    else:
        return Read(events)
    with pytest.raises(RemoteProtocolError) as repeated:
        client.next_event()
    assert str(repeated.value) == message
    return Read(events, message)
