"""Runs every benchmark, one after the other, and keeps their results in `benchmarks/results`.

Run: `python benchmarks/run_all.py`, on a machine that does nothing else; it takes about ten minutes. Each
benchmark's table goes to `DATE-NAME.md` and its figures to `DATE-NAME.json`. The exit status is 1 when one of
them missed a limit or failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from _common import HERE, model_options

WITHOUT_MODEL = ("chunk_encoding", "sse_decode", "downloading", "http_speed")
WITH_MODEL = (
    "memory",
    "unloading",
    "loop_stall",
    "sampling",
    "guidance",
    "stepping",
    "speculation",
    "generation",
)


def run(name: str, options: list[str], results: Path) -> int:
    """Run one benchmark; gives its exit status."""
    kept = results / f"{datetime.now(UTC).date().isoformat()}-{name}"
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py"), "--json", f"{kept}.json", *options],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    Path(f"{kept}.md").write_text(done.stdout, encoding="utf-8")
    print(done.stdout)
    print(f"-- {name}: {perf_counter() - start:.0f} s, exit status {done.returncode}\n", flush=True)
    return done.returncode


def main() -> int:
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    model_options(made)
    made.add_argument("--results", type=Path, default=HERE / "results", help="the folder for the results")
    options = made.parse_args()
    options.results.mkdir(exist_ok=True)
    model = ["--home", str(options.home), "--model", options.model]
    statuses = {name: run(name, [], options.results) for name in WITHOUT_MODEL}
    statuses |= {name: run(name, model, options.results) for name in WITH_MODEL}
    failed = [name for name, status in statuses.items() if status]
    print(f"limits missed or failed: {', '.join(failed)}" if failed else "every limit kept")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
