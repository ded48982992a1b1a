"""One step after the other towards an answer, as a process that says how much memory each took.

`_memory_steps.py WAY MODEL_FOLDER`, where WAY is `bare` (engine and tokenizer alone), `serving` (what
`foundry serve` imports, then the same), `load` (the batched engine before and after many answers at once), or
`plain` and `guessing` (that engine after a short answer, without and with guessing of tokens).
After each step it prints what was done, and waits for a line of input while the reader looks at its memory.
"""

# ruff: noqa: PLC0415 - when each thing is imported is what is measured

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foundry_runtime.engine.api import Job
    from foundry_runtime.engine.batched import BatchedEngine

PROMPT_TOKENS = 512
ANSWER_TOKENS = 32
ROWS = 16
ROUNDS = 4


def done(step: str) -> None:
    print(step, flush=True)
    sys.stdin.readline()


def main(way: str, folder: Path) -> None:
    done("the interpreter")
    if way == "serving":
        importlib.import_module("asyncio")
        done("+ asyncio")
        importlib.import_module("foundry_runtime.server")
        done("+ protocol and runtime")
        importlib.import_module("foundry_serve.cli.serve")
        done("+ the serve command")
    from foundry_runtime.engine.text.tokenizer import Tokenizer

    done("+ the tokenizers library")
    tokenizer = Tokenizer.load(folder)
    done("+ the model's tokenizer")
    importlib.import_module("numpy")
    done("+ numpy")
    importlib.import_module("onnxruntime")
    done("+ onnxruntime")
    from foundry_runtime.engine.api import Job, Sampling
    from foundry_runtime.engine.batched import BatchedEngine

    engine = BatchedEngine(folder)
    done("+ the model")
    (ids,) = tokenizer.encode_pieces([" time" * PROMPT_TOKENS])
    assert len(ids) == PROMPT_TOKENS
    answer(engine, [Job(prompt=ids, max_tokens=ANSWER_TOKENS, sampling=Sampling(temperature=0))])
    done(f"+ a prompt of {PROMPT_TOKENS} tokens, answered")


def answer(engine: BatchedEngine, jobs: Sequence[Job]) -> None:
    """Have all jobs answered, to their ends."""
    from foundry_runtime.engine.api import Finished

    for job in jobs:
        engine.admit(job)
    left = len(jobs)
    while left:
        left -= sum(isinstance(event, Finished) for event in engine.step())


def load(folder: Path) -> None:
    from foundry_runtime.engine.api import Job, Sampling
    from foundry_runtime.engine.batched import BatchedEngine
    from foundry_runtime.platform import return_large_memory_at_once

    return_large_memory_at_once()  # as `foundry serve` does
    engine = BatchedEngine(folder)
    drawn = random.Random(1)

    def jobs(count: int) -> list[Job]:
        prompts = ([drawn.randrange(100, 40_000) for _ in range(128)] for _ in range(count))
        return [Job(prompt=one, max_tokens=256, sampling=Sampling(temperature=0)) for one in prompts]

    answer(engine, jobs(1))
    engine.forget_prefixes()
    done("one answer, nothing kept")
    for _ in range(ROUNDS):
        answer(engine, jobs(ROWS))
    done(f"{ROWS} answers at once, {ROUNDS} times; {engine.kept_tokens} tokens kept")
    engine.forget_prefixes()
    done("nothing kept again")


def short(folder: Path, *, guessing: bool) -> None:
    from foundry_runtime.engine.api import Job, Sampling
    from foundry_runtime.engine.batched import BatchedEngine

    engine = BatchedEngine(folder, speculate=guessing)
    answer(engine, [Job(prompt=[100, 101, 102] * 20, max_tokens=32, sampling=Sampling(temperature=0))])
    done("a short answer")


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(Path(sys.argv[2]))
    elif sys.argv[1] in ("plain", "guessing"):
        short(Path(sys.argv[2]), guessing=sys.argv[1] == "guessing")
    else:
        main(sys.argv[1], Path(sys.argv[2]))
