"""How fast files come over HTTP, what that costs in memory, and how long the event loop stands still.

Run: `python benchmarks/downloading.py`; it needs the extra `peers` and `curl`, and 1.5 GB of disk. One origin
on this machine serves one file to our fetcher on each loop, to `huggingface_hub` (plain HTTP) and to `curl`,
in turns, each time in a process of its own. Ours computes the SHA-256, and flushes all to the disk before it
ends; the others do neither. Of seconds the median counts. The exit status is 1 when a limit is missed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from _common import HERE, Report, parser

OURS: Final = ("asyncio", "trio")
THEIRS: Final = "huggingface_hub"
_LEAST: Final = 0.9
_MOST_STALL: Final = 50.0
_MOST_GROWTH: Final = 10.0
"""MB of memory that a file four times as large may cost more."""


@contextmanager
def origin(folder: Path) -> Iterator[int]:
    """An origin of the folder's files; gives its port."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, str(HERE / "_file_origin.py"), str(folder)], stdin=pipe, stdout=pipe, text=True
    ) as child:
        assert child.stdout is not None
        try:
            yield int(child.stdout.readline())
        finally:
            child.kill()


def make(path: Path, megabytes: int) -> str:
    """Write a file of random bytes; gives its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(megabytes):
            digest.update(block := os.urandom(10**6))
            file.write(block)
    return digest.hexdigest()


def download(kind: str, url: str, size: int, sha256: str, around: Path) -> dict[str, float]:
    """Download once; gives seconds, the most resident memory, and the loop's longest stall."""
    with TemporaryDirectory(dir=around) as folder:
        if kind == "curl":
            begun = perf_counter()
            subprocess.run(["curl", "-s", "-o", f"{folder}/file", url], check=True)
            return {"seconds": perf_counter() - begun}
        done = subprocess.run(
            [sys.executable, str(HERE / "_download_once.py"), kind, url, folder, str(size), sha256],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found: dict[str, float] = json.loads(done.stdout)
        return found


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--size", type=int, default=400, help="MB of the file; a second one has a quarter")
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--around", type=Path, help="where files are written; by default the system's place")
    options = made.parse_args()
    kinds = [*OURS, THEIRS, *(["curl"] if shutil.which("curl") else [])]
    report = Report(
        "Downloads over HTTP from this machine",
        (
            "client",
            "MB/s",
            f"of {THEIRS}'s",
            "limit",
            "resident, MB",
            "with a quarter of the size",
            "limit",
            "longest stall of the loop, ms",
            "limit",
        ),
        notes=(
            f"{options.size} MB, {options.rounds} times each, in turns; {THEIRS} {version(THEIRS)}.",
            "Memory is the most that a process had, with its libraries; the stall the longest of all rounds.",
        ),
    )
    seconds: dict[str, list[float]] = defaultdict(list)
    resident: dict[tuple[str, str], list[float]] = defaultdict(list)
    stalls: dict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory(dir=options.around) as folder:
        source = Path(folder, "source")
        source.mkdir()
        sizes = {"large.bin": options.size, "small.bin": options.size // 4}
        hashes = {name: make(source / name, size) for name, size in sizes.items()}
        with origin(source) as port:
            for _ in range(options.rounds):
                for kind in kinds:
                    for name, size in sizes.items():
                        url = f"http://127.0.0.1:{port}/{name}"
                        found = download(kind, url, size * 10**6, hashes[name], Path(folder))
                        if name == "large.bin":
                            seconds[kind].append(found["seconds"])
                        if "stall" in found:
                            stalls[kind].append(found["stall"] * 1e3)
                        if "resident" in found:
                            resident[kind, name].append(found["resident"] / 1e6)
    theirs = options.size / statistics.median(seconds[THEIRS])
    for kind in kinds:
        rate = options.size / statistics.median(seconds[kind])
        ours = kind in OURS
        large, small = (max(resident[kind, name], default=None) for name in sizes)
        growth = large - small if large is not None and small is not None else 0.0
        report.add(
            kind,
            rate,
            rate / theirs,
            report.check(f"{kind}, rate", rate / theirs, least=_LEAST) if ours else "",
            large,
            small,
            report.check(f"{kind}, growth of memory", growth, most=_MOST_GROWTH) if ours else "",
            max(stalls[kind]) if ours else None,
            report.check(f"{kind}, stall", max(stalls[kind]), most=_MOST_STALL) if ours else "",
        )
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
