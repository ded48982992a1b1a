"""Long work in a thread: it reports how far it is, and can be stopped.

Knows: how a cancelled task waits until its thread has stopped, how a stopped thread takes its child process
with it, and how one process at a time does a work. Refuses to know: what the work is.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Self, TypeVar, final

import anyio
import anyio.to_thread

from foundry_runtime.platform import take_lock

__all__ = ["Progress", "Share", "Stopped", "Work", "alone", "part_of", "run_work"]

Progress = Callable[[str, float], None]
"""Told what is worked on, and the fraction of the whole that is done, from 0 to 1; perhaps in a thread."""


class Share(float):
    """A fraction of a whole, from 0 to 1, that knows of how many bytes of how many it tells.

    Who wants the fraction alone takes it for a number.

    Args:
        done: Bytes that are here.
        total: Bytes that there shall be.
        fraction: How much of the whole that is, if more than these bytes belongs to it.
    """

    done: int
    total: int

    def __new__(cls, done: int, total: int, fraction: float | None = None) -> Self:
        """Make one; nothing of nothing is all."""
        own = done / total if total else 1.0
        share = super().__new__(cls, own if fraction is None else fraction)
        share.done, share.total = done, total
        return share


def part_of(progress: Progress, begin: float, end: float) -> Progress:
    """Tell of a part of the whole as who tells of the whole.

    Args:
        progress: Told of the whole.
        begin: How much of it is done before the part, from 0 to 1.
        end: How much is done after it.
    """

    def tell(what: str, fraction: float) -> None:
        of_all = begin + (end - begin) * fraction
        if isinstance(fraction, Share):
            of_all = Share(fraction.done, fraction.total, of_all)
        progress(what, of_all)

    return tell


T = TypeVar("T")

WAITING: Final = "waiting for another process"
_LOCK_POLL: Final = 0.1
"""Seconds between two looks at a lock that another process has."""


class Stopped(Exception):
    """Raised inside a work that is no longer wanted."""


@final
class Work:
    """A work under way. The thread that does it calls `report` and `check`; any thread may call `stop`.

    Args:
        progress: Told how far the work is.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress
        self._span = (0.0, 1.0)
        """Where in the whole the part lies that is worked on."""
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Have the work end soon: its child process is killed, its next `check` raises."""
        with self._lock:
            self._stopping.set()
            if self._child is not None:
                self._child.kill()

    def check(self) -> None:
        """Go on, if the work is still wanted.

        Raises:
            Stopped: It is not.
        """
        if self._stopping.is_set():
            raise Stopped

    def report(self, what: str, fraction: float) -> None:
        """Tell how far the work is, and go on if it is still wanted.

        Args:
            what: What is worked on.
            fraction: How much is done: of the part that is worked on, from 0 to 1.

        Raises:
            Stopped: It is not.
        """
        self.check()
        if self._progress is not None:
            part_of(self._progress, *self._span)(what, fraction)

    @contextmanager
    def part(self, begin: float, end: float) -> Iterator[None]:
        """Take what is reported in the block for a part of the whole; blocks may stand within blocks.

        Args:
            begin: How much of the whole is done before, from 0 to 1.
            end: How much is done after.
        """
        outer = self._span
        size = outer[1] - outer[0]
        self._span = (outer[0] + size * begin, outer[0] + size * end)
        try:
            yield
        finally:
            self._span = outer

    @contextmanager
    def child(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program; its output and its errors come in one pipe. When the block ends, so has the program.

        Raises:
            Stopped: The work is no longer wanted.
            OSError: The program cannot be started.
        """
        with self._lock:
            self.check()
            child = subprocess.Popen(  # noqa: S603 (no shell, and nothing in the command is a stranger's)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(environment),
            )
            self._child = child
        try:
            with child:
                try:
                    yield child
                except BaseException:
                    child.kill()
                    raise
        finally:
            with self._lock:
                self._child = None
        self.check()

    @contextmanager
    def alone(self, path: Path) -> Iterator[None]:
        """Let one process at a time into the block; the others wait.

        Args:
            path: The file whose lock is used; see `foundry_runtime.platform.take_lock`.

        Raises:
            Stopped: The work is no longer wanted.
        """
        while (file := _try_alone(path)) is None:
            self.report(WAITING, 0.0)
            self._stopping.wait(_LOCK_POLL)
        with file:
            yield


async def run_work(function: Callable[[Work], T], progress: Progress | None = None) -> T:
    """Do a work in a thread. When the task is cancelled the work is stopped, and has ended when this raises.

    Args:
        function: Does the work, and often calls `check` or `report`.
        progress: Told how far the work is, in the work's thread.

    Returns:
        What the function returns; what it raises is raised.
    """
    work = Work(progress)
    begun, ended = threading.Event(), threading.Event()

    def do() -> T:
        begun.set()
        try:
            work.check()  # stopped before it began: nobody waits for it
            return function(work)
        finally:
            ended.set()

    try:
        return await anyio.to_thread.run_sync(do, abandon_on_cancel=True)
    except BaseException:
        work.stop()
        if begun.is_set() and not ended.is_set():
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(ended.wait)
        raise


@asynccontextmanager
async def alone(path: Path, progress: Progress) -> AsyncIterator[None]:
    """Let one task of one process at a time into the block; the others wait. As `Work.alone`, on the loop.

    Args:
        path: The file whose lock is used; see `foundry_runtime.platform.take_lock`.
        progress: Told of the wait.

    Raises:
        OSError: The file cannot be made.
    """
    while (file := _try_alone(path)) is None:
        progress(WAITING, 0.0)
        await anyio.sleep(_LOCK_POLL)
    with file:
        yield


def _try_alone(path: Path) -> BinaryIO | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    return take_lock(path)
