"""What only the transport over a stream can get wrong: the scopes around its waits, and others' errors."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
import trio.testing
from anyio.abc import ByteStream

from foundry_runtime.transport import (
    StreamTransport,
    TransportBroken,
    TransportBusy,
    TransportClosed,
    memory_transport_pair,
)

pytestmark = pytest.mark.anyio


class Scripted(ByteStream):
    """A stream that does what it is told, once for each operation."""

    def __init__(self, *outcomes: bytes | Exception) -> None:
        self.outcomes = list(outcomes)
        self.closed = 0

    def _next(self) -> bytes:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return self._next()

    async def send(self, item: bytes) -> None:
        self._next()

    async def send_eof(self) -> None:
        self._next()

    async def aclose(self) -> None:
        self.closed += 1
        if self.outcomes:
            self._next()


GONE = [
    anyio.BrokenResourceError(),
    anyio.ClosedResourceError(),
    ConnectionResetError(104, "Connection reset by peer"),
    TimeoutError(110, "Connection timed out"),
]


@pytest.mark.parametrize("error", GONE, ids=repr)
async def test_what_a_stream_raises_when_it_is_gone_has_one_name(error: Exception) -> None:
    for operation in ("receive", "send", "send_eof"):
        transport = StreamTransport(Scripted(error))
        for _ in range(2):
            with pytest.raises(TransportBroken) as caught:
                await (transport.send(b"x") if operation == "send" else getattr(transport, operation)())
            assert str(caught.value) == "the connection is broken: the peer reset it or is gone"
            assert caught.value.__cause__ is error
        with pytest.raises(TransportBroken):
            await transport.send(b"x")


async def test_what_came_before_a_failed_send_is_still_received() -> None:
    transport = StreamTransport(Scripted(BrokenPipeError(), b"the reason why"))
    with pytest.raises(TransportBroken):
        await transport.send(b"x")
    assert await transport.receive() == b"the reason why"


async def test_an_error_of_another_kind_is_passed_on() -> None:
    transport = StreamTransport(Scripted(LookupError("a bug")))
    with pytest.raises(LookupError):
        await transport.receive()


@pytest.mark.parametrize("error", [*GONE, anyio.BusyResourceError("reading from")], ids=repr)
async def test_closing_what_is_gone_raises_nothing(error: Exception) -> None:
    for errors in ([error], [error, error]):
        stream = Scripted(*errors)
        await StreamTransport(stream).aclose()
        assert stream.closed == 2


def test_a_good_bye_that_nobody_answers_ends_after_a_second() -> None:
    class Polite(Scripted):
        async def aclose(self) -> None:
            await super().aclose()
            await anyio.sleep_forever()

    async def main() -> None:
        stream = Polite()
        await StreamTransport(stream).aclose()
        assert stream.closed == 1
        assert anyio.current_time() - start == 1

    clock = trio.testing.MockClock(autojump_threshold=0)
    start = clock.current_time()
    trio.run(main, clock=clock)


async def test_closing_wakes_who_waits_on_a_stream_that_does_not() -> None:
    class Deaf(Scripted):
        async def receive(self, max_bytes: int = 65536) -> bytes:
            await anyio.sleep_forever()
            return b""

    transport = StreamTransport(Deaf())

    async def close_soon() -> None:
        while transport._receive_scope is None:
            await anyio.lowlevel.checkpoint()
        await transport.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close_soon)
        with pytest.raises(TransportClosed) as caught:
            await transport.receive()
    assert str(caught.value) == "the transport is closed"


async def test_a_cancelled_send_ends_sending_and_not_receiving() -> None:
    near, far = memory_transport_pair(limit=4)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(near.send, b"more than fits")
            while not far._stream._incoming.held:  # type: ignore[attr-defined]
                await anyio.lowlevel.checkpoint()
            with pytest.raises(TransportBusy) as busy:
                await near.send(b"x")
            assert str(busy.value) == "another task is sending on this transport"
            scope.cancel()
    for operation in (partial(near.send, b"x"), near.send_eof):
        with pytest.raises(TransportClosed) as caught:
            await operation()
        assert str(caught.value) == "nothing can be sent after a send that was cut short"
    await far.send(b"yes")
    assert await near.receive() == b"yes"
    assert await far.receive() == b"more"


async def test_memory_holds_no_more_than_its_limit() -> None:
    near, far = memory_transport_pair(limit=4)
    near.deadline = anyio.current_time() + 0.01
    with pytest.raises(TimeoutError) as caught:
        await near.send(b"more than fits")
    assert str(caught.value) == "the deadline passed while sending"
    assert await far.receive() == b"more"
    with pytest.raises(ValueError) as refused:
        memory_transport_pair(limit=0)
    assert str(refused.value) == "limit: expected at least 1, got 0"


async def test_memory_has_no_peers_address_and_a_repr_that_says_so() -> None:
    near, _ = memory_transport_pair()
    assert near.peer is None
    assert repr(near) == "<StreamTransport without address, open>"
    await near.aclose()
    assert repr(near) == "<StreamTransport without address, closed>"
    assert (
        repr(StreamTransport(Scripted(), peer="127.0.0.1:5272")) == "<StreamTransport 127.0.0.1:5272, open>"
    )
