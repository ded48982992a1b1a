"""Turns: one at a time, in the order of asking, and none is forgotten."""

from __future__ import annotations

import threading
import time

import pytest

from foundry_runtime.engine.turns import Turns


def wait_for_waiters(turns: Turns, count: int) -> None:
    while len(turns._waiting) < count:
        time.sleep(0.001)


def test_turns_go_to_those_who_asked_in_their_order() -> None:
    turns = Turns()
    order: list[str] = []

    def take(name: str) -> None:
        with turns:
            order.append(name)

    threads = [threading.Thread(target=take, args=(name,)) for name in ("first", "second", "third")]
    with turns:
        for waiting, thread in enumerate(threads, start=1):
            thread.start()
            wait_for_waiters(turns, waiting)
        order.append("holder")
    with turns:  # asked after them: a plain lock would most likely let us in again at once
        order.append("holder again")
    for thread in threads:
        thread.join()
    assert order == ["holder", "first", "second", "third", "holder again"]


def test_only_one_is_inside() -> None:
    turns = Turns()
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(300):
            with turns:
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


def test_an_error_inside_gives_the_turn_on() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns:
        raise ZeroDivisionError
    with turns:
        pass
