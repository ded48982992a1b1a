"""What the tests of the engine share: jobs, running them to their end, and watching the binding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from foundry_runtime.engine.api import EngineEvent, Failed, Finished, Job, Sampling, Token
from foundry_runtime.engine.genai.binding import Generator
from foundry_runtime.engine.genai.engine import GenaiEngine

GREEDY = Sampling(temperature=0.0)


def job(length: int, max_tokens: int = 12, sampling: Sampling = GREEDY) -> Job:
    prompt = np.random.default_rng(length).integers(3, 380, length).tolist()
    return Job(prompt=prompt, max_tokens=max_tokens, sampling=sampling)


def run(engine: GenaiEngine, *jobs: Job) -> dict[Job, list[EngineEvent]]:
    """Step until all jobs have ended."""
    for one in jobs:
        engine.admit(one)
    events: dict[Job, list[EngineEvent]] = {one: [] for one in jobs}
    for _ in range(2000):
        for event in engine.step():
            events[event.job].append(event)
        if all(heard and isinstance(heard[-1], Finished | Failed) for heard in events.values()):
            return events
    raise AssertionError("the jobs never end")


def tokens(events: Sequence[EngineEvent]) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


class Appended:
    """Watches the slices of each generator, and fails those that a test wants to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slices: list[int] = []
        self.generators: list[Generator] = []
        self.fail_at: dict[int, Exception] = {}
        append = Generator.append

        def watched(generator: Generator, ids: npt.NDArray[np.int32]) -> None:
            self.slices.append(len(ids))
            if generator not in self.generators:
                self.generators.append(generator)
            if len(ids) in self.fail_at:
                raise self.fail_at[len(ids)]
            append(generator, ids)

        monkeypatch.setattr(Generator, "append", watched)
