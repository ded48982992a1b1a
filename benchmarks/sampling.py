"""What choosing a token costs, once its logits are there, in milliseconds.

Run: `python benchmarks/sampling.py`. The logits are those of a thousand steps of the real model's answer; for
a larger vocabulary they are stretched to 151,936 ids, so that their sorted shape is the same. Beside them
stand flat ones, whose nucleus is nearly the whole vocabulary: the worst case. All ways of choosing take turns
on each step's logits, and go through `Chooser`, as in an engine. The exit status is 1 when temperature with
top_p takes more than 1.5 ms of 49,152 ids, or more than 3 ms of 151,936.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from _common import Report, find_model, model_parser, prompt_maker, user
from foundry_runtime.engine.api import Job, Sampling
from foundry_runtime.engine.genai.binding import Generator, Model, load_library
from foundry_runtime.engine.genai.engine import session_overlay
from foundry_runtime.engine.text.choosing import Chooser
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.platform import usable_cores

Floats = npt.NDArray[np.float32]

STEPS: Final = 1000
WIDE: Final = 151_936
WIDE_ROWS: Final = 100
FLAT_ROWS: Final = 20
MOST: Final = {49_152: 1.5, WIDE: 3.0}
LIMITED: Final = "temperature 1, top_p 0.95"
QUESTION: Final = "Write a long story about the keeper of a lighthouse."

NUCLEUS: Final = {"temperature": 1.0, "top_p": 0.95}
PENALTIES: Final = {"presence_penalty": 0.5, "frequency_penalty": 0.1}
GREEDY: Final = {"temperature": 0.0}
EVERYTHING: Final = {
    **NUCLEUS,
    **PENALTIES,
    "top_k": 40,
    "min_p": 0.01,
    "repetition_penalty": 1.1,
    "logit_bias": {11: 1.0},
}

Way: TypeAlias = tuple[str, Mapping[str, Any], int | None]
"""What it is called, the sampling, and how many logprobs."""

WAYS: Final[Sequence[Way]] = (
    ("greedy", GREEDY, None),
    ("greedy, logprobs", GREEDY, 0),
    ("greedy, 5 top_logprobs", GREEDY, 5),
    ("greedy, 20 top_logprobs", GREEDY, 20),
    ("greedy, presence and frequency penalty", {**GREEDY, **PENALTIES}, None),
    ("greedy, repetition_penalty", {**GREEDY, "repetition_penalty": 1.1}, None),
    ("temperature 1", {"temperature": 1.0}, None),
    (LIMITED, NUCLEUS, None),
    ("temperature 1, top_k 40", {"temperature": 1.0, "top_k": 40}, None),
    ("temperature 1, min_p 0.05", {"temperature": 1.0, "min_p": 0.05}, None),
    (f"{LIMITED}, penalties", {**NUCLEUS, **PENALTIES}, None),
    (f"{LIMITED}, all of these, 5 top_logprobs", EVERYTHING, 5),
)  # fmt: skip
FLAT_WAYS: Final = tuple(
    way for way in WAYS if way[0] in ("temperature 1", LIMITED, "temperature 1, top_k 40")
)


def logits_of(folder: ModelFolder) -> Floats:
    """The logits of each step of one long answer, drawn at temperature 1 so that it goes on."""
    prompt = np.array(prompt_maker(folder).make([user(QUESTION)]).ids, dtype=np.int32)
    rows = np.empty((STEPS, folder.vocab_size), dtype=np.float32)
    never_ending = dict.fromkeys(folder.end_ids, -100.0)
    job = Job(prompt=prompt.tolist(), max_tokens=STEPS, sampling=Sampling(seed=1, logit_bias=never_ending))
    chooser = Chooser(job)
    with (
        Model(load_library(), folder.path, session_overlay(usable_cores())) as model,
        Generator(model, max_length=len(prompt) + STEPS) as generator,
    ):
        generator.append(prompt)
        for row in rows:
            row[:] = generator.logits()
            generator.choose(chooser.choose(row).id, folder.vocab_size)
    return rows


def stretched(rows: Floats, size: int) -> Floats:
    """Logits of more ids, whose sorted shape is that of the rows: which id has which is drawn by lot."""
    places = np.linspace(0, rows.shape[1] - 1, size)
    order = np.random.default_rng(0).permutation(size)
    known = np.arange(rows.shape[1])
    return np.stack([np.interp(places, known, np.sort(row))[order] for row in rows]).astype(np.float32)


def flat(size: int) -> Floats:
    drawn: Floats = np.random.default_rng(0).standard_normal((FLAT_ROWS, size), dtype=np.float32)
    return drawn * np.float32(0.01)


def measure(
    rows: Floats, ways: Sequence[tuple[str, Mapping[str, Any], int | None]]
) -> dict[str, list[float]]:
    """The milliseconds of each way at each of a thousand steps."""
    prompt = list(range(100))
    choose: dict[str, Callable[[Floats], object]] = {
        name: Chooser(
            Job(prompt=prompt, max_tokens=STEPS, sampling=Sampling(seed=1, **sampling), logprobs=logprobs)
        ).choose
        for name, sampling, logprobs in ways
    }
    names = list(choose)
    took: dict[str, list[float]] = {name: [] for name in names}
    for step in range(STEPS):
        row = rows[step % len(rows)]
        for number in range(len(names)):
            name = names[(number + step) % len(names)]  # whoever is first has the logits from further away
            start = perf_counter()
            choose[name](row)
            took[name].append((perf_counter() - start) * 1e3)
    return took


def main() -> int:
    options = model_parser(__doc__).parse_args()
    folder = find_model(options.home, options.model)
    report = Report(
        title="Choosing a token from its logits",
        columns=("logits", "ids", "how", "ms", "limit", "first hundred", "last hundred"),
        notes=(
            f"Medians of {STEPS} steps, and of the first and the last hundred of them.",
            "What was said is counted as it is said, so an answer's length costs nothing.",
        ),
    )
    real = logits_of(folder)
    shapes = [
        ("the model's", real, WAYS),
        ("the model's, stretched", stretched(real[:: STEPS // WIDE_ROWS], WIDE), WAYS),
        ("flat", flat(real.shape[1]), FLAT_WAYS),
        ("flat", flat(WIDE), FLAT_WAYS),
    ]
    for shape, rows, ways in shapes:
        size = rows.shape[1]
        for how, took in measure(rows, ways).items():
            value = median(took)
            limited = how == LIMITED and shape != "flat" and size in MOST
            limit = report.check(f"{size} ids, {how}", value, most=MOST[size]) if limited else ""
            report.add(shape, size, how, value, limit, median(took[:100]), median(took[-100:]))
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
