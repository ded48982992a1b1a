"""What each promise of `Transport` about bytes and ends means: a coroutine that fails where it is not kept.

Knows: how to see a promise kept or broken with two connected transports, whatever they are made of.
Refuses to know: who runs the laws, and on which of the two ends: that is `check`'s; deadlines and patience
(`_laws_of_waiting.py`).

PYTEST_DONT_REWRITE: a law that is broken says so in its own words, under pytest too, which would else add to
the assertions of all packages that bring it a plugin.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import anyio

from foundry_runtime.transport._seeing import (
    CHUNK,
    Law,
    expect,
    raises,
    receive_exactly,
    receive_or_time_out,
    same,
    turns,
)
from foundry_runtime.transport.api import Transport, TransportBusy, TransportClosed

__all__ = ["HALF_CLOSE_LAWS", "LAWS_OF_BYTES"]


# Bytes


async def bytes_arrive_in_order_in_any_chunking(near: Transport, far: Transport) -> None:
    """What is sent in pieces comes out whole, a piece of nothing is nothing, and no receive is empty."""
    sizes = (1, 0, 2, 3, 1000, 1, 65536, 65537, 200_000, 7)
    pieces = [random.Random(size).randbytes(size) for size in sizes]  # noqa: S311  (no secret)

    async def send() -> None:
        for piece in pieces:
            await near.send(piece)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        received = await receive_exactly(far, sum(sizes))
    assert received == b"".join(pieces), "the bytes differ from those sent"


async def both_directions_move_at_the_same_time(near: Transport, far: Transport) -> None:
    """Two large transfers cross, with a sender and a receiver at each end."""
    amount = 4 * 1024 * 1024

    async def send(transport: Transport, content: bytes) -> None:
        for _ in range(amount // len(content)):
            await transport.send(content)

    async def receive(transport: Transport, content: bytes) -> None:
        received = await receive_exactly(transport, amount)
        assert received == content * (amount // len(content)), "the bytes differ from those sent"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send, near, CHUNK)
        tasks.start_soon(send, far, CHUNK[::-1])
        tasks.start_soon(receive, near, CHUNK[::-1])
        tasks.start_soon(receive, far, CHUNK)


async def a_cancelled_receive_loses_nothing(near: Transport, far: Transport) -> None:
    """Receives are cancelled before, while and after bytes come; the next ones get all of them."""
    sent = bytes(range(200))
    received = bytearray()

    async def receive() -> None:
        received.extend(await near.receive())

    for number in sent:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await turns(number % 3)
            await far.send(bytes([number]))
            await turns(number % 7)
            tasks.cancel_scope.cancel()
    await far.aclose()
    while data := await near.receive():
        received += data
    assert received == sent, "the bytes differ from those sent"


async def many_small_sends_let_other_tasks_run(near: Transport, far: Transport) -> None:
    """A send that need not wait may return at once, but not for ever."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        # Few and small enough for every system to hold: no send has a reason to wait for the reader.
        for _ in range(200):
            await near.send(b"x")
        tasks.cancel_scope.cancel()
    assert turns >= 5, f"another task had {turns} turns during 200 sends"
    same(await receive_exactly(far, 200), b"x" * 200)


# The end of the stream


async def closing_ends_the_peers_stream_after_the_last_byte(near: Transport, far: Transport) -> None:
    """What was sent before `aclose` arrives; then comes `b""`, as often as it is asked for."""
    await near.send(b"last words")
    await near.aclose()
    same(await receive_exactly(far, 10), b"last words")
    same([await far.receive(), await far.receive()], [b"", b""])


async def the_end_wakes_who_waits_for_bytes(near: Transport, far: Transport) -> None:
    """A receive that waits when the peer closes returns `b""`."""
    outcome: list[object] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive_or_time_out, far, outcome)
        await turns()
        await near.aclose()
    same(outcome, [b""])


async def the_end_of_one_direction_leaves_the_other_open(near: Transport, far: Transport) -> None:
    """After `send_eof` the peer has read all, and its answer still comes."""
    await near.send(b"question")
    await near.send_eof()
    await near.send_eof()
    same(await receive_exactly(far, 8), b"question")
    same([await far.receive(), await far.receive()], [b"", b""])
    await far.send(b"answer")
    same(await receive_exactly(near, 6), b"answer")
    await far.send_eof()
    same(await near.receive(), b"")


async def nothing_can_be_sent_after_send_eof(near: Transport, far: Transport) -> None:
    """A send after `send_eof` raises `TransportClosed`, and the peer's bytes still come."""
    await near.send_eof()
    with raises(TransportClosed):
        await near.send(b"afterthought")
    await far.send(b"still here")
    same(await receive_exactly(near, 10), b"still here")


# Closing and misuse


async def a_closed_transport_refuses_all_but_closing(near: Transport, far: Transport) -> None:
    """`TransportClosed` from each operation; `aclose` again and a new deadline do no harm."""
    await far.send(b"too late")
    await near.aclose()
    await near.aclose()
    near.deadline = anyio.current_time() + 1000
    for operation in (near.receive, near.send_eof, lambda: near.send(b"")):
        with raises(TransportClosed):
            await operation()


async def closing_ends_who_waits_for_bytes(near: Transport, _far: Transport) -> None:
    """A receive that waits in another task raises `TransportClosed`, not an end of the stream."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(expect, near.receive, TransportClosed)
        await turns()
        await near.aclose()


async def closing_works_when_cancelled(near: Transport, far: Transport) -> None:
    """In a cancelled scope `aclose` closes all the same."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await near.aclose()
    with raises(TransportClosed):
        await near.receive()
    same(await far.receive(), b"")


async def a_second_receive_at_once_is_refused(near: Transport, far: Transport) -> None:
    """`TransportBusy` for the second task; the first gets its bytes."""
    outcome: list[object] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive_or_time_out, near, outcome)
        await turns()
        with raises(TransportBusy):
            await near.receive()
        await far.send(b"first")
    same(outcome, [b"first"])


LAWS_OF_BYTES: Final[Sequence[Law]] = (
    bytes_arrive_in_order_in_any_chunking,
    both_directions_move_at_the_same_time,
    a_cancelled_receive_loses_nothing,
    many_small_sends_let_other_tasks_run,
    closing_ends_the_peers_stream_after_the_last_byte,
    the_end_wakes_who_waits_for_bytes,
    nothing_can_be_sent_after_send_eof,
    a_closed_transport_refuses_all_but_closing,
    closing_ends_who_waits_for_bytes,
    closing_works_when_cancelled,
    a_second_receive_at_once_is_refused,
)
"""What every transport does with bytes, and when either side ends."""

HALF_CLOSE_LAWS: Final[Sequence[Law]] = (the_end_of_one_direction_leaves_the_other_open,)
"""What a transport does besides, if it can end one direction alone."""
