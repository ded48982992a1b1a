"""What only the transport on asyncio's callbacks can get wrong: its timer, its wake-ups, its buffer."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from foundry_runtime.transport import TransportBroken, TransportBusy, TransportClosed
from foundry_runtime.transport._asyncio import LOOKS, READ_SIZE, UNREAD_LIMIT, AsyncioTransport, wrap_socket

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Only this one: the transport is asyncio's."""
    return "asyncio"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[AsyncioTransport, socket.socket]]:
    """A transport and the plain, non-blocking socket at its other end."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    transport = await wrap_socket(near, "the other end")
    with far:
        try:
            yield transport, far
        finally:
            await transport.aclose()


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The moments for which the loop was asked for a timer, in order."""
    asked: list[float] = []
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def counted(when: float, callback: Callable[..., object], *args: Any, **more: Any) -> asyncio.TimerHandle:
        if getattr(callback, "__func__", None) is AsyncioTransport._on_timer:
            asked.append(when)
        return call_at(when, callback, *args, **more)

    monkeypatch.setattr(loop, "call_at", counted)
    return asked


async def test_a_deadline_that_moves_with_every_wait_takes_one_timer(timers: list[float]) -> None:
    async with connected() as (transport, peer):
        for _ in range(100):
            transport.deadline = anyio.current_time() + 1000
            receive = asyncio.ensure_future(transport.receive())
            await asyncio.sleep(0)
            peer.send(b"x")
            assert await receive == b"x"
    assert len(timers) == 1


async def test_an_earlier_deadline_takes_a_timer_of_its_own(timers: list[float]) -> None:
    async with connected() as (transport, _):
        now = anyio.current_time()
        transport.deadline = now + 1000
        receive = asyncio.ensure_future(transport.receive())
        await asyncio.sleep(0)
        transport.deadline = now + 500
        transport.deadline = now + 700
        transport.deadline = None
        assert timers == [now + 1000, now + 500]
        receive.cancel()


async def test_no_timer_is_asked_for_without_a_wait(timers: list[float]) -> None:
    async with connected() as (transport, peer):
        transport.deadline = anyio.current_time() + 1000
        await transport.send(b"question")
        peer.send(b"answer")
        await asyncio.sleep(0.01)
        assert await transport.receive() == b"answer"
    assert timers == []


async def test_a_timer_that_finds_nobody_waiting_is_not_armed_again(timers: list[float]) -> None:
    async with connected() as (transport, peer):
        transport.deadline = first = anyio.current_time() + 1000
        receive = asyncio.ensure_future(transport.receive())
        await asyncio.sleep(0)
        transport.deadline = first + 1000
        peer.send(b"x")
        assert await receive == b"x"
        transport._timer.cancel()  # type: ignore[union-attr]
        transport._on_timer(first)
        assert transport._timer is None
    assert timers == [first]


async def test_closing_lets_go_of_the_timer() -> None:
    async with connected() as (transport, _):
        transport.deadline = anyio.current_time() + 1000
        receive = asyncio.ensure_future(transport.receive())
        await asyncio.sleep(0)
        timer = transport._timer
        assert timer is not None
        await transport.aclose()
        assert timer.cancelled()
        assert transport._timer is None
        with pytest.raises(TransportClosed):
            await receive


async def test_a_deadline_ends_both_directions() -> None:
    async with connected() as (transport, _):
        receive = asyncio.ensure_future(transport.receive())
        send = asyncio.ensure_future(transport.send(bytes(16 * 1024 * 1024)))
        await asyncio.sleep(0)
        with pytest.raises(TransportBusy) as busy:
            await transport.send(b"x")
        assert str(busy.value) == "another task is sending on this transport"
        transport.deadline = anyio.current_time() + 0.01
        with pytest.raises(TimeoutError) as receiving:
            await receive
        with pytest.raises(TimeoutError) as sending:
            await send
        assert str(receiving.value) == "the deadline passed while receiving"
        assert str(sending.value) == "the deadline passed while sending"


async def test_a_send_is_given_up_when_nothing_was_taken_at_as_many_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with connected() as (transport, peer):
        transport.send_patience = 1000
        looks: list[Callable[[], object]] = []

        def remember(_: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
            looks.append(partial(callback, *args))
            return asyncio.get_running_loop().call_at(1e9, callback, *args)

        async def look() -> None:
            looks[-1]()
            await asyncio.sleep(0)

        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", remember)
        send = asyncio.ensure_future(transport.send(bytes(16 * 1024 * 1024)))
        await asyncio.sleep(0)
        for _ in range(10):
            for _ in range(LOOKS - 1):
                await look()
            left = transport._transport.get_write_buffer_size()
            while transport._transport.get_write_buffer_size() == left:
                peer.recv(READ_SIZE)
                await asyncio.sleep(0)
            await look()
            assert not send.done()
        for _ in range(LOOKS):
            await look()
        with pytest.raises(TimeoutError) as caught:
            await send
        assert str(caught.value) == "the deadline passed while sending"


async def test_a_task_cancelled_after_its_bytes_came_leaves_them_for_the_next() -> None:
    async with connected() as (transport, _):
        receive = asyncio.ensure_future(transport.receive())
        await asyncio.sleep(0)
        transport.get_buffer(-1)[:4] = b"kept"
        transport.buffer_updated(4)
        receive.cancel()  # It has been woken, and has not run since.
        with pytest.raises(asyncio.CancelledError):
            await receive
        assert await transport.receive() == b"kept"


async def test_bytes_that_come_in_the_turn_of_the_deadline_are_handed_out() -> None:
    async with connected() as (transport, _):
        transport.deadline = deadline = anyio.current_time() + 1000
        receive = asyncio.ensure_future(transport.receive())
        await asyncio.sleep(0)
        transport._on_timer(deadline)
        transport.get_buffer(-1)[:7] = b"in time"
        transport.buffer_updated(7)
        assert await receive == b"in time"


async def test_a_timer_fired_early_by_a_coarse_clock_counts_as_the_deadline() -> None:
    async with connected() as (transport, _):
        transport.deadline = deadline = anyio.current_time() + 0.015
        receive = asyncio.ensure_future(transport.receive())
        await asyncio.sleep(0)
        transport._on_timer(deadline)
        with pytest.raises(TimeoutError):
            await receive


async def test_reading_pauses_at_the_limit_and_goes_on_when_the_bytes_are_taken() -> None:
    async with connected() as (transport, peer):
        sent = bytes(range(256)) * 4096
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(loop.sock_sendall(peer, sent))
        while not transport._reading_paused:
            await anyio.lowlevel.checkpoint()
        assert UNREAD_LIMIT <= len(transport._unread) < UNREAD_LIMIT + READ_SIZE
        received = bytearray()
        while len(received) < len(sent):
            received += await transport.receive()
        await sending
        assert received == sent


async def test_bytes_that_come_one_by_one_take_no_more_memory_than_together() -> None:
    async with connected() as (transport, _):
        for _ in range(10_000):
            transport.get_buffer(-1)[:1] = b"x"
            transport.buffer_updated(1)
        assert sys.getsizeof(transport._unread) < 20_000
        assert await transport.receive() == b"x" * 10_000


async def test_the_send_whose_write_failed_says_so_itself() -> None:
    async with connected() as (transport, peer):
        peer.close()
        with pytest.raises(TransportBroken) as caught:
            await transport.send(b"x")
        assert isinstance(caught.value.__cause__, ConnectionError)


async def test_the_systems_own_time_out_is_not_the_deadlines() -> None:
    async with connected() as (transport, _):
        transport.connection_lost(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
        with pytest.raises(TransportBroken):
            await transport.receive()
        with pytest.raises(TransportBroken):
            await transport.send(b"x")


async def test_a_cancelled_send_ends_sending_and_not_receiving() -> None:
    async with connected() as (transport, peer):
        send = asyncio.ensure_future(transport.send(bytes(16 * 1024 * 1024)))
        await asyncio.sleep(0)
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
        for operation in (partial(transport.send, b"x"), transport.send_eof):
            with pytest.raises(TransportClosed) as caught:
                await operation()
            assert str(caught.value) == "nothing can be sent after a send that was cut short"
        peer.send(b"still read")
        assert await transport.receive() == b"still read"


async def test_its_repr_tells_the_peer_and_the_state() -> None:
    async with connected() as (transport, peer):
        assert repr(transport) == "<AsyncioTransport the other end, open>"
        peer.close()
        with pytest.raises(TransportBroken):
            await transport.send(b"x")
        assert repr(transport) == "<AsyncioTransport the other end, broken>"
        await transport.aclose()
        assert repr(transport) == "<AsyncioTransport the other end, closed>"
