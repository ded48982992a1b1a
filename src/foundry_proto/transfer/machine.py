"""What to do next for a download, and what has become of it so far.

Knows: which bytes of which files are wanted, on their way, on the disk, and recorded to be there; what a
crash may have left; when a range that failed is tried again; when all is whole.
Refuses to know: HTTP, disks, how a hash is computed, clocks, and where files come from. Who drives it fetches
ranges, writes each byte where it belongs, and says so.

The laws:
- Every byte of every file is fetched, and none twice but those that were on their way, or not yet recorded,
  when something failed.
- What a record says to be on the disk was flushed to it before. A file stands in a saved record before it is
  made: so one of the right size that no record names is as it was put there, whole.
- A file counts as whole when it has the hash that its source publishes, if it publishes one.

Drive it so: do what `next_action` says until that is to wait; tell what happens (`saved`, `prepared`,
`received`, `flushed`, `failed`, `verified`); ask again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import define, field

from foundry_proto.errors import LocalProtocolError
from foundry_proto.transfer._file import File, Flight, State
from foundry_proto.transfer.actions import Action, Ended, Fetch, Prepare, Range, SaveRecord, Verify, Wait
from foundry_proto.transfer.leftovers import Leftover, Leftovers
from foundry_proto.transfer.plan import Plan
from foundry_proto.transfer.record import Record, RecordedFile, encode_record

__all__ = ["Transfer"]

_MIB: Final = 1024 * 1024
_BATCH: Final = 64
"""The most files that are begun at a time."""
_VERIFIERS: Final = 2
"""The most files whose hashes are computed at a time."""


@define(eq=False)
class Transfer:
    """A download of a plan's files into one folder.

    Args:
        plan: What is wanted.
        found: The size of each file that is in the folder, by path.
        record: What an earlier attempt has saved, whatever became of it since; `None` if there is nothing.
        range_size: The most bytes of a range.
        parallel: The most ranges on their way at a time.
        save_every: How many flushed bytes may be unrecorded.
        attempts: How often in a row a file may fail.
    """

    _plan: Plan
    _found: Mapping[str, int]
    _record: bytes | None = None
    _range_size: int = field(kw_only=True, default=16 * _MIB)
    _parallel: int = field(kw_only=True, default=8)
    _save_every: int = field(kw_only=True, default=8 * _MIB)
    _attempts: int = field(kw_only=True, default=8)
    _files: dict[str, File] = field(init=False, factory=dict)
    _waiting: list[File] = field(init=False, factory=list)
    """Not begun, the next one last: the smallest, since what tells of a model shall come early."""
    _begun: dict[str, File] = field(init=False, factory=dict)
    """Those that a record must name, in the order in which they were begun."""
    _to_prepare: list[File] = field(init=False, factory=list)
    """The next one last."""
    _to_verify: list[File] = field(init=False, factory=list)
    _verified: dict[str, str] = field(init=False, factory=dict)
    _flights: dict[int, Flight] = field(init=False, factory=dict)
    _numbers: int = field(init=False, default=0)
    _preparing: int = field(init=False, default=0)
    _verifying: int = field(init=False, default=0)
    _unfinished: int = field(init=False, default=0)
    """How many files are not whole."""
    _saving: tuple[File, ...] | None = field(init=False, default=None)
    """The files that the record which is being saved names for the first time."""
    _stale: bool = field(init=False, default=False)
    """Whether the last record does not say all there is to say."""
    _must_save: bool = field(init=False, default=False)
    _unsaved: int = field(init=False, default=0)
    """Flushed bytes that no record has."""
    _done: int = field(init=False, default=0)
    """Bytes of all files that are on the disk."""
    _arrived: int = field(init=False, default=0)
    """Bytes that have come and are not flushed."""
    _current: str = field(init=False, default="")
    size: int = field(init=False)
    """All bytes of all files."""
    _reason: str | None = field(init=False, default=None)
    """Why it is being given up."""

    def __attrs_post_init__(self) -> None:
        self.size = self._plan.size
        leftovers = Leftovers(self._found, self._record)
        for wanted in sorted(self._plan.files, key=lambda one: (one.size, one.path)):
            file = self._files[wanted.path] = File(wanted)
            file.begin_anew()
            self._unfinished += 1
            leftover = leftovers.of(wanted)
            if leftover is None:
                self._waiting.append(file)
            else:
                self._go_on(file, leftover)
        self._waiting.reverse()

    def _go_on(self, file: File, leftover: Leftover) -> None:
        """Use what an earlier attempt has left of a file."""
        wanted = file.wanted
        file.done, file.todo = leftover.done, leftover.done.gaps(wanted.size)
        self._done += file.done.size
        if leftover.recorded:
            self._begun[wanted.path] = file
        if leftover.verified is not None:
            self._verified[wanted.path] = leftover.verified
            self._settle_as_whole(file)
        else:
            file.state = State.FETCHING
            self._settle(file)

    @property
    def progress(self) -> tuple[str, float]:
        """The file from which bytes came last, and the fraction of all bytes that are here, from 0 to 1."""
        size = self.size
        return self._current, (self._done + self._arrived) / size if size else float(not self._unfinished)

    @property
    def given_up(self) -> str | None:
        """Why it will not be whole; `None` as long as it may be."""
        return self._reason

    def record(self) -> bytes:
        """What there is to record now: to be kept by who must leave at once, and may not wait for the end."""
        begun = tuple(RecordedFile.of(file.wanted, file.done) for file in self._begun.values())
        return encode_record(Record(begun=begun, verified=dict(self._verified)))

    def next_action(self, now: float) -> Action:
        """Say what to do next; ask again until the answer is to wait, or that it has ended.

        Args:
            now: Seconds on any clock that runs evenly.

        Returns:
            One action, which is taken to be under way from now on.
        """
        if self._saving is None and (self._must_save or self._unsaved >= self._save_every):
            return self._save()
        if self._reason is not None or not self._unfinished:
            return self._end()
        if self._to_prepare:
            file = self._to_prepare.pop()
            file.state = State.PREPARING
            self._preparing += 1
            return Prepare(path=file.wanted.path, size=file.wanted.size)
        if self._to_verify and self._verifying < _VERIFIERS:
            file = self._to_verify.pop()
            file.state = State.VERIFYING
            self._verifying += 1
            return Verify(path=file.wanted.path)
        if (fetch := self._fetch(now)) is not None:
            return fetch
        if self._enter():
            return self.next_action(now)
        times = (file.not_before for file in self._begun.values() if file.todo.size)
        return Wait(until=min((time for time in times if time > now), default=None))

    def _save(self) -> SaveRecord:
        self._saving = tuple(file for file in self._begun.values() if file.state is State.ENTERED)
        self._must_save, self._stale, self._unsaved = False, False, 0
        return SaveRecord(data=self.record())

    def _end(self) -> Action:
        """Wait for what is under way, record what is known, and end."""
        if self._flights or self._preparing or self._verifying or self._saving is not None:
            return Wait(until=None)
        if self._stale:
            return self._save()
        return Ended(reason=self._reason if self._unfinished else None)

    def _fetch(self, now: float) -> Fetch | None:
        if len(self._flights) >= self._parallel:
            return None
        for file in self._begun.values():
            if file.state is not State.FETCHING or file.not_before > now:
                continue
            if (span := file.todo.take(self._range_size)) is None:
                continue
            start, stop = span
            self._numbers += 1
            wanted = Range(number=self._numbers, path=file.wanted.path, start=start, stop=stop)
            self._flights[wanted.number] = Flight(wanted, file, now, start, start)
            file.flights += 1
            return Fetch(range=wanted)
        return None

    def _enter(self) -> bool:
        """Begin further files, if those that were begun leave requests unused; whether any was."""
        ahead = sum(file.todo.size > 0 for file in self._begun.values())
        if not self._waiting or len(self._flights) + ahead >= self._parallel:
            return False
        size = 0
        # Many at a time where they are small: each time costs a record.
        for _ in range(_BATCH):
            file = self._waiting.pop()
            file.state = State.ENTERED
            self._begun[file.wanted.path] = file
            size += file.wanted.size
            if not self._waiting or size >= self._range_size * self._parallel:
                break
        self._must_save = True
        return True

    def saved(self) -> None:
        """The record is kept, and will outlive a crash.

        Raises:
            LocalProtocolError: None was to be saved.
        """
        if self._saving is None:
            raise LocalProtocolError("saved: expected a record to be saved first")
        self._to_prepare += reversed(self._saving)
        for file in self._saving:
            file.state = State.RECORDED
        self._saving = None

    def prepared(self, path: str) -> None:
        """The file is there, with its size and nothing in it that counts.

        Args:
            path: That of the `Prepare` which asked for it.

        Raises:
            LocalProtocolError: It was not to be made.
        """
        file = self._expect(path, State.PREPARING)
        self._preparing -= 1
        file.state = State.FETCHING
        self._settle(file)

    def received(self, wanted: Range, count: int) -> None:
        """Further bytes of a range have come, in their order.

        Args:
            wanted: The range, as its `Fetch` had it.
            count: How many bytes, since the last call.

        Raises:
            LocalProtocolError: The range is not on its way, or has not so many bytes left.
        """
        flight = self._flight(wanted)
        if not 0 <= count <= wanted.stop - flight.received:
            left = wanted.stop - flight.received
            raise LocalProtocolError(f"received: expected at most {left} bytes of {wanted.path}, got {count}")
        flight.received += count
        self._arrived += count
        self._current = wanted.path

    def flushed(self, wanted: Range, position: int) -> None:
        """The bytes of a range up to a position in the file are on the disk, and will outlive a crash.

        Args:
            wanted: The range, as its `Fetch` had it.
            position: In bytes from the file's beginning; where it is the range's `stop`, the range is over.

        Raises:
            LocalProtocolError: The range is not on its way, or these bytes have not come.
        """
        flight, file = self._flight(wanted), self._files[wanted.path]
        if not flight.flushed <= position <= flight.received:
            raise LocalProtocolError(
                f"flushed: expected a position from {flight.flushed} to {flight.received}, got {position}"
            )
        count = position - flight.flushed
        file.done.add(flight.flushed, position)
        flight.flushed = position
        self._arrived -= count
        self._done += count
        self._unsaved += count
        if count:
            self._stale = True
            file.failures = 0
        if position == wanted.stop:
            del self._flights[wanted.number]
            file.flights -= 1
            self._settle(file)

    def failed(
        self,
        wanted: Range,
        now: float,
        reason: str,
        *,
        again_after: float = 0.0,
        jitter: float = 0.5,
        final: bool = False,
    ) -> None:
        """A range will not come whole; what was flushed of it stays, and the rest is asked for again.

        Ranges that were on their way together and fail together count as one failure of their file.

        Args:
            wanted: The range.
            now: As for `next_action`.
            reason: Why, for people.
            again_after: Seconds for which the source wants to be left in peace.
            jitter: A random number from 0 to 1, so that clients which failed together do not return together.
            final: Whether it is of no use to ask again.

        Raises:
            LocalProtocolError: The range is not on its way.
        """
        flight = self._flight(wanted)
        file = flight.file
        del self._flights[wanted.number]
        file.flights -= 1
        lost = flight.received - flight.flushed
        self._arrived -= lost
        file.todo.add(flight.flushed, wanted.stop)
        file.fail(flight.begun, now, again_after=again_after, jitter=jitter)
        if final or file.failures >= self._attempts:
            self.cancel(f"{wanted.path}: {reason}")

    def verified(self, path: str, sha256: str) -> None:
        """The file has this hash; one that is wrong is fetched anew, once.

        Args:
            path: That of the `Verify` which asked for it.
            sha256: Of all its bytes, in hexadecimal, in any letter case.

        Raises:
            LocalProtocolError: It was not to be verified.
        """
        file = self._expect(path, State.VERIFYING)
        self._verifying -= 1
        if sha256.lower() == file.wanted.sha256:
            self._settle_as_whole(file)
            return
        self._begun.pop(path, None)
        self._done -= file.done.size
        file.begin_anew()
        file.rejections += 1
        self._waiting.append(file)
        if file.rejections > 1:
            self.cancel(f"{path}: expected SHA-256 {file.wanted.sha256}, got {sha256}")

    def cancel(self, reason: str) -> None:
        """Give it up: what is on its way is to be ended, and told as `failed`.

        Args:
            reason: Why, for people; of several, the first counts.
        """
        if self._reason is None:
            self._reason = reason

    def _settle(self, file: File) -> None:
        """See whether all of a file has come."""
        if file.todo.size or file.flights:
            return
        if file.wanted.sha256 is None:
            self._settle_as_whole(file)
            return
        file.state = State.FETCHED
        self._to_verify.append(file)

    def _settle_as_whole(self, file: File) -> None:
        path = file.wanted.path
        file.state = State.WHOLE
        self._unfinished -= 1
        if self._begun.pop(path, None) is not None:
            self._stale = True
        if file.wanted.sha256 is not None and self._verified.get(path) != file.wanted.sha256:
            self._verified[path] = file.wanted.sha256
            self._stale = True

    def _expect(self, path: str, state: State) -> File:
        file = self._files.get(path)
        if file is None or file.state is not state:
            got = "no such file" if file is None else f"one that is {file.state.value}"
            raise LocalProtocolError(f"{path}: expected a file that is {state.value}, got {got}")
        return file

    def _flight(self, wanted: Range) -> Flight:
        flight = self._flights.get(wanted.number)
        if flight is None or flight.range != wanted:
            raise LocalProtocolError(f"{wanted.path}: expected a range that is on its way")
        return flight
