"""What guessing the next tokens brings, and what it costs: time and memory, one stream alone.

Run: `python benchmarks/speculation.py`. Two batched engines, with guessing and without, answer the same
prompts in turns: one whose line the model goes on repeating, and one to which it says something new all the
time (drawn with a seed, so that both say the same until rounding parts them). Memory is the resident set of a
process that has loaded one engine or the other. The exit status is 1 when free text is slower by more than a
twentieth, or when guessing takes more than a tenth of memory on top.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from _common import HERE, Report, find_model, model_parser, process, prompt_maker, user
from foundry_runtime.engine.api import Finished, Job, Sampling, Token
from foundry_runtime.engine.batched import BatchedEngine
from memory import memory

RUNS: Final = 5
TOKENS: Final = 200
LEAST: Final = 0.95
MOST_MEMORY: Final = 1.1
LINE: Final = "The keeper of the lighthouse counts the ships, writes their names down and lights the lamp. "
STORY: Final = "Write a long story about the keeper of a lighthouse."


def rate(engine: BatchedEngine, job: Job) -> tuple[float, float]:
    """Tokens a second behind the first one, and tokens a step."""
    engine.admit(job)
    times: list[float] = []
    before, ended = 0, False
    while not ended:
        events = engine.step()
        if not times:
            before = engine.counters.steps
        times += [perf_counter()] * sum(isinstance(event, Token) for event in events)
        ended = any(isinstance(event, Finished) for event in events)
    count = len(times) - 1
    return count / (times[-1] - times[0]), count / (engine.counters.steps - before)


def measure(
    report: Report, folder: Path, asked: dict[str, tuple[Sequence[int], Sampling]], runs: int
) -> None:
    plain = BatchedEngine(folder)
    guessing = BatchedEngine(folder, speculate=True)
    for name, (prompt, sampling) in asked.items():
        found: list[tuple[float, float, float]] = []
        for number in range(runs + 1):
            job, other = (Job(prompt=prompt, max_tokens=TOKENS, sampling=sampling) for _ in range(2))
            alone, _ = rate(plain, job)
            ours, tokens = rate(guessing, other)
            if number:  # the first one warms up
                found.append((alone, ours, tokens))
        share = median(ours / alone for alone, ours, _ in found)
        limit = report.check(f"{name} text", share, least=LEAST) if name == "free" else ""
        alone, ours, tokens = (median(values) for values in zip(*found, strict=True))
        report.add(f"{name} text, tokens a second", alone, ours, share, limit, tokens)
    plain.close()
    guessing.close()


def measure_memory(report: Report, options: argparse.Namespace, folder: Path) -> None:
    found: list[float] = []
    for way in ("plain", "guessing"):
        with process(options.home, str(HERE / "_memory_steps.py"), way, str(folder)) as child:
            assert child.stdout is not None
            assert child.stdout.readline()
            found.append(memory(child.pid)[0])
    share = found[1] / found[0]
    limit = report.check("memory", share, most=MOST_MEMORY)
    report.add("resident after an answer, MB", *found, share, limit, None)


def main() -> int:
    made = model_parser(__doc__)
    made.add_argument("--runs", type=int, default=RUNS, help=f"answers of each ({RUNS})")
    options = made.parse_args()
    folder = find_model(options.home, options.model)
    prompts = prompt_maker(folder)
    asked: dict[str, tuple[Sequence[int], Sampling]] = {
        "repetitive": (list(prompts.make_text(LINE * 8).ids), Sampling(temperature=0.0)),
        "free": (list(prompts.make([user(STORY)]).ids), Sampling(temperature=1.0, seed=3)),
    }
    report = Report(
        title="Guessing the next tokens",
        columns=("what", "without", "with guessing", "share", "limit", "tokens a step"),
        notes=(f"Medians of {options.runs} answers of up to {TOKENS} tokens, in turns.",),
    )
    measure(report, folder.path, asked, options.runs)
    if Path("/proc/self/smaps_rollup").exists():
        measure_memory(report, options, folder.path)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
