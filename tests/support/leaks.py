"""What a test has left behind: tasks, threads, child processes, files and sockets.

Each test is looked after, always. Under Python's development mode asyncio is in its debug mode as well:
`python -X dev -W error -m pytest`. What a child process leaves is told by `children/sitecustomize.py`, which
Python imports first in each one that inherits this one's environment.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import trio

__all__ = ["looked_after", "no_service_left", "nothing_left", "passed_on", "shared"]

_PATIENCE: Final = 10.0
"""Seconds that what is on its way out has to go."""
_KEPT: Final = ("Trio thread", "AnyIO worker thread", "asyncio_")
"""Threads that wait for the next that wants one: for a while, or as long as a loop which a module shares."""
_REAPER: Final = "reaper of"
_SERVICE: Final = " -m foundry_serve.daemon "
_TRIOS_OWN: Final = ("<init>", "<TrioToken.run_sync_soon task>")
_FILES: Final = "/proc/self/fd"
_THREADS: Final = "/proc/self/task"
_CHILDREN: Final = Path(__file__).with_name("children")
_TELL: Final = "TESTS_TELL_WHAT_IS_LEFT"
"""Names the folder in which child processes tell."""

shared: Final = set[int]()
"""The child processes that a test may leave, since others use them and a fixture ends them."""
_left: list[str] = []
"""What the event loops of the test that runs have found."""

if sys.platform == "win32":
    _Loop = asyncio.ProactorEventLoop
else:
    _Loop = asyncio.SelectorEventLoop


class _StrictLoop(_Loop):
    """Sees which tasks are still there whenever something was run to its end."""

    def run_until_complete(self, future: Any) -> Any:
        try:
            return super().run_until_complete(future)
        finally:
            for task in asyncio.all_tasks(self):
                name = getattr(task.get_coro(), "__qualname__", "")
                if not name.endswith("_run_tests_and_fixtures"):  # the plugin's own, which runs the tests
                    _left.append(f"a task of asyncio: {task.get_name()} ({name})")


class _StrictLoops(asyncio.DefaultEventLoopPolicy):
    """Gives loops that see which tasks are left, to whoever wants one."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _StrictLoop()


class _AsyncioSays(logging.Handler):
    """Of what was left and what nobody looked at, asyncio only logs an error."""

    def emit(self, record: logging.LogRecord) -> None:
        _left.append(f"asyncio's own words: {record.getMessage()}")


class _TaskCount(trio.abc.Instrument):
    """Counts trio's tasks: when the main one ends, the others have ended.

    Only system tasks can be left: those of a nursery end with it. Trio cancels them, and says nothing.
    """

    def __init__(self) -> None:
        self.running: dict[trio.lowlevel.Task, str] = {}
        self.main: trio.lowlevel.Task | None = None

    def before_run(self) -> None:
        self.main = None

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if task.name in _TRIOS_OWN:
            return
        self.main = self.main or task
        self.running[task] = task.name

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.running.pop(task, None)
        if task is self.main:
            _left.extend(f"a task of trio: {name}" for name in self.running.values())


def _counted(run: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(run)
    def counted(*arguments: Any, instruments: Sequence[trio.abc.Instrument] = (), **more: Any) -> Any:
        return run(*arguments, instruments=[*instruments, _TaskCount()], **more)

    return counted


def passed_on() -> None:
    """Have Python's development mode and its warnings in the processes that run a part of the tests, too."""
    if sys.flags.dev_mode:
        os.environ["PYTHONDEVMODE"] = "1"
    if sys.warnoptions:
        os.environ["PYTHONWARNINGS"] = ",".join(sys.warnoptions)


@contextmanager
def looked_after(told: Path) -> Iterator[None]:
    """Have all event loops, and all child processes, tell what is left.

    Args:
        told: An empty folder, for what children have to tell.
    """
    says = _AsyncioSays(logging.ERROR)
    logging.getLogger("asyncio").addHandler(says)
    policy = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_StrictLoops())
    before = {name: os.environ.get(name) for name in (_TELL, "PYTHONPATH", "PYTHONWARNINGS")}
    os.environ[_TELL] = str(told)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_CHILDREN), before["PYTHONPATH"]]))
    os.environ["PYTHONWARNINGS"] = before["PYTHONWARNINGS"] or "error"
    sys.path.append(str(_CHILDREN))  # who starts a child may give it this process's path instead
    with (
        patch.object(trio, "run", _counted(trio.run)),
        patch.object(trio.lowlevel, "start_guest_run", _counted(trio.lowlevel.start_guest_run)),
    ):
        yield
    sys.path.remove(str(_CHILDREN))
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    asyncio.set_event_loop_policy(policy)
    logging.getLogger("asyncio").removeHandler(says)


def _threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if not one.name.startswith((*_KEPT, _REAPER))}


def _files() -> Mapping[int, str]:
    """The open files of this process, where its system tells them."""
    found = {}
    for name in os.listdir(_FILES) if os.path.isdir(_FILES) else ():  # noqa: PTH112, PTH208 - quick
        try:
            found[int(name)] = os.readlink(f"{_FILES}/{name}")  # noqa: PTH115
        except OSError:
            pass  # the listing's own
    return found


def _children() -> set[int]:
    """The child processes that nobody has waited for, where the system tells them."""
    found: set[int] = set()
    for thread in os.listdir(_THREADS) if os.path.isdir(_THREADS) else ():  # noqa: PTH112, PTH208 - quick
        try:
            with open(f"{_THREADS}/{thread}/children", "rb") as file:  # noqa: PTH123
                found.update(map(int, file.read().split()))
        except OSError:
            pass  # a thread that has ended
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return ""


def _said_by_children() -> Iterator[str]:
    told = os.environ.get(_TELL)
    for path in sorted(Path(told).iterdir()) if told else ():
        yield f"by a child process: {path.read_text(encoding='utf-8', errors='replace')}"
        path.unlink()


@contextmanager
def nothing_left() -> Iterator[None]:
    """Hold that what runs inside leaves nothing behind, but for a service: a module's tests may share one.

    Raises:
        AssertionError: It does.
    """
    threads, children, files = _threads(), _children(), _files()

    def new() -> list[str]:
        more = [f"a thread: {one.name}" for one in _threads() - threads]
        commands = ((pid, _command(pid)) for pid in _children() - children - shared)
        more += [f"a child process: {pid} {command}" for pid, command in commands if _SERVICE not in command]
        return more + [f"an open file: {what}" for fd, what in _files().items() if files.get(fd) != what]

    _left.clear()
    yield
    more = _patiently(new)
    found = [*_left, *more, *_said_by_children()]
    _left.clear()
    assert not found, f"left behind: {'; '.join(found)}"


@contextmanager
def no_service_left() -> Iterator[None]:
    """Hold that each service that is started inside ends there, too.

    Raises:
        AssertionError: One does not.
    """

    def services() -> list[str]:
        found = [one for one in map(_command, _children()) if _SERVICE in one]
        return found + [one.name for one in threading.enumerate() if one.name.startswith(_REAPER)]

    yield
    found = _patiently(services)
    assert not found, f"left behind: a service: {'; '.join(found)}"


def _patiently(look: Callable[[], list[str]]) -> list[str]:
    """What is still there after a while."""
    deadline, pause = time.monotonic() + _PATIENCE, 0.001
    while found := look():
        gc.collect()
        if time.monotonic() > deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, 0.2)  # collecting takes longer, and what is on its way out needs its turns
    return found
