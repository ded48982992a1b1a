"""What is left behind is found, by its kind."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from tests.support import leaks
from tests.support.leaks import backend_options, nothing_left


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_PATIENCE", 0.0)


def test_nothing_is_found_where_nothing_is_left() -> None:
    with nothing_left():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        asyncio.run(asyncio.sleep(0))


def test_a_thread_is_found() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="lost")
    with pytest.raises(AssertionError, match=r"^left behind: a thread: lost"), nothing_left():
        thread.start()
    over.set()
    thread.join()


def test_a_file_and_a_socket_are_found(tmp_path: Path) -> None:
    kept: list[Any] = []
    opens: dict[str, Callable[[], Any]] = {
        "lost": lambda: (tmp_path / "lost").open("w"),
        "socket": socket.socket,
    }
    for what, begin in opens.items():
        with pytest.raises(AssertionError, match=rf"^left behind: an open file: .*{what}"), nothing_left():
            kept.append(begin())
        kept.pop().close()


def test_a_task_of_asyncio_is_found() -> None:
    loop = backend_options("asyncio")["loop_factory"]()

    async def leave() -> asyncio.Task[None]:
        return asyncio.create_task(asyncio.sleep(3600), name="lost")

    with (
        pytest.raises(AssertionError, match=r"^left behind: a task of asyncio: lost \(sleep\)"),
        nothing_left(),
    ):
        task = loop.run_until_complete(leave())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_trios_tasks_are_counted() -> None:
    (count,) = backend_options("trio")["instruments"]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0)
            await trio.lowlevel.checkpoint()
            assert any("sleep" in name for name in count.running.values())

    with nothing_left():
        trio.run(main, instruments=[count])
    assert not count.running
