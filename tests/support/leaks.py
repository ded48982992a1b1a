"""What a test has left behind: tasks, threads, files and sockets.

`pytest --strict-leaks` looks after each test, has asyncio in its debug mode, and counts trio's tasks. It is
off otherwise, since it looks at all open files twice for each test.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import trio

__all__ = ["backend_options", "nothing_left"]

_PATIENCE: Final = 2.0
"""Seconds that what is on its way out has to go."""
_KEPT: Final = (
    "Trio thread",
    "AnyIO worker thread",
    "asyncio_",
    "pytest-",
    "ThreadPoolExecutor",
    "reaper of",
)
"""Threads that libraries keep for the next that wants one, and what waits for a service that was started: a
module's tests may share one."""
_FILES: Final = "/proc/self/fd"

_left: list[str] = []
"""What the event loops of the test that runs have found."""


class _StrictLoop(asyncio.SelectorEventLoop):
    """Sees which tasks are still there whenever something was run to its end."""

    def run_until_complete(self, future: Any) -> Any:
        result = super().run_until_complete(future)
        for task in asyncio.all_tasks(self):
            name = getattr(task.get_coro(), "__qualname__", "")
            if not name.endswith("_run_tests_and_fixtures"):  # the plugin's own, which runs the tests
                _left.append(f"a task of asyncio: {task.get_name()} ({name})")
        return result


class _TaskCount(trio.abc.Instrument):
    """Counts trio's tasks: each that began has ended when the run has."""

    def __init__(self) -> None:
        self.running: dict[int, str] = {}

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.running[id(task)] = task.name

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.running.pop(id(task), None)

    def after_run(self) -> None:
        _left.extend(f"a task of trio: {name}" for name in self.running.values())


def backend_options(backend: str) -> dict[str, Any]:
    """Options of a loop that is looked at closely."""
    if backend == "asyncio":
        return {"debug": True, "loop_factory": _StrictLoop}
    return {"instruments": [_TaskCount()]}


def _threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if not one.name.startswith(_KEPT)}


def _files() -> Mapping[int, str]:
    """The open files of this process, where its system tells them."""
    found = {}
    for name in os.listdir(_FILES) if os.path.isdir(_FILES) else ():  # noqa: PTH112, PTH208 - quick
        try:
            found[int(name)] = os.readlink(f"{_FILES}/{name}")  # noqa: PTH115
        except OSError:
            pass  # the listing's own
    return found


def _new(threads: set[threading.Thread], files: Mapping[int, str]) -> list[str]:
    more = [f"a thread: {one.name}" for one in _threads() - threads]
    more += [f"an open file: {what}" for fd, what in _files().items() if files.get(fd) != what]
    return more


@contextmanager
def nothing_left() -> Iterator[None]:
    """Hold that what runs inside leaves nothing behind.

    Raises:
        AssertionError: It does.
    """
    threads, files = _threads(), _files()
    _left.clear()
    yield
    deadline = time.monotonic() + _PATIENCE
    while more := _new(threads, files):
        gc.collect()
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    found = [*_left, *more]
    _left.clear()
    assert not found, f"left behind: {'; '.join(found)}"
