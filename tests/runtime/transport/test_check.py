"""The contract can fail: each transport here breaks one promise, and the law that holds it says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
import trio
import trio.testing

from foundry_runtime.transport import (
    Transport,
    TransportBroken,
    TransportClosed,
    _asyncio,
    memory_transport_pair,
    stream,
)
from foundry_runtime.transport._laws import many_small_sends_let_other_tasks_run
from foundry_runtime.transport.check import check_law, check_transport
from foundry_runtime.transport.memory import PIPE_LIMIT
from tests.runtime.transport import networks


class Faithful:
    """Passes everything on to a transport in memory; each class below fails in one thing."""

    limit = PIPE_LIMIT

    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    @property
    def peer(self) -> str | None:
        return self.inner.peer

    @property
    def deadline(self) -> float | None:
        return self.inner.deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        self.inner.deadline = value

    @property
    def send_patience(self) -> float | None:
        return self.inner.send_patience

    @send_patience.setter
    def send_patience(self, value: float | None) -> None:
        self.inner.send_patience = value

    async def receive(self) -> bytes:
        return await self.inner.receive()

    async def send(self, data: bytes) -> None:
        await self.inner.send(data)

    async def send_eof(self) -> None:
        await self.inner.send_eof()

    async def aclose(self) -> None:
        await self.inner.aclose()


class DropsWhatACancelledReceiveTook(Faithful):
    """a_cancelled_receive_loses_nothing: the bytes differ from those sent"""

    async def receive(self) -> bytes:
        data = await super().receive()
        await anyio.lowlevel.checkpoint()
        return data


class Garbles(Faithful):
    """bytes_arrive_in_order_in_any_chunking: the bytes differ from those sent"""

    async def send(self, data: bytes) -> None:
        await super().send(data[::-1])


class TakesAnEmptySendForTheEnd(Faithful):
    """bytes_arrive_in_order_in_any_chunking: TransportClosed('nothing can be sent after send_eof')"""

    async def send(self, data: bytes) -> None:
        await (super().send(data) if data else super().send_eof())


class IgnoresDeadlines(Faithful):
    """a_receive_that_waits_past_the_deadline_times_out: still waiting after 60 seconds"""

    deadline = None


class KeepsTheFirstDeadline(Faithful):
    """a_deadline_moved_earlier_while_waiting_is_honoured: still waiting after 60 seconds"""

    waits = False

    @property
    def deadline(self) -> float | None:
        return self.inner.deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        if not self.waits:
            self.inner.deadline = value

    async def receive(self) -> bytes:
        self.waits = True
        try:
            return await super().receive()
        finally:
            self.waits = False


class OnlyShortensDeadlines(Faithful):
    """a_deadline_moved_later_while_waiting_is_honoured: expected [b'late'], got [<class 'TimeoutError'>]"""

    @property
    def deadline(self) -> float | None:
        return self.inner.deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        now = self.inner.deadline
        if now is None or now <= anyio.current_time() or (value is not None and value < now):
            self.inner.deadline = value


class HasAllTheTimeForASend(Faithful):
    """a_send_waits_no_longer_than_its_patience: still waiting after 60 seconds"""

    send_patience = None


class HasSoMuchTimeForASendAndNoMore(Faithful):
    """a_send_goes_on_while_some_of_it_is_taken: expected ['under way'], got ['given up']"""

    async def send(self, data: bytes) -> None:
        with anyio.fail_after(self.send_patience):
            await super().send(data)


class HoldsEverything(Faithful):
    """a_send_waits_for_a_slow_reader_in_bounded_memory: expected TimeoutError, and nothing was raised"""

    limit = 1 << 30


class StopsReadingAfterSendEof(Faithful):
    """nothing_can_be_sent_after_send_eof: the stream ended after 0 of 10 bytes"""

    ended = False

    async def send_eof(self) -> None:
        self.ended = True
        await super().send_eof()

    async def receive(self) -> bytes:
        return b"" if self.ended else await super().receive()


class ForgetsThatThePeerIsGone(Faithful):
    """sending_to_a_peer_that_is_gone_breaks: expected TransportBroken, and nothing was raised"""

    async def send(self, data: bytes) -> None:
        with suppress(TransportBroken):
            await super().send(data)


class SpeaksAnyio(Faithful):
    """a_closed_transport_refuses_all_but_closing: ClosedResourceError()"""

    async def receive(self) -> bytes:
        try:
            return await super().receive()
        except TransportClosed:
            raise anyio.ClosedResourceError from None


class ClosesOnce(Faithful):
    """a_closed_transport_refuses_all_but_closing: RuntimeError('closed twice')"""

    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True
        await super().aclose()


class ClosesWhenItIsNotCancelled(Faithful):
    """closing_works_when_cancelled: still waiting after 60 seconds"""

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        await super().aclose()


class QueuesReceives(Faithful):
    """a_second_receive_at_once_is_refused: still waiting after 60 seconds"""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.lock = anyio.Lock()

    async def receive(self) -> bytes:
        async with self.lock:
            return await super().receive()


def _all_kinds() -> list[type[Faithful]]:
    return Faithful.__subclasses__()


@pytest.mark.parametrize("kind", _all_kinds(), ids=lambda kind: kind.__name__)
def test_a_broken_promise_is_named_by_its_law(kind: type[Faithful]) -> None:
    @asynccontextmanager
    async def pair() -> AsyncIterator[tuple[Transport, Transport]]:
        near, far = memory_transport_pair(limit=kind.limit)
        try:
            yield kind(near), kind(far)
        finally:
            await near.aclose()
            await far.aclose()

    with pytest.raises(AssertionError) as caught:
        trio.run(check_transport, pair, clock=trio.testing.MockClock(autojump_threshold=0))
    assert str(caught.value) == kind.__doc__


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_transport_that_never_yields_breaks_its_law(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_asyncio, "SENDS_PER_TURN", 1000)
    monkeypatch.setattr(stream, "AT_ONCE_LIMIT", 1000)
    with pytest.raises(AssertionError) as caught:
        anyio.run(check_law, many_small_sends_let_other_tasks_run, networks.unix, backend=backend)
    text = "many_small_sends_let_other_tasks_run: another task had 0 turns during 200 sends"
    assert str(caught.value) == text
