"""Feeds a parser by the code that it reaches: `python -m tests.support.fuzz_atheris TARGET`.

The targets, their promises and what has broken them once are those of `tests/support/fuzz.py`; atheris is the
extra `fuzz`, for Linux. It sees the code of `FOLLOWED`, which therefore has to be imported under its eyes.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import tracemalloc
from importlib import import_module
from pathlib import Path
from typing import Any, Final

FOLLOWED: Final = ("foundry_proto", "foundry_runtime", "h11", "wsproto")
"""The packages whose branches count as something new."""


def fuzz(atheris: Any, name: str, seconds: float) -> None:
    """Feed a target for so many seconds of the processor's time, and end the process."""
    with atheris.instrument_imports(include=list(FOLLOWED)):
        fuzzing = import_module("tests.support.fuzz")
    _, seeds = fuzzing.TARGETS[name]
    rng, count = random.Random(0), 0

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng.seed(seed)
        if rng.random() < 0.5:
            at = rng.randrange(len(data) + 1)
            grown: bytes = data[:at] + rng.choice((*seeds, *fuzzing.SPICE)) + data[at:]
            return grown[:most]
        mutated: bytes = atheris.Mutate(data, most)
        return mutated

    def feed(data: bytes) -> None:
        nonlocal count
        count += 1
        fuzzing.judged(name, data)
        if time.process_time() - begin > seconds:
            print(fuzzing.said(name, count, seconds), flush=True)  # noqa: T201
            os._exit(0)  # What ends it otherwise counts as a crash.

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate((*seeds, *fuzzing.CRASHES[name], b"".join(seeds))):
            Path(corpus, str(number)).write_bytes(seed)
        options = ("-timeout=60", "-rss_limit_mb=1024", "-max_len=2000", f"-artifact_prefix={corpus}/")
        atheris.Setup([sys.argv[0], *options, corpus], feed, custom_mutator=mutate)
        tracemalloc.start()
        begin = time.process_time()
        atheris.Fuzz()


def main() -> None:
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the processor's time")
    given = parser.parse_args()
    fuzz(import_module("atheris"), given.target, given.seconds)


if __name__ == "__main__":
    main()
