"""What each promise of `Transport` means, as a coroutine that fails where it is not kept.

Knows: how to see a promise kept or broken with two connected transports, whatever they are made of.
Refuses to know: who runs the laws, and on which of the two ends: that is `check`'s.

No law depends on how fast the machine is. Where a deadline has to pass, a law looks at the order of events;
where one must not have passed yet and the machine was too slow, it tries again with more patience. Under
trio's autojump clock (transports in memory) the waiting takes no time at all.

PYTEST_DONT_REWRITE: a law that is broken says so in its own words, under pytest too, which would else add to
the assertions of all packages that bring it a plugin.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import anyio

from foundry_runtime.transport.api import Transport, TransportBroken, TransportBusy, TransportClosed

__all__ = ["HALF_CLOSE_LAWS", "LAWS", "Law"]

Law = Callable[[Transport, Transport], Awaitable[None]]
"""Raises unless the first transport, with the second as its peer, does as promised."""

SHORT: Final = 0.02
"""Seconds that a law lets a deadline run."""

COARSE: Final = 0.016
"""Seconds by which a clock may be wrong, as on Windows."""

PATIENCE: Final = (SHORT, 1.0, 20.0)
"""Seconds within which a law must get to its point before a deadline passes; the next if it did not."""

CHUNK: Final = random.Random(1).randbytes(64 * 1024)  # noqa: S311  (no secret: only unlike itself)

TOO_MUCH: Final = 64 * 1024 * 1024
"""Bytes that no transport may take from a sender whose peer does not read."""


# Bytes


async def bytes_arrive_in_order_in_any_chunking(near: Transport, far: Transport) -> None:
    """What is sent in pieces comes out whole, a piece of nothing is nothing, and no receive is empty."""
    sizes = (1, 0, 2, 3, 1000, 1, 65536, 65537, 200_000, 7)
    pieces = [random.Random(size).randbytes(size) for size in sizes]  # noqa: S311  (as above)

    async def send() -> None:
        for piece in pieces:
            await near.send(piece)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        received = await _receive_exactly(far, sum(sizes))
    assert received == b"".join(pieces), "the bytes differ from those sent"


async def both_directions_move_at_the_same_time(near: Transport, far: Transport) -> None:
    """Two large transfers cross, with a sender and a receiver at each end."""
    amount = 4 * 1024 * 1024

    async def send(transport: Transport, content: bytes) -> None:
        for _ in range(amount // len(content)):
            await transport.send(content)

    async def receive(transport: Transport, content: bytes) -> None:
        received = await _receive_exactly(transport, amount)
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
            await _turns(number % 3)
            await far.send(bytes([number]))
            await _turns(number % 7)
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
    _same(await _receive_exactly(far, 200), b"x" * 200)


# The end of the stream


async def closing_ends_the_peers_stream_after_the_last_byte(near: Transport, far: Transport) -> None:
    """What was sent before `aclose` arrives; then comes `b""`, as often as it is asked for."""
    await near.send(b"last words")
    await near.aclose()
    _same(await _receive_exactly(far, 10), b"last words")
    _same([await far.receive(), await far.receive()], [b"", b""])


async def the_end_wakes_who_waits_for_bytes(near: Transport, far: Transport) -> None:
    """A receive that waits when the peer closes returns `b""`."""
    outcome: list[object] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_receive_or_time_out, far, outcome)
        await _turns()
        await near.aclose()
    _same(outcome, [b""])


async def the_end_of_one_direction_leaves_the_other_open(near: Transport, far: Transport) -> None:
    """After `send_eof` the peer has read all, and its answer still comes."""
    await near.send(b"question")
    await near.send_eof()
    await near.send_eof()
    _same(await _receive_exactly(far, 8), b"question")
    _same([await far.receive(), await far.receive()], [b"", b""])
    await far.send(b"answer")
    _same(await _receive_exactly(near, 6), b"answer")
    await far.send_eof()
    _same(await near.receive(), b"")


async def nothing_can_be_sent_after_send_eof(near: Transport, far: Transport) -> None:
    """A send after `send_eof` raises `TransportClosed`, and the peer's bytes still come."""
    await near.send_eof()
    with _raises(TransportClosed):
        await near.send(b"afterthought")
    await far.send(b"still here")
    _same(await _receive_exactly(near, 10), b"still here")


# Deadlines


async def a_receive_that_waits_past_the_deadline_times_out(near: Transport, far: Transport) -> None:
    """`TimeoutError`, not before its time; afterwards the transport works as before."""
    near.deadline = deadline = anyio.current_time() + SHORT
    with _raises(TimeoutError):
        await near.receive()
    assert anyio.current_time() > deadline - COARSE, "the time-out came before the deadline"
    near.deadline = None
    await far.send(b"at last")
    _same(await _receive_exactly(near, 7), b"at last")


async def a_deadline_that_has_passed_refuses_at_once(near: Transport, far: Transport) -> None:
    """Both operations raise `TimeoutError`, even where they need not wait; nothing is taken, nothing sent."""
    await far.send(b"kept")
    await _turns()
    near.deadline = anyio.current_time() - 1
    with _raises(TimeoutError):
        await near.receive()
    with _raises(TimeoutError):
        await near.send(b"never sent")
    near.deadline = None
    await near.send(b"sent")
    _same(await _receive_exactly(far, 4), b"sent")
    _same(await _receive_exactly(near, 4), b"kept")


async def a_deadline_moved_earlier_while_waiting_is_honoured(near: Transport, far: Transport) -> None:
    """Whether there was none before, or a later one."""
    for before in (None, anyio.current_time() + 1000):
        near.deadline = before
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_expect, near.receive, TimeoutError)
            await _turns()
            near.deadline = anyio.current_time() + SHORT
    near.deadline = None
    await far.send(b"more")
    _same(await _receive_exactly(near, 4), b"more")


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
            tasks.start_soon(_receive_or_time_out, near, outcome)
            await _turns()
            near.deadline = instead
            if anyio.current_time() < first:
                await anyio.sleep_until(first + SHORT)
                await far.send(b"late")
                break
            tasks.cancel_scope.cancel()
        outcome.clear()
    _same(outcome, [b"late"])


async def a_deadline_of_an_earlier_wait_ends_no_later_one(near: Transport, far: Transport) -> None:
    """A wait begins with a deadline and ends in time; the next has none, and outlives it."""
    outcome: list[object] = []
    first = 0.0
    for patience in PATIENCE:
        near.deadline = first = anyio.current_time() + patience
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_receive_or_time_out, near, outcome)
            await _turns()
            await far.send(b"early")
        near.deadline = None
        if outcome == [b"early"]:
            break
        outcome.clear()
        _same(await _receive_exactly(near, 5), b"early")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_receive_or_time_out, near, outcome)
        await anyio.sleep_until(first + SHORT)
        await far.send(b"late")
    _same(outcome, [b"early", b"late"])


# Slow and vanished peers


async def a_send_waits_for_a_slow_reader_in_bounded_memory(near: Transport, far: Transport) -> None:
    """Nobody reads: soon a send waits, until its deadline; the stream is over, and what it took arrives."""
    taken = 0
    with _raises(TimeoutError):
        while taken < TOO_MUCH:
            near.deadline = anyio.current_time() + SHORT
            await near.send(CHUNK)
            taken += len(CHUNK)
    near.deadline = None
    with _raises(TransportClosed):
        await near.send(b"as if nothing had happened")
    with _raises(TransportClosed):
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
        tasks.start_soon(_receive_or_time_out, near, outcome)
        with _raises(TimeoutError):
            for _ in range(TOO_MUCH // len(CHUNK)):
                await near.send(CHUNK)
        near.deadline = anyio.current_time() + 1000
        await far.send(b"patient")
    _same(outcome, [b"patient"])


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
        _same(outcome, ["under way"])
    assert content.startswith(received), "the bytes differ from those sent"


async def closing_does_not_wait_for_the_reader(near: Transport, _far: Transport) -> None:
    """While another task sends and nobody reads, `aclose` returns, and that send raises `TransportClosed`."""

    async def pour() -> None:
        with _raises(TransportClosed):
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
        with _raises(TransportBroken):
            while sent < TOO_MUCH:
                await near.send(CHUNK)
                sent += len(CHUNK)
    await near.aclose()


# Closing and misuse


async def a_closed_transport_refuses_all_but_closing(near: Transport, far: Transport) -> None:
    """`TransportClosed` from each operation; `aclose` again and a new deadline do no harm."""
    await far.send(b"too late")
    await near.aclose()
    await near.aclose()
    near.deadline = anyio.current_time() + 1000
    for operation in (near.receive, near.send_eof, lambda: near.send(b"")):
        with _raises(TransportClosed):
            await operation()


async def closing_ends_who_waits_for_bytes(near: Transport, _far: Transport) -> None:
    """A receive that waits in another task raises `TransportClosed`, not an end of the stream."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect, near.receive, TransportClosed)
        await _turns()
        await near.aclose()


async def closing_works_when_cancelled(near: Transport, far: Transport) -> None:
    """In a cancelled scope `aclose` closes all the same."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await near.aclose()
    with _raises(TransportClosed):
        await near.receive()
    _same(await far.receive(), b"")


async def a_second_receive_at_once_is_refused(near: Transport, far: Transport) -> None:
    """`TransportBusy` for the second task; the first gets its bytes."""
    outcome: list[object] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_receive_or_time_out, near, outcome)
        await _turns()
        with _raises(TransportBusy):
            await near.receive()
        await far.send(b"first")
    _same(outcome, [b"first"])


@contextmanager
def _raises(kind: type[Exception]) -> Iterator[None]:
    """As pytest's, which this file must do without."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}, and nothing was raised")


def _same(actual: object, expected: object) -> None:
    assert actual == expected, f"expected {expected!r}, got {actual!r}"


async def _expect(operation: Callable[[], Awaitable[object]], kind: type[Exception]) -> None:
    with _raises(kind):
        await operation()


async def _turns(count: int = 10) -> None:
    """Let the other tasks run: as many turns of the loop."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def _receive_exactly(transport: Transport, size: int) -> bytes:
    """That many bytes, and not one more; the end must not come before."""
    received = bytearray()
    while len(received) < size:
        data = await transport.receive()
        assert data, f"the stream ended after {len(received)} of {size} bytes"
        received += data
    assert len(received) == size, f"{len(received)} bytes came instead of {size}"
    return bytes(received)


async def _receive_or_time_out(transport: Transport, outcome: list[object]) -> None:
    try:
        outcome.append(await transport.receive())
    except TimeoutError:
        outcome.append(TimeoutError)


LAWS: Final[Sequence[Law]] = (
    bytes_arrive_in_order_in_any_chunking,
    both_directions_move_at_the_same_time,
    a_cancelled_receive_loses_nothing,
    many_small_sends_let_other_tasks_run,
    closing_ends_the_peers_stream_after_the_last_byte,
    the_end_wakes_who_waits_for_bytes,
    nothing_can_be_sent_after_send_eof,
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
    a_closed_transport_refuses_all_but_closing,
    closing_ends_who_waits_for_bytes,
    closing_works_when_cancelled,
    a_second_receive_at_once_is_refused,
)
"""What every transport does."""

HALF_CLOSE_LAWS: Final[Sequence[Law]] = (the_end_of_one_direction_leaves_the_other_open,)
"""What a transport does besides, if it can end one direction alone."""
