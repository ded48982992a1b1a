"""The contract test notices each law that an engine breaks."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from attrs import evolve

from foundry_runtime.engine.api import (
    Counters,
    EngineEvent,
    Failed,
    Finished,
    Job,
    Refused,
    Sampling,
    Started,
    Token,
)
from foundry_runtime.engine.check import check_engine
from foundry_runtime.engine.scripted import ScriptedEngine


class Faulty:
    """The scripted engine, with the events of each step altered."""

    def __init__(self, alter: Callable[[Faulty, list[EngineEvent]], list[EngineEvent]]) -> None:
        self.engine = ScriptedEngine(prefill_slice=16)
        self.context_length = self.engine.context_length
        self.counters = self.engine.counters
        self.admit = self.engine.admit
        self.cancel = self.engine.cancel
        self.close = self.engine.close
        self.alter = alter

    def step(self) -> Sequence[EngineEvent]:
        return self.alter(self, list(self.engine.step()))


def unchanged(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return events


def no_start(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return [event for event in events if not isinstance(event, Started)]


def double_start(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return [event for event in events for _ in range(1 + isinstance(event, Started))]


def cached_all(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return [
        evolve(event, cached_tokens=len(event.job.prompt)) if isinstance(event, Started) else event
        for event in events
    ]


def goes_on_after_the_end(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return events + [Token(job=event.job, id=1) for event in events if isinstance(event, Finished)]


def too_many(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return [event for event in events for _ in range(13 if isinstance(event, Token) else 1)]


def uncounted(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return [event for event in events for _ in range(1 + isinstance(event, Token))]


def other_reason(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return [evolve(event, reason="length") if isinstance(event, Finished) else event for event in events]


def fails(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return [
        Failed(job=event.job, error=OSError("tired")) if isinstance(event, Finished) else event
        for event in events
    ]


def influenced_by_others(faulty: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    crowded = len(faulty.engine._running) > 1
    return [evolve(event, id=99) if crowded and isinstance(event, Token) else event for event in events]


def at_random(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    return [
        evolve(event, id=random.getrandbits(40))
        if isinstance(event, Token) and event.job.sampling.temperature
        else event
        for event in events
    ]


def counts_back(faulty: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    faulty.counters.prompt_tokens -= faulty.counters.steps > 5
    return events


def talks_when_idle(faulty: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
    ghost = Job(prompt=[1], max_tokens=1, sampling=Sampling())
    return events if events or faulty.engine._running else [Started(job=ghost)]


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (no_start, "expected Started first, got Token"),
        (double_start, "Started came twice for one job"),
        (cached_all, "1 tokens of a prompt of 1 were cached"),
        (goes_on_after_the_end, "an event after the last one of its job: Token"),
        (too_many, "13 tokens for a job of max_tokens 12"),
        (uncounted, "generated_tokens grew by 2, but 3 tokens were drawn"),
        (other_reason, "'length' after 1 tokens of 12"),
        (fails, "a job failed: OSError('tired')"),
        (influenced_by_others, "a job among others gave the tokens [5, 99"),
        (at_random, "a job with the same seed gave the tokens ["),
        (counts_back, "a counter went back, from ("),
        (talks_when_idle, "a step without jobs, after no job, gave [Started"),
    ],
)
def test_a_broken_law_is_named(
    alter: Callable[[Faulty, list[EngineEvent]], list[EngineEvent]], message: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        check_engine(lambda: Faulty(alter))
    assert str(caught.value).startswith(message), str(caught.value)


def test_an_engine_that_keeps_the_laws_passes() -> None:
    check_engine(lambda: Faulty(unchanged))


class Deaf(Faulty):
    """Goes on with cancelled jobs."""

    def __init__(self) -> None:
        super().__init__(unchanged)
        self.cancel = lambda job: None


class Generous(Faulty):
    """Takes any job, cut to what fits."""

    def __init__(self) -> None:
        super().__init__(unchanged)
        self.admit = lambda job: self.engine.admit(evolve(job, prompt=job.prompt[:100]))


class Curt(Faulty):
    """Refuses without telling machines why."""

    def __init__(self) -> None:
        super().__init__(unchanged)
        self.admit = self._admit

    def _admit(self, job: Job) -> None:
        try:
            self.engine.admit(job)
        except Refused:
            raise Refused("no") from None


class Idle(Faulty):
    """Never computes anything."""

    def __init__(self) -> None:
        super().__init__(unchanged)
        self.counters = Counters()

    def step(self) -> Sequence[EngineEvent]:
        return ()


class Uncounted(Faulty):
    """Computes the prompts twice."""

    def __init__(self) -> None:
        super().__init__(self._count)

    def _count(self, _: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
        self.counters.prompt_tokens += 1
        return events


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (Deaf, "an event of a job that is not in the engine: "),
        (Generous, "an event of a job that is not in the engine: "),
        (Curt, "expected code 'context_length_exceeded' for a prompt over the context, got None"),
        (Idle, "a step with unfinished jobs computed nothing"),
        (Uncounted, "3 tokens computed of a prompt of 1"),
    ],
)
def test_an_engine_that_cannot_hear_or_count_is_noticed(factory: Callable[[], Faulty], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_engine(factory)
    assert str(caught.value).startswith(message), str(caught.value)


def test_an_engine_is_closed_also_when_it_fails() -> None:
    engines: list[Faulty] = []

    def factory() -> Faulty:
        engines.append(Faulty(no_start))
        return engines[0]

    with pytest.raises(AssertionError):
        check_engine(factory)
    assert engines[0].engine._lost is not None
