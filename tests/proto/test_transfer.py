"""The transfer machine: whatever fails, and wherever it crashes, every byte ends in its place."""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.errors import LocalProtocolError
from foundry_proto.transfer import (
    Action,
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
from foundry_proto.transfer.record import Record, RecordedFile, decode_record, encode_record

RANGE, PARALLEL, SAVE_EVERY = 7, 3, 10


def wanted(path: str, content: bytes, *, hashed: bool = False, tag: str | None = None) -> WantedFile:
    sha256 = hashlib.sha256(content).hexdigest() if hashed else None
    return WantedFile(path=path, size=len(content), sha256=sha256, tag=tag)


def transfer(*files: WantedFile, found: dict[str, int] | None = None, **more: Any) -> Transfer:
    settings_ = {"range_size": RANGE, "parallel": PARALLEL, "save_every": SAVE_EVERY, **more}
    return Transfer(Plan(files), found or {}, settings_.pop("record", None), **settings_)


def actions(machine: Transfer, now: float = 0.0) -> list[Action]:
    """All that is to be done now, the wait or the end last."""
    found: list[Action] = []
    while not found or not isinstance(found[-1], Wait | Ended):
        found.append(machine.next_action(now))
    return found


def begin(machine: Transfer, now: float = 0.0) -> list[Range]:
    """Record and make all files that are to be, and give the ranges that are to be fetched."""
    ranges: list[Range] = []
    while True:
        match machine.next_action(now):
            case SaveRecord():
                machine.saved()
            case Prepare(path=path):
                machine.prepared(path)
            case Fetch(range=one):
                ranges.append(one)
            case _:
                return ranges


def fetch(machine: Transfer, one: Range, count: int | None = None) -> None:
    """Bytes come and are flushed: all, or the first so many."""
    count = one.stop - one.start if count is None else count
    machine.received(one, count)
    machine.flushed(one, one.start + count)


# The law of all laws, in a world that crashes.


@define
class World:
    """A disk and a source, and who moves the bytes; what happens when is drawn by lot."""

    contents: dict[str, bytes]
    files: list[WantedFile]
    luck: Random
    disk: dict[str, bytearray] = field(factory=dict)
    """What a process sees."""
    flushed: dict[str, set[int]] = field(factory=dict)
    """Which positions of each file will outlive a crash."""
    record: bytes | None = None
    fetched: int = 0
    crashes: int = 0
    cut: int = 0
    """Ranges that failed."""
    now: float = 0.0

    def junk(self, size: int) -> bytearray:
        return bytearray(self.luck.randbytes(size))

    def run(self, crashes: int) -> str | None:
        """Go on until the machine has ended; says why it gave up, if it did."""
        while True:
            found = {path: len(content) for path, content in self.disk.items()}
            machine = transfer(*self.files, found=found, record=self.record, attempts=10**6)
            ended = self.attempt(machine, may_crash=self.crashes < crashes)
            if ended is not None:
                return ended.reason
            self.crash()

    def attempt(self, machine: Transfer, *, may_crash: bool) -> Ended | None:
        busy: list[Action] = []
        arrived: dict[int, int] = {}
        while True:
            action = machine.next_action(self.now)
            if isinstance(action, Ended):
                assert not busy
                return action
            if not isinstance(action, Wait):
                busy.append(action)
                if self.luck.random() < 0.5:
                    continue  # several actions are under way at a time
            elif not busy:
                assert action.until is not None, "it waits for nothing"
                self.now = action.until
                continue
            if may_crash and self.luck.random() < 0.05:
                return None
            self.now += 0.1
            index = self.luck.randrange(len(busy))
            if self.do(machine, busy[index], arrived):
                del busy[index]

    def do(self, machine: Transfer, action: Action, arrived: dict[int, int]) -> bool:
        """Do a part of an action; whether it is over."""
        match action:
            case SaveRecord(data=data):
                self.record = data
                machine.saved()
            case Prepare(path=path, size=size):
                self.disk[path], self.flushed[path] = self.junk(size), set()
                machine.prepared(path)
            case Verify(path=path):
                machine.verified(path, hashlib.sha256(self.disk[path]).hexdigest())
            case Fetch(range=one):
                return self.fetch(machine, one, arrived)
        return True

    def fetch(self, machine: Transfer, one: Range, arrived: dict[int, int]) -> bool:
        position, flushed = (
            arrived.setdefault(one.number, one.start),
            arrived.setdefault(-one.number, one.start),
        )
        dice = self.luck.random()
        if dice < 0.1:
            self.cut += 1
            machine.failed(one, self.now, "the line is cut", jitter=self.luck.random())
            return True
        if dice < 0.6 and position < one.stop:
            count = self.luck.randint(1, one.stop - position)
            piece = slice(position, position + count)
            self.disk[one.path][piece] = self.contents[one.path][piece]
            self.fetched += count
            arrived[one.number] = position + count
            machine.received(one, count)
            return False
        flushed = self.luck.randint(flushed, position)
        self.flushed[one.path] |= set(range(arrived[-one.number], flushed))
        arrived[-one.number] = flushed
        machine.flushed(one, flushed)
        return flushed == one.stop

    def crash(self) -> None:
        """Lose what was not flushed, or not; whoever comes next cannot tell."""
        self.crashes += 1
        for path, content in list(self.disk.items()):
            kept = self.flushed.get(path, set())
            if not kept and self.luck.random() < 0.5:
                del self.disk[path]
                continue
            for position, junk in enumerate(self.junk(len(content))):
                if position not in kept and self.luck.random() < 0.5:
                    content[position] = junk


@st.composite
def worlds(draw: st.DrawFn) -> World:
    luck = Random(draw(st.integers(0, 2**32)))  # fair: one that always loses would never end
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=5))
    contents = {f"folder/{number}": luck.randbytes(size) for number, size in enumerate(sizes)}
    files = [wanted(path, content, hashed=draw(st.booleans())) for path, content in contents.items()]
    return World(contents, files, luck)


@settings(deadline=None, max_examples=150)
@given(worlds(), st.integers(0, 4))
def test_whatever_fails_and_crashes_every_byte_ends_where_it_belongs(world: World, crashes: int) -> None:
    assert world.run(crashes) is None
    assert world.disk == world.contents
    assert world.record is None or (decode_record(world.record) or Record()).begun == ()


@settings(deadline=None, max_examples=50)
@given(worlds())
def test_a_whole_download_is_not_done_again(world: World) -> None:
    world.run(0)
    fetched = world.fetched
    assert world.run(0) is None
    assert world.fetched == fetched


@settings(deadline=None, max_examples=50)
@given(worlds(), st.binary(max_size=30))
def test_a_record_that_cannot_be_read_costs_time_and_no_bytes(world: World, record: bytes) -> None:
    machine = transfer(*world.files, attempts=10**6)
    world.attempt(machine, may_crash=True)
    world.crash()
    world.record = world.record[: len(world.record) // 2] if world.record else record
    assert world.run(0) is None
    assert world.disk == world.contents


@settings(deadline=None, max_examples=50)
@given(worlds(), st.integers(1, 4))
def test_a_crash_costs_no_more_than_what_was_on_its_way_or_unrecorded(world: World, crashes: int) -> None:
    world.run(crashes)
    size = sum(map(len, world.contents.values()))
    lost = world.crashes * (2 * PARALLEL * RANGE + SAVE_EVERY) + world.cut * RANGE
    assert world.fetched <= size + lost


# What is done when.


def test_a_file_is_recorded_before_it_is_made_and_made_before_it_is_fetched() -> None:
    machine = transfer(wanted("b", b"x" * 20), wanted("a", b"x" * 3))
    save, wait = actions(machine)
    assert isinstance(save, SaveRecord)
    assert wait == Wait(until=None)
    record = decode_record(save.data)
    assert record is not None
    assert [(entry.path, entry.size, entry.done) for entry in record.begun] == [("a", 3, ()), ("b", 20, ())]
    machine.saved()
    assert actions(machine) == [Prepare(path="a", size=3), Prepare(path="b", size=20), Wait(until=None)]
    machine.prepared("b")
    machine.prepared("a")
    # The smallest file first; no more ranges than may be, and none longer.
    ranges = [action.range for action in actions(machine) if isinstance(action, Fetch)]
    assert [(one.path, one.start, one.stop) for one in ranges] == [("a", 0, 3), ("b", 0, 7), ("b", 7, 14)]
    fetch(machine, ranges[1])
    (more,) = begin(machine)
    assert (more.path, more.start, more.stop) == ("b", 14, 20)


def test_small_files_are_begun_many_at_a_time_and_others_as_requests_become_free() -> None:
    small = [wanted(f"{number:03}", b"x") for number in range(100)]
    machine = transfer(*small, range_size=1000)
    save = machine.next_action(0)
    assert isinstance(save, SaveRecord)
    assert len((decode_record(save.data) or Record()).begun) == 64
    large = [wanted(str(number), b"x" * 100) for number in range(9)]
    machine = transfer(*large, range_size=100)
    assert [type(action) for action in actions(machine)] == [SaveRecord, Wait]
    machine.saved()
    assert [type(action) for action in actions(machine)] == [Prepare] * 3 + [Wait]
    for number in range(3):
        machine.prepared(str(number))
    ranges = begin(machine)
    assert [one.path for one in ranges] == ["0", "1", "2"]
    fetch(machine, ranges[0])
    assert [one.path for one in begin(machine)] == ["3"]


def test_flushed_bytes_are_recorded_each_so_many_and_in_the_end() -> None:
    machine = transfer(wanted("a", b"x" * 21))
    first, second, third = begin(machine)
    fetch(machine, third)
    assert machine.next_action(0) == Wait(until=None)
    fetch(machine, first, 3)
    save, wait = actions(machine)
    assert isinstance(save, SaveRecord)
    assert isinstance(wait, Wait)
    (entry,) = (decode_record(save.data) or Record()).begun
    assert entry.done == ((0, 3), (14, 21))
    fetch(machine, second)  # while the record is being saved: it is news for the next one
    fetch_rest = Range(number=first.number, path="a", start=0, stop=7)
    machine.received(fetch_rest, 4)
    machine.flushed(fetch_rest, 7)
    assert machine.next_action(0) == Wait(until=None)
    machine.saved()
    last, end = machine.next_action(0), None
    assert isinstance(last, SaveRecord)
    assert decode_record(last.data) == Record()
    machine.saved()
    end = machine.next_action(0)
    assert end == Ended(reason=None)


def test_what_is_there_is_used_as_far_as_it_is_certain() -> None:
    content = b"x" * 20
    names = ("whole", "cut", "begun", "torn", "other")
    begun = RecordedFile(path="begun", size=20, done=((0, 10), (15, 20)))
    torn = RecordedFile(path="torn", size=20, done=((0, 20),))
    other = RecordedFile(path="other", size=20, tag="another content", done=((0, 20),))
    machine = transfer(
        *(wanted(name, content) for name in names),
        found={"whole": 20, "cut": 19, "begun": 20, "torn": 5, "other": 20},
        record=encode_record(Record(begun=(begun, torn, other))),
        range_size=100,
        parallel=9,
    )
    assert machine.progress == ("", 0.35)
    ranges = [(one.path, one.start, one.stop) for one in begin(machine)]
    assert ranges == [("begun", 10, 15), ("cut", 0, 20), ("other", 0, 20), ("torn", 0, 20)]


def test_an_empty_file_is_made_and_nothing_is_fetched() -> None:
    machine = transfer(wanted("empty", b""), wanted("there", b""), found={"there": 0})
    assert machine.progress == ("", 0.0)
    assert begin(machine) == []
    assert machine.next_action(0) == Ended(reason=None)
    assert machine.progress == ("", 1.0)
    assert Plan(()).size == 0


def test_progress_counts_all_that_has_come_and_takes_back_what_was_lost() -> None:
    machine = transfer(wanted("a", b"x" * 10), wanted("b", b"x" * 10), range_size=10)
    one, other = begin(machine)
    machine.received(one, 6)
    assert machine.progress == ("a", 0.3)
    machine.received(other, 2)
    machine.flushed(one, 4)
    assert machine.progress == ("b", 0.4)
    machine.failed(one, 0.0, "cut")
    assert machine.progress == ("b", 0.3)
    assert machine.size == 20


# Failures.


def test_a_file_that_fails_is_left_in_peace_for_longer_each_time() -> None:
    machine = transfer(wanted("a", b"x" * 7))
    now, waits = 0.0, []
    for _ in range(4):
        (one,) = begin(machine, now)
        machine.failed(one, now, "cut", jitter=1.0)
        wait = machine.next_action(now)
        assert isinstance(wait, Wait)
        assert wait.until is not None
        waits.append(wait.until - now)
        assert begin(machine, now + waits[-1] - 0.01) == []
        now = wait.until
    assert waits == [0.5, 1.0, 2.0, 4.0]
    # A byte that comes makes it a new beginning; a source that says how long is obeyed.
    (one,) = begin(machine, now)
    fetch(machine, one, 1)
    machine.failed(one, now, "429", jitter=0.0, again_after=30.0)
    assert machine.next_action(now) == Wait(until=now + 30)
    (one,) = begin(machine, now + 30)
    assert (one.start, one.stop) == (1, 7)
    machine.failed(one, now + 30, "cut", jitter=0.0)
    assert machine.next_action(now + 30) == Wait(until=now + 31 - 0.5)


def test_ranges_that_fail_together_are_one_failure() -> None:
    machine = transfer(wanted("a", b"x" * 21), attempts=2)
    for one in begin(machine, 0.0):
        machine.failed(one, 5.0 + one.number, "the line is cut")
    (one, *_) = begin(machine, 20.0)
    machine.failed(one, 21.0, "the line is cut")
    assert machine.next_action(21.0) == Wait(until=None)


def test_a_later_failure_shortens_no_wait() -> None:
    machine = transfer(wanted("a", b"x" * 21))
    one, other, _ = begin(machine)
    machine.failed(one, 0.0, "429", again_after=30.0)
    machine.failed(other, 1.0, "the line is cut")
    assert machine.next_action(1.0) == Wait(until=30.0)


def test_other_files_go_on_while_one_waits() -> None:
    machine = transfer(wanted("a", b"x" * 7), wanted("b", b"x" * 14), parallel=2)
    one, other = begin(machine)
    machine.failed(one, 0.0, "cut")
    (next_one,) = begin(machine)
    assert (other.path, next_one.path) == ("b", "b")


@pytest.mark.parametrize("final", [True, False])
def test_who_fails_too_often_or_for_good_ends_it_with_the_reason_and_what_came_is_recorded(
    final: bool,
) -> None:
    machine = transfer(wanted("a", b"x" * 14), attempts=1)
    one, other = begin(machine)
    fetch(machine, other, 3)
    machine.failed(one, 0.0, "404 Not Found", final=final)
    assert machine.next_action(0) == Wait(until=None)  # for what is on its way
    machine.failed(other, 0.0, "ended")
    save = machine.next_action(0)
    assert isinstance(save, SaveRecord)
    (entry,) = (decode_record(save.data) or Record()).begun
    assert entry.done == ((7, 10),)
    machine.saved()
    assert machine.next_action(0) == Ended(reason="a: 404 Not Found")


def test_a_download_that_is_cancelled_ends_when_all_that_is_under_way_has() -> None:
    files = [wanted(name, name.encode() * 7, hashed=name == "a") for name in "abcdefg"]
    machine = transfer(*files, found={"a": 7})
    verify, save, *_ = actions(machine)
    assert isinstance(verify, Verify)
    assert isinstance(save, SaveRecord)
    machine.saved()
    prepare = machine.next_action(0)
    assert isinstance(prepare, Prepare)
    machine.cancel("interrupted")
    machine.cancel("disk full")
    assert machine.next_action(0) == Wait(until=None)
    machine.verified("a", files[0].sha256 or "")
    assert machine.next_action(0) == Wait(until=None)
    machine.prepared(prepare.path)
    assert isinstance(machine.next_action(0), SaveRecord)
    assert machine.next_action(0) == Wait(until=None)
    machine.saved()
    assert machine.next_action(0) == Ended(reason="interrupted")


def test_a_download_that_is_whole_when_it_is_cancelled_is_whole() -> None:
    machine = transfer(wanted("a", b""), found={"a": 0})
    machine.cancel("too late")
    assert machine.next_action(0) == Ended(reason=None)


# Hashes.


def test_a_file_is_whole_when_it_has_its_hash_and_is_not_looked_at_again() -> None:
    file = wanted("a", b"abc", hashed=True)
    machine = transfer(file)
    (one,) = begin(machine)
    fetch(machine, one)
    assert actions(machine) == [Verify(path="a"), Wait(until=None)]
    machine.verified("a", (file.sha256 or "").upper())
    save = machine.next_action(0)
    assert isinstance(save, SaveRecord)
    machine.saved()
    assert machine.next_action(0) == Ended(reason=None)
    again = transfer(file, found={"a": 3}, record=save.data)
    assert again.next_action(0) == Ended(reason=None)
    # Another content of the same size is another matter.
    other = transfer(wanted("a", b"xyz", hashed=True), found={"a": 3}, record=save.data)
    assert other.next_action(0) == Verify(path="a")


def test_a_file_with_another_hash_is_fetched_anew_and_the_second_time_it_ends() -> None:
    machine = transfer(wanted("a", b"abc", hashed=True), found={"a": 3})
    assert machine.next_action(0) == Verify(path="a")
    machine.verified("a", "0" * 64)
    assert machine.progress == ("", 0.0)
    (one,) = begin(machine)
    fetch(machine, one)
    assert actions(machine)[0] == Verify(path="a")
    machine.verified("a", "1" * 64)
    save, _ = actions(machine)
    assert isinstance(save, SaveRecord)
    machine.saved()
    end = machine.next_action(0)
    assert isinstance(end, Ended)
    assert end.reason == f"a: expected SHA-256 {hashlib.sha256(b'abc').hexdigest()}, got {'1' * 64}"


def test_few_hashes_are_computed_at_a_time() -> None:
    files = [wanted(str(number), b"x", hashed=True) for number in range(5)]
    machine = transfer(*files, found={file.path: 1 for file in files})
    first, second, wait = actions(machine)
    assert isinstance(first, Verify)
    assert isinstance(second, Verify)
    assert wait == Wait(until=None)
    machine.verified(first.path, files[0].sha256 or "")
    assert [type(action) for action in actions(machine)] == [Verify, Wait]


# Misuse.


def test_what_was_not_asked_for_is_misuse() -> None:
    machine = transfer(wanted("a", b"x" * 10))
    one = Range(number=1, path="a", start=0, stop=7)
    with pytest.raises(LocalProtocolError, match=r"^saved: expected a record to be saved first$"):
        machine.saved()
    waiting = r"^a: expected a file that is preparing, got one that is waiting$"
    with pytest.raises(LocalProtocolError, match=waiting):
        machine.prepared("a")
    with pytest.raises(LocalProtocolError, match=r"^b: expected a file that is verifying, got no such file$"):
        machine.verified("b", "")
    unknown = r"^a: expected a range that is on its way$"
    with pytest.raises(LocalProtocolError, match=unknown):
        machine.received(one, 1)
    with pytest.raises(LocalProtocolError, match=unknown):
        machine.flushed(one, 1)
    with pytest.raises(LocalProtocolError, match=unknown):
        machine.failed(one, 0, "")
    one, _ = begin(machine)
    for count in (-1, 8):
        message = rf"^received: expected at most 7 bytes of a, got {count}$"
        with pytest.raises(LocalProtocolError, match=message):
            machine.received(one, count)
    machine.received(one, 5)
    machine.flushed(one, 2)
    for position in (1, 6):
        message = rf"^flushed: expected a position from 2 to 5, got {position}$"
        with pytest.raises(LocalProtocolError, match=message):
            machine.flushed(one, position)
    with pytest.raises(LocalProtocolError, match=unknown):
        machine.flushed(Range(number=one.number, path="a", start=0, stop=6), 3)


def test_who_must_leave_at_once_keeps_what_is_known_by_then() -> None:
    machine = transfer(wanted("a", b"x" * 21))
    first, second, _ = begin(machine)
    fetch(machine, second)
    machine.received(first, 7)
    machine.flushed(first, 3)
    again = transfer(wanted("a", b"x" * 21), found={"a": 21}, record=machine.record())
    assert [(one.start, one.stop) for one in begin(again)] == [(3, 7), (14, 21)]
    assert machine.given_up is None
    machine.failed(first, 0.0, "gone", final=True)
    assert machine.given_up == "a: gone"
