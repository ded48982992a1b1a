"""Downloads that are killed at random moments: the next one completes them, and almost nothing comes twice.

A command of its own, `python -m tests.support.kills --help`; the suite runs a short form. The moments come
from a seed.

A round: a process that downloads a model is killed (as by `kill -9`), and another one is started. It must
succeed, the content must be the origin's, and the list of models must never show one that is not whole, which
is looked at all the time. The origin counts what it sends.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
from attrs import define, field, frozen

from foundry_runtime.download.delivery import Delivery, deliver
from foundry_runtime.download.fetching import Limits
from foundry_runtime.download.sources.api import WantedModel
from foundry_runtime.models.directory import ModelDirectory
from tests.support.origin import Origin, origin
from tests.support.remote_source import LIST, RemoteSource, model_files

__all__ = ["Killed", "Round", "downloading", "kill_rounds"]

_MODEL: Final = "mine:1"
_ROOT: Final = Path(__file__).parents[2]
_LOOK: Final = 0.005
_Start = Callable[[], AbstractContextManager["subprocess.Popen[str]"]]
_MOST: Final = 1.05
"""How many times its size a download may cost, beside what was on its way when it was killed."""


@frozen(kw_only=True)
class Round:
    """What one round cost."""

    killed_after: float
    """Seconds from when the download began."""
    done: float
    """Which part of the bytes had been sent by then."""
    sent: int
    """Bytes by the origin, in both runs."""
    in_flight: int
    """Bytes that it had sent, when the process was killed, of answers that were not at their end."""
    was_whole: bool
    """Whether the model was there already."""


@define
class Killed:
    """What came of all rounds."""

    size: int
    backend: str
    rounds: list[Round] = field(factory=list)
    looks: int = 0
    """How often the list of models was looked at."""

    @property
    def twice(self) -> list[int]:
        """Bytes that each round fetched twice."""
        return [one.sent - self.size for one in self.rounds]

    @property
    def within(self) -> bool:
        """Whether no round cost more than it may."""
        return all(one.sent <= _MOST * self.size + one.in_flight for one in self.rounds)


@contextmanager
def downloading(
    home: Path, url: str, backend: str, *, range_size: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process that downloads the model; it prints a line when it begins. Killed when the block ends."""
    command = [sys.executable, "-m", "tests.support.kills", "--child", str(home), url, "--runtime", backend]
    if range_size is not None:
        command += ["--range", str(range_size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as child:
        try:
            yield child
        finally:
            child.kill()


def kill_rounds(
    rounds: int,
    size: int,
    *,
    rate: float,
    seed: int,
    backend: str,
    home: Path,
    range_size: int | None = None,
) -> Killed:
    """Download, kill, and download again, so many times.

    Args:
        rounds: How many times.
        size: Bytes of the model.
        rate: Bytes a second of all connections together, about.
        seed: When it is killed comes from it.
        backend: The event loop's name.
        home: An empty directory.
        range_size: Bytes of a request, of which all else follows; `None` leaves it as it is.

    Raises:
        AssertionError: A download was not completed, or the list showed a model that was not whole.
    """
    luck = random.Random(seed)
    files = model_files(size, seed)
    result = Killed(sum(len(data) for path, data in files.items() if path != LIST), backend)
    with origin(files=files, rate=rate / 8) as server:
        whole = _Whole(ModelDirectory(home), files)
        start = partial(downloading, home, server.url, backend, range_size=range_size)
        duration = _complete(start, whole)
        for _ in range(rounds):
            whole.remove()
            server.asked.clear()
            result.rounds.append(_round(server, whole, luck.uniform(0, duration), start))
    result.looks = whole.looks
    return result


def _round(server: Origin, whole: _Whole, after: float, start: _Start) -> Round:
    with start() as child:
        assert child.stdout is not None
        child.stdout.readline()
        deadline = time.monotonic() + after
        while time.monotonic() < deadline:
            whole.look()
            time.sleep(_LOOK)
        child.kill()
    asked = [one for one in server.asked if one.path != LIST]
    in_flight = sum(one.sent for one in asked if not one.ended)
    done = sum(one.sent for one in asked)
    was_whole = whole.look()
    _complete(start, whole)
    sent = sum(one.sent for one in server.asked if one.path != LIST)
    return Round(
        killed_after=after, done=done / whole.size, sent=sent, in_flight=in_flight, was_whole=was_whole
    )


def _complete(start: _Start, whole: _Whole) -> float:
    """Download without a kill; gives how many seconds it took."""
    with start() as child:
        assert child.stdout is not None
        child.stdout.readline()
        begun = time.monotonic()
        while child.poll() is None:
            whole.look()
            time.sleep(_LOOK)
        assert child.returncode == 0, f"a download that was killed was not completed: {child.returncode}"
        seconds = time.monotonic() - begun
    assert whole.look(), "a download that ended well left no model"
    return seconds


@define
class _Whole:
    """Looks whether the model is listed, and then whether it is whole."""

    directory: ModelDirectory
    files: dict[str, bytes]
    looks: int = 0
    size: int = field(init=False)
    _expected: dict[str, str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        contents = {path[1:]: data for path, data in self.files.items() if path != LIST}
        self.size = sum(map(len, contents.values()))
        self._expected = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}

    def look(self) -> bool:
        self.looks += 1
        entries = self.directory.entries()
        for entry in entries:
            found = {
                path.relative_to(entry.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in entry.path.rglob("*")
                if path.is_file() and path.name != "inference_model.json"
            }
            assert found == self._expected, f"a model is listed that is not whole: {sorted(found)}"
        return bool(entries)

    def remove(self) -> None:
        shutil.rmtree(self.directory.home)


async def _child(home: str, url: str, range_size: int | None) -> None:
    limits = None
    if range_size is not None:
        limits = Limits(range_size=range_size, save_every=range_size, unrecorded=4 * range_size)
    model = WantedModel(id=_MODEL, uri=url)
    delivery = Delivery(model=model, source=RemoteSource(limits), directory=ModelDirectory(Path(home)))
    print("begun", flush=True)  # noqa: T201 - who kills it counts from here
    await deliver(delivery)


def _size(text: str) -> int:
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
    return int(float(text[:-2]) * units[text[-2:].upper()]) if text[-2:].upper() in units else int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill for long, and say what came of it."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    made.add_argument("--rounds", type=int, default=100)
    made.add_argument("--size", type=_size, default="200MB")
    made.add_argument("--rate", type=_size, default="100MB", help="bytes a second, of all connections")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--runtime", choices=("asyncio", "trio"), default="asyncio")
    made.add_argument("--json", type=Path, metavar="FILE", help="write what each round cost to this file")
    made.add_argument("--range", type=_size, help="bytes of a request")
    made.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = made.parse_args(arguments)
    if options.child:
        home, url = options.child
        anyio.run(_child, home, url, options.range, backend=options.runtime)
        return 0
    begun = time.monotonic()
    with TemporaryDirectory() as folder:
        killed = kill_rounds(
            options.rounds,
            options.size,
            rate=options.rate,
            seed=options.seed,
            backend=options.runtime,
            home=Path(folder, "home"),
            range_size=options.range,
        )
    twice = sorted(killed.twice)
    parts = sorted(one.done for one in killed.rounds)
    print(  # noqa: T201 - a command
        f"{len(killed.rounds)} rounds on {killed.backend}, {killed.size / 1e6:.1f} MB each, seed"
        f" {options.seed}: each completed by the next run; killed when {parts[0]:.0%} to {parts[-1]:.0%}"
        f" had been sent, {sum(one.was_whole for one in killed.rounds)} times when all was over;"
        f" fetched twice {statistics.median(twice) / 1e6:.1f} MB in the median, {twice[-1] / 1e6:.1f} MB at"
        f" most; in flight {max(one.in_flight for one in killed.rounds) / 1e6:.1f} MB at most;"
        f" the list was looked at {killed.looks} times; {time.monotonic() - begun:.0f} s"
    )
    if options.json is not None:
        document = {
            "size": killed.size,
            "runtime": killed.backend,
            "rounds": [{name: getattr(one, name) for name in Round.__annotations__} for one in killed.rounds],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if killed.within else 1


if __name__ == "__main__":
    sys.exit(main())
