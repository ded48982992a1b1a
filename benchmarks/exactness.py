"""Whether answers stay the same: against onnxruntime-genai's own generator, and whatever else runs or ran.

Run: `python benchmarks/exactness.py --gguf FILE`; the file is the default model's, which `foundry model run`
has fetched. Two tables in one:

- 50 prompts of 1 to 700 tokens, joining and leaving at random, at temperature 0: the batched engine's tokens
  against those of onnxruntime-genai's generator, one prompt at a time and computed at once, with weights in
  full precision (imported for this run) and in 8 bits.
- 100 prompts with 8-bit weights, at temperature 0 and with a seed at temperature 1: alone and never seen
  (cold), once more (warm), and beside seven others.

The exit status is 1 when a token differs.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from attrs import evolve

from _common import Report, find_model, model_parser
from foundry_runtime.engine.api import Failed, Finished, Job, Sampling, Token
from foundry_runtime.engine.batched import BatchedEngine
from foundry_runtime.engine.genai.binding import Generator, Model, load_library
from foundry_runtime.engine.genai.config import read_config
from foundry_runtime.engine.genai.engine import session_overlay
from foundry_runtime.importers.gguf import import_gguf
from foundry_runtime.platform import usable_cores

GREEDY = Sampling(temperature=0.0)
SEEDED = Sampling(temperature=1.0, seed=11)
TOKENS = 40


def prompts(count: int, *, longest: int, vocabulary: int, seed: int) -> list[list[int]]:
    """Prompts of lengths about which engines make mistakes, and of any others."""
    drawn = random.Random(seed)
    odd = (1, 2, 15, 16, 17, 31, 32, 33, 127, 128, 129)
    lengths = [*odd, *(drawn.randrange(3, longest) for _ in range(count - len(odd)))]
    return [[drawn.randrange(3, vocabulary) for _ in range(length)] for length in lengths]


def run(engine: BatchedEngine, jobs: Sequence[Job], arrivals: Sequence[int] = ()) -> list[list[int]]:
    """What is said to each job, which comes at its step."""
    said: dict[Job, list[int]] = {job: [] for job in jobs}
    waiting = sorted(zip(jobs, arrivals or [0] * len(jobs), strict=True), key=lambda pair: pair[1])
    left, step = len(jobs), 0
    while left:
        while waiting and waiting[0][1] <= step:
            engine.admit(waiting.pop(0)[0])
        for event in engine.step():
            if isinstance(event, Token):
                said[event.job].append(event.id)
            elif isinstance(event, Failed):
                raise event.error
            left -= isinstance(event, Finished)
        step += 1
    return [said[job] for job in jobs]


@contextmanager
def native(folder: Path) -> Iterator[Model]:
    """The model in onnxruntime-genai."""
    model = Model(load_library(), folder, session_overlay(usable_cores()))
    yield model
    model.close()


def generate(model: Model, prompt: Sequence[int], tokens: int, end_ids: frozenset[int]) -> list[int]:
    """What onnxruntime-genai's generator says."""
    said: list[int] = []
    with Generator(model, max_length=len(prompt) + tokens) as generator:
        generator.append(np.array(prompt, dtype=np.int32))
        while len(said) < tokens and (token := generator.next_token()) not in end_ids:
            said.append(token)
    return said


def against_native(report: Report, folder: Path, weights: str, count: int) -> None:
    config = read_config(folder)
    asked = prompts(count, longest=700, vocabulary=config.vocabulary, seed=1)
    with native(folder) as model:
        expected = [generate(model, prompt, TOKENS, config.end_ids) for prompt in asked]
    engine = BatchedEngine(folder, kept=0)
    drawn = random.Random(2)
    jobs = [Job(prompt=prompt, max_tokens=TOKENS, sampling=GREEDY) for prompt in asked]
    said = run(engine, jobs, [drawn.randrange(0, 120) for _ in jobs])
    engine.close()
    same = sum(one == other for one, other in zip(said, expected, strict=True))
    limit = report.check(f"{weights}, as onnxruntime-genai", same, least=count)
    report.add(
        f"{weights}, joining and leaving at random", "onnxruntime-genai's generator", same, count, limit
    )


def against_itself(report: Report, folder: Path, count: int) -> None:
    config = read_config(folder)
    asked = prompts(count, longest=400, vocabulary=config.vocabulary, seed=3)
    others = prompts(60, longest=200, vocabulary=config.vocabulary, seed=4)
    for name, sampling in (("temperature 0", GREEDY), ("seed, temperature 1", SEEDED)):
        engine = BatchedEngine(folder)
        jobs = [Job(prompt=prompt, max_tokens=TOKENS, sampling=sampling) for prompt in asked]
        cold, warm, beside = [], [], []
        for job in jobs:
            cold += run(engine, [job])
            warm += run(engine, [evolve(job)])
        engine.forget_prefixes()
        drawn = random.Random(5)
        for job in jobs:
            seven = [
                Job(prompt=drawn.choice(others), max_tokens=drawn.randrange(5, 60), sampling=sampling)
                for _ in range(7)
            ]
            arrivals = [3, *(drawn.randrange(0, 12) for _ in seven)]
            beside.append(run(engine, [evolve(job), *seven], arrivals)[0])
        engine.close()
        for how, said in (("warm", warm), ("beside seven others", beside)):
            same = sum(one == other for one, other in zip(said, cold, strict=True))
            limit = report.check(f"{name}, {how}", same, least=count)
            report.add(f"int8, {name}, {how}", "the same, cold and alone", same, count, limit)


def main() -> int:
    made = model_parser(__doc__)
    made.add_argument("--gguf", type=Path, help="the model's file, to import it in full precision")
    made.add_argument("--native", type=int, default=50, help="prompts against onnxruntime-genai (50)")
    made.add_argument("--prompts", type=int, default=100, help="prompts against themselves (100)")
    options = made.parse_args()
    folder = find_model(options.home, options.model).path
    report = Report(
        title="Whether answers stay the same",
        columns=("what", "against", "the same", "of", "limit"),
        notes=(f"Answers of up to {TOKENS} tokens.",),
    )
    kinds: dict[Literal["int8", "float32"], Path] = {"int8": folder}
    with TemporaryDirectory() as temporary:
        if options.gguf is not None:
            kinds["float32"] = Path(temporary) / "float32"
            import_gguf(options.gguf, kinds["float32"], model_id="float32:1", weights="float32")
        for weights, path in kinds.items():
            against_native(report, path, weights, options.native)
    against_itself(report, folder, options.prompts)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
