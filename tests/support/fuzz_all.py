"""Runs all fuzzers, each in a process of its own: `python -m tests.support.fuzz_all --results FILE`.

Each target is fed twice: with what Hypothesis draws, and, where atheris is installed (the extra `fuzz`), with
what that chooses by the code that it reaches. A run that finds something, or that ends otherwise than it
should, is shown as it was, and fails the whole. Seconds are the processor's: what else the machine does costs
no input.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.support.fuzz import MEMORY, SECONDS, TARGETS

__all__ = ["Ended", "Run", "all_runs", "report", "run_all"]

_PATIENCE: Final = 20
"""A run that takes this many times its seconds, and a minute, hangs."""


@frozen
class Run:
    """One target, fed by one of the two."""

    target: str
    by: str
    command: Sequence[str]
    limit: float | None = None
    """Seconds until it is given up."""


@frozen
class Ended:
    """A run, and what came of it."""

    run: Run
    inputs: int
    reached: str
    """What atheris says of the code that it reached: pairs of lines, and of these with how often."""
    failure: str
    """The last of what it said, if it has not ended well."""


def all_runs(seconds: float, by: Sequence[str]) -> list[Run]:
    """Each target, fed by each of these."""
    modules = {"hypothesis": "fuzz", "atheris": "fuzz_atheris"}
    return [
        Run(
            target,
            one,
            (sys.executable, "-m", f"tests.support.{modules[one]}", target, "--seconds", f"{seconds:g}"),
            60 + seconds * _PATIENCE,
        )
        for one in by
        for target in TARGETS
    ]


def _ended(run: Run) -> Ended:
    status: int | str
    try:
        done = subprocess.run(run.command, capture_output=True, check=False, timeout=run.limit)
        status, output = done.returncode, (done.stdout + done.stderr).decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        status, output = "no end", (error.stderr or b"").decode(errors="replace")
    inputs = re.search(r"(\d+) inputs in ", output)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", output)
    well = status == 0 and inputs is not None
    return Ended(
        run,
        int(inputs[1]) if inputs else 0,
        "{} and {}".format(*reached[-1]) if reached else "",
        "" if well else f"{status}: {output[-2000:]}",
    )


def run_all(runs: Sequence[Run], jobs: int) -> list[Ended]:
    """Run them, so many at once, and tell of each when it ends."""

    def one(run: Run) -> Ended:
        ended = _ended(run)
        print(f"{run.target}, {run.by}: {ended.failure or ended.inputs}", flush=True)  # noqa: T201
        return ended

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, runs))


def report(ended: Sequence[Ended], *, seconds: float, machine: str) -> str:
    """The results, as a page."""
    names = ("hypothesis", "atheris", "h11", "wsproto", "cattrs")
    versions = ", ".join(f"{name} {version(name)}" for name in names if find_spec(name))
    rows = "".join(
        f"| `{one.run.target}` | {one.run.by} | {one.inputs:,} | {one.reached} "
        f"| {'**failed**' if one.failure else 'none'} |\n"
        for one in ended
    )
    failures = "".join(
        f"\n{one.run.target}, {one.run.by}:\n\n```\n{one.failure}\n```\n" for one in ended if one.failure
    )
    today = time.strftime("%Y-%m-%d")
    return (
        f"# Fuzzers\n\n`python -m tests.support.fuzz_all --seconds {seconds:g}`, {today}. {machine}; "
        f"Python {platform.python_version()}, {versions}.\n\n"
        f"Each run had {seconds:g} seconds of the processor's time. Failures are exceptions that are not "
        f"promised, inputs that take more than {SECONDS:g} s of it, and ones that cost more than "
        f"{MEMORY // 1024**2} MB.\n\n"
        "| target | chosen by | inputs | reached (edges and features) | failures |\n|---|---|---|---|---|\n"
        f"{rows}{failures}"
    )


def main() -> int:
    """Run from the command line; the status tells whether all ended well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="for each, of the processor's time")
    here = ["hypothesis", *(["atheris"] if find_spec("atheris") else [])]
    parser.add_argument("--by", action="append", choices=here, help="who chooses the input; all, by default")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--machine", default=platform.platform(), help="what the results say it was")
    parser.add_argument("--results", type=Path, help="where to write a page")
    given = parser.parse_args()
    ended = run_all(all_runs(given.seconds, given.by or here), given.jobs)
    page = report(ended, seconds=given.seconds, machine=given.machine)
    if given.results is not None:
        given.results.write_text(page, encoding="utf-8")
    print(page)  # noqa: T201
    return int(any(one.failure for one in ended))


if __name__ == "__main__":
    sys.exit(main())
