"""What a token costs in a step of our engines, against onnxruntime-genai's bare loop.

Run: `python benchmarks/stepping.py`. A bare loop over onnxruntime-genai's generator, which takes the
likeliest token, and one job in an engine go on side by side in one process, token by token in turns: whatever
else the machine does falls on both alike. Both have the same prompt, threads and session options, and at each
place compute the same. The exit status is 1 when an engine's greedy steps, with nothing asked beside them,
have less than 0.97 of the bare loop's tokens a second. Other ways of choosing stand beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import numpy as np

from _common import Report, find_model, model_parser, prompt_maker, user
from foundry_runtime.engine.api import Engine, Job, Sampling, Token
from foundry_runtime.engine.batched import BatchedEngine
from foundry_runtime.engine.genai import GenaiEngine
from foundry_runtime.engine.genai.binding import Generator, Model, load_library
from foundry_runtime.engine.genai.engine import session_overlay
from foundry_runtime.platform import usable_cores

RUNS: Final = 3
TOKENS: Final = 150
LEAST: Final = 0.97
QUESTION: Final = "Write a long story about the keeper of a lighthouse."

ENGINES: Final[Mapping[str, Callable[[Path], Engine]]] = {"genai": GenaiEngine, "batched": BatchedEngine}
GREEDY: Final = "greedy"
WAYS: Final[Mapping[str, tuple[Mapping[str, Any], int | None]]] = {
    GREEDY: ({"temperature": 0.0}, None),
    "greedy, 5 top_logprobs": ({"temperature": 0.0}, 5),
    "greedy, penalties": ({"temperature": 0.0, "presence_penalty": 0.1, "frequency_penalty": 0.1}, None),
    "temperature 1, top_p 0.9": ({"top_p": 0.9, "seed": 1}, None),
}
"""The sampling, and how many logprobs."""


def job_of(
    prompt: Sequence[int], end_ids: Sequence[int], sampling: Mapping[str, Any], logprobs: int | None
) -> Job:
    """A job whose answer is as long as the bare loop's: no token ends it, where that can be asked."""
    nothing_asked = (sampling, logprobs) == WAYS[GREEDY]
    bias = {} if nothing_asked else dict.fromkeys(end_ids, -100.0)
    return Job(
        prompt=prompt,
        max_tokens=TOKENS + 2,
        sampling=Sampling(**sampling, logit_bias=bias),
        logprobs=logprobs,
    )


def stepping(engine: Engine, job: Job) -> Callable[[], None]:
    """Begin a job, and give what computes its next token."""

    def step() -> None:
        while not any(isinstance(event, Token) for event in engine.step()):
            pass

    engine.admit(job)
    step()
    return step


@contextmanager
def bare_model(engine: Engine, folder: Path) -> Iterator[Model]:
    """The model of the bare loop: the engine's very own, where it can be had.

    Two that are loaded from one file are not equally quick: up to a tenth lies in where their memory is.
    """
    if isinstance(engine, GenaiEngine):
        yield engine._model  # noqa: SLF001 - for what is said above
    else:
        with Model(load_library(), folder, session_overlay(usable_cores())) as model:
            yield model


@contextmanager
def bare_loop(model: Model, prompt: Sequence[int]) -> Iterator[Callable[[], object]]:
    """The same without us."""
    with Generator(model, max_length=len(prompt) + TOKENS + 2) as generator:
        generator.append(np.array(prompt, dtype=np.int32))
        generator.next_token()
        yield generator.next_token


def in_turns(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """The median milliseconds of each, called in turns."""
    took: tuple[list[float], list[float]] = ([], [])
    for number in range(TOKENS):
        for which in (0, 1) if number % 2 else (1, 0):
            start = perf_counter()
            (first, second)[which]()
            took[which].append((perf_counter() - start) * 1e3)
    return median(took[0]), median(took[1])


def main() -> int:
    made = model_parser(__doc__)
    made.add_argument("--runs", type=int, default=RUNS, help=f"answers of each ({RUNS})")
    options = made.parse_args()
    folder = find_model(options.home, options.model)
    prompt = prompt_maker(folder).make([user(QUESTION)]).ids
    report = Report(
        title="Our engines' steps against the bare loop",
        columns=("engine", "how", "ms a token", "bare loop, ms", "of its speed", "limit"),
        notes=(
            f"Medians of {options.runs} answers, of each of which the median of {TOKENS} tokens counts.",
            "The bare loop takes turns with each of them, token by token; so each has figures of its own.",
        ),
    )
    for name, make in ENGINES.items():
        engine = make(folder.path)
        with bare_model(engine, folder.path) as model:
            for how, way in WAYS.items():
                pairs = []
                for _ in range(options.runs):
                    job = job_of(list(prompt), folder.end_ids, *way)
                    with bare_loop(model, prompt) as alone:
                        pairs.append(in_turns(alone, stepping(engine, job)))
                    engine.cancel(job)
                bare, ours = (median(values) for values in zip(*pairs, strict=True))
                share = median(alone / step for alone, step in pairs)
                limit = report.check(f"{name}, {how}", share, least=LEAST) if how == GREEDY else ""
                report.add(name, how, ours, bare, share, limit)
        engine.close()
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
