"""Thread → loop: nothing is lost, nothing waits, and a dead loop hurts nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from foundry_runtime.wakeup import Doorbell, Inbox, Latch


async def collect(inbox: Inbox[int], count: int) -> list[int]:
    items: list[int] = []
    while len(items) < count:
        received = await inbox.receive()
        assert received
        items += received
    return items


@pytest.mark.anyio
async def test_items_of_a_thread_arrive_in_order_and_none_is_lost() -> None:
    inbox: Inbox[int] = Inbox()

    def give() -> None:
        for number in range(5000):
            inbox.put(number)

    thread = threading.Thread(target=give)
    thread.start()
    assert await collect(inbox, 5000) == list(range(5000))
    thread.join()
    assert inbox.receive_nowait() == []


@pytest.mark.anyio
async def test_items_of_many_threads_all_arrive() -> None:
    inbox: Inbox[int] = Inbox()

    def give() -> None:
        for number in range(500):
            inbox.put(number)

    threads = [threading.Thread(target=give) for _ in range(4)]
    for thread in threads:
        thread.start()
    items = await collect(inbox, 2000)
    for thread in threads:
        thread.join()
    assert sorted(items) == sorted(list(range(500)) * 4)


@pytest.mark.anyio
async def test_the_loop_is_woken_only_when_the_inbox_was_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    rings: list[Doorbell] = []
    ring = Doorbell.ring

    def counted(bell: Doorbell) -> None:
        rings.append(bell)
        ring(bell)

    monkeypatch.setattr(Doorbell, "ring", counted)
    inbox: Inbox[int] = Inbox()
    for number in range(10):
        inbox.put(number)
    assert len(rings) == 1
    assert await inbox.receive() == list(range(10))
    inbox.put(10)
    inbox.put(11)
    assert len(rings) == 2
    assert await inbox.receive() == [10, 11]


@pytest.mark.anyio
@pytest.mark.parametrize("first", ["item", "cancel"])
async def test_a_cancelled_receiver_loses_nothing(first: str) -> None:
    inbox: Inbox[int] = Inbox()
    received: list[int] = []

    async def receive() -> None:
        received.extend(await inbox.receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        if first == "item":
            inbox.put(1)
        tasks.cancel_scope.cancel()
        if first == "cancel":
            inbox.put(1)
    assert received + inbox.receive_nowait() == [1]


@pytest.mark.anyio
async def test_a_receiver_that_is_cancelled_already_takes_nothing() -> None:
    inbox: Inbox[int] = Inbox()
    inbox.put(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await inbox.receive()
    assert scope.cancelled_caught
    assert await inbox.receive() == [1]


@pytest.mark.anyio
async def test_closing_ends_a_waiting_receiver_and_drops_what_comes() -> None:
    inbox: Inbox[int] = Inbox()
    ended: list[str] = []

    async def receive() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await inbox.receive()
        ended.append("closed")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        inbox.close()
    assert ended == ["closed"]
    inbox.put(1)
    with pytest.raises(anyio.ClosedResourceError):
        inbox.receive_nowait()
    with pytest.raises(anyio.ClosedResourceError):
        await inbox.receive()


@pytest.mark.anyio
async def test_only_one_task_receives() -> None:
    inbox: Inbox[int] = Inbox()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inbox.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await inbox.receive()
        inbox.put(1)
    inbox.put(2)
    assert await inbox.receive() == [2]


@pytest.mark.anyio
async def test_a_receiver_that_always_finds_items_lets_others_run() -> None:
    inbox: Inbox[int] = Inbox()
    turns: list[str] = []

    async def busy() -> None:
        for _ in range(3):
            inbox.put(0)
            await inbox.receive()
            turns.append("receiver")

    async def other() -> None:
        for _ in range(3):
            turns.append("other")
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy)
        tasks.start_soon(other)
    assert turns[:3] != ["receiver"] * 3
    assert turns[:3] != ["other"] * 3


@pytest.mark.anyio
async def test_a_latch_lets_all_go_on_and_stays_open() -> None:
    latch = Latch()
    passed: list[int] = []

    async def wait(number: int) -> None:
        await latch.wait()
        passed.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(wait, number)
        await anyio.wait_all_tasks_blocked()
        assert (passed, latch.is_set) == ([], False)
        thread = threading.Thread(target=latch.set)
        thread.start()
    thread.join()
    assert sorted(passed) == [0, 1, 2]
    latch.set()
    await latch.wait()
    assert latch.is_set


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_closed_loop_does_no_harm(backend: str) -> None:
    async def make() -> tuple[Inbox[int], Latch]:
        latch = Latch()
        with anyio.move_on_after(0):
            await latch.wait()
        return Inbox(), latch

    inbox, latch = anyio.run(make, backend=backend)
    inbox.put(1)
    inbox.close()
    latch.set()
    assert latch.is_set


def test_one_latch_serves_several_loops() -> None:
    latch = Latch()
    passed: list[str] = []

    def in_a_loop(backend: str) -> Callable[[], None]:
        async def wait() -> None:
            await latch.wait()
            passed.append(backend)

        return lambda: anyio.run(wait, backend=backend)

    threads = [threading.Thread(target=in_a_loop(backend)) for backend in ("asyncio", "trio", "asyncio")]
    for thread in threads:
        thread.start()
    latch.set()
    for thread in threads:
        thread.join()
    assert sorted(passed) == ["asyncio", "asyncio", "trio"]


def test_a_token_that_is_the_loop_itself_will_do() -> None:
    """anyio before 4.11 gave the loop's own object, and no token around it."""
    current_token = anyio.lowlevel.current_token

    async def ring() -> None:
        bell = Doorbell()
        thread = threading.Thread(target=bell.ring)
        thread.start()
        await bell.wait()
        thread.join()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio.lowlevel, "current_token", lambda: current_token().native_token)
        for backend in ("asyncio", "trio"):
            anyio.run(ring, backend=backend)
