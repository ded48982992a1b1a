"""Drives a transfer: HTTP on one side, the disk on the other.

Knows: who waits for whom. Bytes go from a connection to the file, are flushed for many at a time, and only
then told to the machine as flushed.
Refuses to know: what is to be done next (`foundry_proto.transfer`), what an answer must be (`ranges.py`),
where files are when an address has expired (`addresses.py`), and how files are written (`disk.py`).

The loop itself never touches the disk.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, assert_never

import anyio
import anyio.to_thread
from attrs import define, evolve, field

from foundry_proto.transfer import (
    Ended,
    Fetch,
    Plan,
    Prepare,
    Range,
    SaveRecord,
    Transfer,
    Verify,
    Wait,
    WantedFile,
)
from foundry_runtime.download.fetching.addresses import Addresses
from foundry_runtime.download.fetching.disk import Disk, OpenFile
from foundry_runtime.download.fetching.ranges import Body, NoRanges, range_of
from foundry_runtime.download.fetching.remote import Limits, Listing
from foundry_runtime.download.http import RequestFailed, shown
from foundry_runtime.download.sources.api import DownloadFailed, Place
from foundry_runtime.download.work import Progress, Share

if TYPE_CHECKING:
    import httpx

__all__ = ["fetch_folder"]

_KIB: Final = 1024
_BLOCK: Final = 1024 * _KIB
"""How many bytes are written at a time."""
_BLOCKS: Final = (16 * _KIB, 16 * 1024 * _KIB)
"""The least and the most of them."""
_LATEST: Final = 1.0
"""Seconds after which any bytes are."""
_EXPIRED: Final = frozenset({401, 403})
_WHOLE: Final = 2**62
"""A range of any file."""

P = ParamSpec("P")
T = TypeVar("T")


async def fetch_folder(
    listing: Listing,
    place: Place,
    progress: Progress,
    *,
    client: httpx.AsyncClient,
    buffer_size: int | None = None,
    limits: Limits | None = None,
) -> None:
    """Bring files into a place's folder: these, whole, and no others.

    What an earlier call has left is gone on with. When it is cancelled, all work has ended when it raises,
    and what has come until then is kept.

    Args:
        listing: Says which files there are, and where.
        place: Where to; one call for a place at a time.
        progress: Told the file and how much of all is done, from 0 to 1.
        client: As `open_client` gives it.
        buffer_size: How many bytes to write at a time.
        limits: How much at a time, and how patiently.

    Raises:
        DownloadFailed: They cannot be got; the text says why.
        OSError: A file cannot be written.
        BadPlan: The files cannot lie in one folder.
    """
    limits = limits or Limits()
    files = await listing()
    addresses = Addresses(listing, {file.wanted.path: file for file in files})
    block = min(max(buffer_size or _BLOCK, _BLOCKS[0]), _BLOCKS[1])
    while True:
        wanted = [file.wanted for file in files]
        disk, machine = await anyio.to_thread.run_sync(_open, place.folder, wanted, limits)
        fetcher = _Fetcher(machine, disk, addresses, client, progress, limits, block)
        if await fetcher.run():
            break
        # One answer a file: what it has in front of what is missing must be passed over, but only once.
        limits = evolve(limits, range_size=_WHOLE)
    await anyio.to_thread.run_sync(disk.finish)


def _open(folder: Path, files: Sequence[WantedFile], limits: Limits) -> tuple[Disk, Transfer]:
    """See what there is. In a thread: with thousands of files it takes longer than a loop may stand still."""
    plan = Plan(files)
    disk = Disk(folder, plan)
    found = disk.open()
    machine = Transfer(
        plan,
        found.sizes,
        found.record,
        range_size=limits.range_size,
        # Twice as many as there are connections: half of them may be waiting for the disk.
        parallel=limits.connections * 2,
        save_every=limits.save_every,
        attempts=limits.attempts,
    )
    return disk, machine


@define(eq=False)
class _Part:
    """A range that is on its way."""

    range: Range
    written: int
    """The position up to which its bytes are in the file."""
    flushed: int
    file: OpenFile
    pieces: list[bytes] = field(factory=list)
    """What has come and is not written."""
    waiting: int = 0
    """Bytes of it."""
    ended: bool = False
    """Whether nothing more is written."""
    failure: RequestFailed | None = None


@define(eq=False)
class _Fetcher:
    """One attempt at a transfer."""

    _machine: Transfer
    _disk: Disk
    _addresses: Addresses
    _client: httpx.AsyncClient
    _progress: Progress
    _limits: Limits
    _block: int
    _parts: dict[int, _Part] = field(init=False, factory=dict)
    _error: BaseException | None = field(init=False, default=None)
    """Why it is given up."""
    _is_over: bool = field(init=False, default=False)
    """Whether nothing is left to be done, or to be kept."""
    _written: int = field(init=False, default=0)
    """Bytes, of all files."""
    _flushed: int = field(init=False, default=0)
    """Of these, those that will outlive a crash."""
    _recorded: int = field(init=False, default=0)
    """Of these, those of which a record says so."""
    _changed: anyio.Event = field(init=False, factory=anyio.Event)
    """Whether the machine knows something new."""
    _dirty: anyio.Event = field(init=False, factory=anyio.Event)
    """Whether anything is to be flushed."""
    _urgent: anyio.Event = field(init=False, factory=anyio.Event)
    """Whether it is worth it at once."""
    _room: anyio.Event = field(init=False, factory=anyio.Event)
    """Whether something was recorded."""
    _stopping: Event = field(init=False, factory=Event)
    """Ends threads that compute for long."""
    _connections: anyio.CapacityLimiter = field(init=False)
    _threads: anyio.CapacityLimiter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connections = anyio.CapacityLimiter(self._limits.connections)
        self._threads = anyio.CapacityLimiter(self._limits.connections + 4)

    async def run(self) -> bool:
        """Fetch.

        Returns:
            Whether all is there; else the server gives whole files only.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._doing, self._flush_always)
                try:
                    reason = await self._drive(tasks)
                finally:
                    self._stopping.set()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._settle()
        if isinstance(self._error, NoRanges):
            return False
        if self._error is not None:
            raise self._error
        if reason is not None:
            raise DownloadFailed(reason)
        return True

    async def _drive(self, tasks: anyio.abc.TaskGroup) -> str | None:
        """Do what the machine says, until it has ended or something has failed for good."""
        machine = self._machine
        self._tell()
        to_make: list[Prepare] = []
        while self._error is None and machine.given_up is None:
            action = machine.next_action(anyio.current_time())
            if to_make and not isinstance(action, Prepare):
                # All that are told in a row, together: each thread costs as much as a small file.
                tasks.start_soon(self._doing, partial(self._make, to_make))
                to_make = []
            match action:
                case SaveRecord(data=data):
                    tasks.start_soon(self._doing, partial(self._save, data, self._flushed))
                case Prepare():
                    to_make.append(action)
                case Verify(path=path):
                    tasks.start_soon(self._doing, partial(self._verify, path))
                case Fetch(range=wanted):
                    file = OpenFile(wanted.path)
                    part = _Part(wanted, written=wanted.start, flushed=wanted.start, file=file)
                    self._parts[wanted.number] = part
                    tasks.start_soon(self._doing, partial(self._fetch, part))
                case Wait(until=until):
                    await self._wait(until)
                case Ended(reason=reason):
                    self._is_over = True
                    return reason
                case _:
                    assert_never(action)
        return machine.given_up

    async def _wait(self, until: float | None) -> None:
        with anyio.CancelScope(deadline=float("inf") if until is None else until):
            await self._changed.wait()
        self._changed = anyio.Event()

    async def _doing(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do a part of the work; what goes wrong in it ends all."""
        try:
            await work()
        except (OSError, RequestFailed) as error:
            if self._error is None:
                self._error = error
        self._changed.set()

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._threads)

    async def _save(self, record: bytes, flushed: int) -> None:
        await self._in_thread(self._disk.save, record)
        self._machine.saved()
        self._recorded = flushed
        self._room.set()
        self._room = anyio.Event()

    async def _make(self, files: Sequence[Prepare]) -> None:
        await self._in_thread(self._disk.make, [(file.path, file.size) for file in files])
        for file in files:
            self._machine.prepared(file.path)

    async def _verify(self, path: str) -> None:
        sha256 = await self._in_thread(self._disk.sha256, path, self._stopping)
        if sha256 is not None:
            self._machine.verified(path, sha256)

    async def _fetch(self, part: _Part) -> None:
        async with self._connections:
            edition, remote = self._addresses.edition, self._addresses.of(part.range.path)
            try:
                async with range_of(self._client, remote, part.range, self._limits) as body:
                    self._addresses.works(edition)
                    await self._copy(part, body)
            except NoRanges:
                raise
            except RequestFailed as error:
                part.failure = error
                error.reason = f"{error.reason} ({shown(remote.url)})"
        failure = part.failure
        if failure and failure.status in _EXPIRED and await self._addresses.renew(edition):
            failure.final = False
        part.ended = True
        self._dirty.set()
        self._urgent.set()

    async def _copy(self, part: _Part, body: Body) -> None:
        try:
            async for piece in body:
                part.pieces.append(piece)
                part.waiting += len(piece)
                self._machine.received(part.range, len(piece))
                self._tell()
                if part.waiting >= self._block:
                    await self._write(part)
        finally:
            # What breaks off is worth keeping, too; what was cancelled is written in the end.
            if part.pieces:
                await self._write(part)

    def _tell(self) -> None:
        what, fraction = self._machine.progress
        total = self._machine.size
        self._progress(what, Share(round(fraction * total), total))

    async def _write(self, part: _Part) -> None:
        while self._written - self._recorded >= self._limits.unrecorded and not part.ended:
            await self._room.wait()
        await self._in_thread(self._disk.write, part.file, part.pieces, part.written)
        self._count_written(part)

    def _count_written(self, part: _Part) -> None:
        part.written += part.waiting
        self._written += part.waiting
        part.pieces, part.waiting = [], 0
        self._dirty.set()
        if self._written - self._flushed >= self._limits.save_every:
            self._urgent.set()

    async def _flush_always(self) -> None:
        """Flush what was written, for many files at a time: it is what takes longest."""
        while True:
            await self._dirty.wait()
            self._dirty = anyio.Event()
            with anyio.move_on_after(_LATEST):
                await self._urgent.wait()
            self._urgent = anyio.Event()
            await self._flush()

    async def _flush(self) -> None:
        # What is written to its end, but has not ended, will in a moment: the machine hears of an end once.
        parts = [
            (part, part.written, part.ended)
            for part in self._parts.values()
            if part.ended or part.flushed < part.written < part.range.stop
        ]
        dirty = [part.file for part, written, _ in parts if written > part.flushed]
        over = [part.file for part, _, ended in parts if ended]
        await self._in_thread(self._disk.flush, dirty, over)
        now = anyio.current_time()
        for part, written, ended in parts:
            self._flushed += written - part.flushed
            part.flushed = written
            self._machine.flushed(part.range, written)
            if ended:
                del self._parts[part.range.number]
                if written < part.range.stop:
                    self._tell_failure(part, now)
        self._changed.set()

    def _tell_failure(self, part: _Part, now: float) -> None:
        failure = part.failure or RequestFailed("it was stopped")
        self._machine.failed(
            part.range,
            now,
            failure.reason,
            again_after=failure.again_after,
            jitter=random.random(),  # noqa: S311 - nobody gains by guessing it
            final=failure.final,
        )

    async def _settle(self) -> None:
        """Keep what has come, when all tasks have ended, however they have."""
        if self._is_over:
            return
        for part in self._parts.values():
            part.ended = True
            if part.pieces:
                await self._doing(partial(self._write, part))
        await self._doing(self._flush)
        await self._doing(self._save_at_last)
        for part in self._parts.values():
            part.file.close()

    async def _save_at_last(self) -> None:
        await self._in_thread(self._disk.save, self._machine.record())
