"""What it costs to hold an answer to a form: setting up, compiling, and each token, in milliseconds.

Run: `python benchmarks/guidance.py`. The model answers with JSON for schemas made by lot until a thousand
tokens are drawn, from its own logits; what each took to be constrained and accepted is measured apart. For a
larger vocabulary the same answers are followed once more in one of 151,936 tokens, which has the model's own
and pairs of them. There is no limit: it is the engine's own time, beside the 5 ms of a token of this model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median, quantiles
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from attrs import evolve

from _common import HERE, Report, find_model, model_parser, prompt_maker, user
from foundry_runtime.engine.api import Guide
from foundry_runtime.engine.genai.binding import Generator, Model, load_library
from foundry_runtime.engine.genai.engine import session_overlay
from foundry_runtime.engine.text.guidance.forms import ANY_OBJECT, Form, Json, Regex
from foundry_runtime.engine.text.guidance.grammars import Guidance
from foundry_runtime.engine.text.tokenizer import Tokenizer
from foundry_runtime.platform import usable_cores

sys.path.insert(0, str(HERE.parent))  # the schemas are those of the tests
from tests.support.json_schemas import random_schema

STEPS: Final = 1000
WIDE: Final = 151_936
SET_UPS: Final = 5
SCHEMAS: Final = 200
QUESTION: Final = "Make up an example of a record, as JSON."

Floats = npt.NDArray[np.float32]


class Timed:
    """A guide whose work is measured."""

    def __init__(self, guide: Guide) -> None:
        self.guide = guide
        self.seconds: list[float] = []

    def constrain(self, logits: Floats) -> None:
        self.began = perf_counter()
        self.guide.constrain(logits)
        self.constrained = perf_counter() - self.began

    def accept(self, token: int) -> None:
        began = perf_counter()
        self.guide.accept(token)
        self.seconds.append(self.constrained + perf_counter() - began)


def wide(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokens, and pairs of them, up to as many as a larger model has."""
    texts = list(tokenizer.token_bytes)
    known = set(texts)
    words = [text for text in texts if text][: WIDE // 2]
    for first, second in zip(words, reversed(words), strict=True):
        for joined in (first + second, second + first, first + first):
            if joined not in known and len(texts) < WIDE:
                known.add(joined)
                texts.append(joined)
    return evolve(tokenizer, token_bytes=texts)


def answer(model: Model, prompt: Sequence[int], guide: Timed, most: int) -> list[int]:
    """Draw the likeliest tokens that the guide allows, until the answer is whole."""
    said: list[int] = []
    ids = np.array(prompt, dtype=np.int32)
    with Generator(model, max_length=len(prompt) + most) as generator:
        generator.append(ids)
        while len(said) < most and not guide.guide.complete:
            logits = generator.logits()
            guide.constrain(logits)
            token = int(logits.argmax())
            guide.accept(token)
            said.append(token)
            generator.choose(token, len(logits))
    return said


def followed(guidance: Guidance, form: Form, said: Sequence[int], rows: int) -> list[float]:
    """The same answer in another vocabulary, which has its tokens under the same ids."""
    guide = Timed(guidance.compile(form).begin())
    logits = np.zeros(rows, dtype=np.float32)
    for token in said:
        logits[:] = 0
        guide.constrain(logits)
        guide.accept(token)
    return guide.seconds


def timed(work: Callable[[], Any], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        began = perf_counter()
        work()
        taken.append(perf_counter() - began)
    return taken


def set_up(tokenizer: Tokenizer, end_ids: Sequence[int], rows: int) -> None:
    Guidance(tokenizer, end_ids=end_ids, rows=rows).compile(Regex("a"))


def main() -> int:
    options = model_parser(__doc__).parse_args()
    folder = find_model(options.home, options.model)
    prompts = prompt_maker(folder)
    report = Report(
        title="Holding an answer to a form, in ms",
        columns=("what", "vocabulary", "median", "95 %", "longest", "times"),
        notes=("A token is constrained and accepted once; the first ones of a grammar fill its caches.",),
    )

    def add(what: str, rows: int, seconds: Sequence[float]) -> None:
        milliseconds = [1e3 * one for one in seconds]
        most = quantiles(milliseconds, n=20, method="inclusive")[-1]
        report.add(what, rows, median(milliseconds), most, max(milliseconds), len(milliseconds))

    tokenizers = {folder.vocab_size: prompts.tokenizer, WIDE: wide(prompts.tokenizer)}
    guidances = {
        rows: Guidance(tokenizer, end_ids=folder.end_ids, rows=rows) for rows, tokenizer in tokenizers.items()
    }
    for rows, tokenizer in tokenizers.items():
        add(
            "set-up, with the first form",
            rows,
            timed(
                partial(set_up, tokenizer, folder.end_ids, rows),
                SET_UPS,
            ),
        )
    forms: list[Form] = [ANY_OBJECT, *(Json(random_schema(seed)) for seed in range(SCHEMAS))]
    for rows, guidance in guidances.items():
        guidance.compile(Regex("a"))
        add(
            "a schema, compiled",
            rows,
            [timed(partial(guidance.compile, form), 1)[0] for form in forms],
        )
    prompt = prompts.make([user(QUESTION)]).ids
    steps: dict[int, list[float]] = {rows: [] for rows in guidances}
    narrow = guidances[folder.vocab_size]
    with Model(load_library(), folder.path, session_overlay(usable_cores())) as model:
        for form in forms:
            if len(steps[folder.vocab_size]) >= STEPS:
                break
            guide = Timed(narrow.compile(form).begin())
            said = answer(model, prompt, guide, STEPS // 10)
            steps[folder.vocab_size] += guide.seconds
            steps[WIDE] += followed(guidances[WIDE], form, said, WIDE)
    for rows, seconds in steps.items():
        add("a token of JSON for a schema", rows, seconds[:STEPS])
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
