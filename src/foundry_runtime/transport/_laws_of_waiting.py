"""The promises of `Transport` about time: deadlines, patience, and peers that are slow or gone.

Knows: how to see them kept or broken with two connected transports, whatever they are made of.
Refuses to know: who runs the laws, and on which of the two ends: that is `check`'s.

No law depends on how fast the machine is. Where a deadline has to pass, a law looks at the order of events;
where one must not have passed yet and the machine was too slow, it tries again with more patience. Under
trio's autojump clock (transports in memory) the waiting takes no time at all.

PYTEST_DONT_REWRITE: a law that is broken says so in its own words, under pytest too, which would else add to
the assertions of all packages that bring it a plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from foundry_runtime.transport._seeing import (
    CHUNK,
    SHORT,
    TOO_MUCH,
    Law,
    expect,
    raises,
    receive_exactly,
    receive_or_time_out,
    same,
    turns,
)
from foundry_runtime.transport.api import Transport, TransportBroken, TransportClosed

__all__ = ["LAWS_OF_WAITING"]

COARSE: Final = 0.016
"""Seconds by which a clock may be wrong, as on Windows."""

PATIENCE: Final = (SHORT, 1.0, 20.0)
"""Seconds within which a law must get to its point before a deadline passes; the next if it did not."""


# Deadlines


async def a_receive_that_waits_past_the_deadline_times_out(near: Transport, far: Transport) -> None:
    """`TimeoutError`, not before its time; afterwards the transport works as before."""
    near.deadline = deadline = anyio.current_time() + SHORT
    with raises(TimeoutError):
        await near.receive()
    assert anyio.current_time() > deadline - COARSE, "the time-out came before the deadline"
    near.deadline = None
    await far.send(b"at last")
    same(await receive_exactly(near, 7), b"at last")


async def a_deadline_that_has_passed_refuses_at_once(near: Transport, far: Transport) -> None:
    """Both operations raise `TimeoutError`, even where they need not wait; nothing is taken, nothing sent."""
    await far.send(b"kept")
    await turns()
    near.deadline = anyio.current_time() - 1
    with raises(TimeoutError):
        await near.receive()
    with raises(TimeoutError):
        await near.send(b"never sent")
    near.deadline = None
    await near.send(b"sent")
    same(await receive_exactly(far, 4), b"sent")
    same(await receive_exactly(near, 4), b"kept")


async def a_deadline_moved_earlier_while_waiting_is_honoured(near: Transport, far: Transport) -> None:
    """Whether there was none before, or a later one."""
    for before in (None, anyio.current_time() + 1000):
        near.deadline = before
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(expect, near.receive, TimeoutError)
            await turns()
            near.deadline = anyio.current_time() + SHORT
    near.deadline = None
    await far.send(b"more")
    same(await receive_exactly(near, 4), b"more")


async def a_deadline_moved_later_while_waiting_is_honoured(near: Transport, far: Transport) -> None:
    """The moment first set passes, and the receive still waits for its bytes."""
    await _outlive_a_deadline(near, far, instead=anyio.current_time() + 1000)


async def a_deadline_removed_while_waiting_never_comes(near: Transport, far: Transport) -> None:
    """`None` waits for ever, though a moment was set when the waiting began."""
    await _outlive_a_deadline(near, far, instead=None)


async def _outlive_a_deadline(near: Transport, far: Transport, *, instead: float | None) -> None:
    outcome: list[object] = []
    for patience in PATIENCE:
        near.deadline = first = anyio.current_time() + patience
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive_or_time_out, near, outcome)
            await turns()
            near.deadline = instead
            if anyio.current_time() < first:
                await anyio.sleep_until(first + SHORT)
                await far.send(b"late")
                break
            tasks.cancel_scope.cancel()
        outcome.clear()
    same(outcome, [b"late"])


async def a_deadline_of_an_earlier_wait_ends_no_later_one(near: Transport, far: Transport) -> None:
    """A wait begins with a deadline and ends in time; the next has none, and outlives it."""
    outcome: list[object] = []
    first = 0.0
    for patience in PATIENCE:
        near.deadline = first = anyio.current_time() + patience
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive_or_time_out, near, outcome)
            await turns()
            await far.send(b"early")
        near.deadline = None
        if outcome == [b"early"]:
            break
        outcome.clear()
        same(await receive_exactly(near, 5), b"early")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive_or_time_out, near, outcome)
        await anyio.sleep_until(first + SHORT)
        await far.send(b"late")
    same(outcome, [b"early", b"late"])


# Slow and vanished peers


async def a_send_waits_for_a_slow_reader_in_bounded_memory(near: Transport, far: Transport) -> None:
    """Nobody reads: soon a send waits, until its deadline; the stream is over, and what it took arrives."""
    taken = 0
    with raises(TimeoutError):
        while taken < TOO_MUCH:
            near.deadline = anyio.current_time() + SHORT
            await near.send(CHUNK)
            taken += len(CHUNK)
    near.deadline = None
    with raises(TransportClosed):
        await near.send(b"as if nothing had happened")
    with raises(TransportClosed):
        await near.send_eof()
    await near.aclose()
    received = bytearray()
    while len(received) < taken:  # And perhaps a part of the send that was cut short.
        received += await far.receive()
    assert received[:taken] == CHUNK * (taken // len(CHUNK)), "the bytes differ from those sent"


async def a_send_waits_no_longer_than_its_patience(near: Transport, far: Transport) -> None:
    """Nobody reads: a send ends in `TimeoutError`, whatever the deadline is meanwhile; a receive goes on."""
    outcome: list[object] = []
    near.send_patience = SHORT
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive_or_time_out, near, outcome)
        with raises(TimeoutError):
            for _ in range(TOO_MUCH // len(CHUNK)):
                await near.send(CHUNK)
        near.deadline = anyio.current_time() + 1000
        await far.send(b"patient")
    same(outcome, [b"patient"])


async def a_send_goes_on_while_some_of_it_is_taken(near: Transport, far: Transport) -> None:
    """A reader takes a share again and again: one send outlasts its patience, and is still under way."""
    content = CHUNK * (16 * 1024 * 1024 // len(CHUNK))
    near.send_patience = 3 * SHORT
    outcome: list[object] = []

    async def send() -> None:
        try:
            await near.send(content)
        except TimeoutError:
            outcome.append("given up")
            await near.aclose()
        except TransportClosed:
            outcome.append("under way")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        received, longest, moment = bytearray(), 0.0, anyio.current_time()
        for share in range(1, 13):
            while len(received) < share * 512 * 1024 and (data := await far.receive()):
                received += data
            await anyio.sleep(SHORT / 2)
            longest, moment = max(longest, anyio.current_time() - moment), anyio.current_time()
        await near.aclose()
    if longest < SHORT:  # Else the machine was too slow to tell.
        same(outcome, ["under way"])
    assert content.startswith(received), "the bytes differ from those sent"


async def closing_does_not_wait_for_the_reader(near: Transport, _far: Transport) -> None:
    """While another task sends and nobody reads, `aclose` returns, and that send raises `TransportClosed`."""

    async def pour() -> None:
        with raises(TransportClosed):
            while True:
                await near.send(CHUNK)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pour)
        await anyio.sleep(SHORT)
        await near.aclose()


async def sending_to_a_peer_that_is_gone_breaks(near: Transport, far: Transport) -> None:
    """`TransportBroken` at last (a network needs a moment to know), and ever after."""
    await far.aclose()
    sent = 0
    for _ in range(2):
        with raises(TransportBroken):
            while sent < TOO_MUCH:
                await near.send(CHUNK)
                sent += len(CHUNK)
    await near.aclose()


LAWS_OF_WAITING: Final[Sequence[Law]] = (
    a_receive_that_waits_past_the_deadline_times_out,
    a_deadline_that_has_passed_refuses_at_once,
    a_deadline_moved_earlier_while_waiting_is_honoured,
    a_deadline_moved_later_while_waiting_is_honoured,
    a_deadline_removed_while_waiting_never_comes,
    a_deadline_of_an_earlier_wait_ends_no_later_one,
    a_send_waits_for_a_slow_reader_in_bounded_memory,
    a_send_waits_no_longer_than_its_patience,
    a_send_goes_on_while_some_of_it_is_taken,
    closing_does_not_wait_for_the_reader,
    sending_to_a_peer_that_is_gone_breaks,
)
"""What every transport does about time."""
