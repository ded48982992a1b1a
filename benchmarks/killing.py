"""Downloads that are killed at random moments: what the next run fetches again, over many rounds.

Run: `python benchmarks/killing.py`; it takes about eight minutes. `tests/support/kills.py` does it.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from _common import HERE, Report, parser

sys.path.insert(0, str(HERE.parent))  # the rounds are those of the tests
from tests.support.kills import kill_rounds

_MOST: Final = 1.05


def main() -> int:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=100, help="on both event loops together")
    made.add_argument("--size", type=float, default=200, help="MB")
    made.add_argument("--rate", type=float, default=100, help="MB a second, over eight connections")
    options = made.parse_args()
    report = Report(
        "Downloads killed at random moments (kill -9), MB",
        (
            "event loop",
            "rounds",
            "killed before the model was whole",
            "bytes twice, median",
            "bytes twice, most",
            "(fetched - in flight) / size, most",
            "limit",
            "looks at the list",
        ),
        notes=(
            f"A model of {options.size:g} MB; its origin sends {options.rate:g} MB/s over 8 connections.",
            "In flight is what it had sent, at the kill, of answers that were not at their end.",
            "Each was completed by the next run, and none was listed before it was whole: else this ends.",
        ),
    )
    for number, backend in enumerate(("asyncio", "trio")):
        with TemporaryDirectory() as folder:
            killed = kill_rounds(
                options.rounds // 2,
                int(options.size * 1e6),
                rate=options.rate * 1e6,
                seed=number,
                backend=backend,
                home=Path(folder, "home"),
            )
        twice = sorted(killed.twice)
        worst = max((one.sent - one.in_flight) / killed.size for one in killed.rounds)
        report.add(
            backend,
            len(killed.rounds),
            sum(not one.was_whole for one in killed.rounds),
            round(statistics.median(twice) / 1e6, 1),
            round(twice[-1] / 1e6, 1),
            worst,
            report.check(f"{backend}, bytes fetched", worst, most=_MOST),
            killed.looks,
        )
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
