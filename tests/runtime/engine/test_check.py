"""The contract test notices each law that an engine breaks."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

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
    TokenLogprobs,
)
from foundry_runtime.engine.check import check_engine
from foundry_runtime.engine.scripted import ScriptedEngine

Alter: TypeAlias = "Callable[[Faulty, list[EngineEvent]], list[EngineEvent]]"


class Faulty:
    """The scripted engine, with the events of each step altered."""

    def __init__(self, alter: Alter) -> None:
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
        evolve(event, cached_tokens=len(event.job.prompt) + 1) if isinstance(event, Started) else event
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
        (cached_all, "2 tokens of a prompt of 1 were cached"),
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
def test_a_broken_law_is_named(alter: Alter, message: str) -> None:
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


class Ignorant(Faulty):
    """Passes over some of what a job asks."""

    def __init__(self, simplify: Callable[[Job], Job]) -> None:
        super().__init__(self._as_asked)
        self.simplify = simplify
        self.simple: dict[Job, Job] = {}
        self.asked: dict[Job, Job] = {}
        self.admit = self._admit
        self.cancel = lambda job: self.engine.cancel(self.simple.get(job, job))

    def _admit(self, job: Job) -> None:
        self.engine.admit(job)  # which refuses what any engine refuses
        self.engine.cancel(job)
        simple = self.simple[job] = self.simplify(job)
        self.asked[simple] = job
        self.engine.admit(simple)

    def _as_asked(self, _: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
        return [evolve(event, job=self.asked[event.job]) for event in events]


def without(**sampling: Any) -> Callable[[Job], Job]:
    return lambda job: evolve(job, sampling=evolve(job.sampling, **sampling))


@pytest.mark.parametrize(
    ("simplify", "message"),
    [
        (lambda job: evolve(job, logprobs=None), "a job of logprobs 0 was told None"),
        (lambda job: evolve(job, logprobs=4), "a job of logprobs None was told TokenLogprobs"),
        (
            lambda job: evolve(job, logprobs=job.logprobs and job.logprobs + 1),
            "4 likeliest tokens where 3 were asked for",
        ),
        (without(logit_bias={}), "a bias of 100 for "),
        (
            without(presence_penalty=0.0, frequency_penalty=0.0),
            "4 was said after {4: 5, 9: 5}: the penalties leave it -11.5",
        ),
        (without(frequency_penalty=0.0), "4 was said after {4: 5, 9: 5}: the penalties leave it -11.5"),
        (
            lambda job: evolve(job, grammar=None),
            "[5, 6, 7, 8], 'length': a grammar of 4 tokens, of which 4 were allowed, expected 4, 'stop'",
        ),
    ],
)
def test_an_engine_that_passes_over_what_is_asked_is_noticed(
    simplify: Callable[[Job], Job], message: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        check_engine(lambda: Ignorant(simplify))
    assert str(caught.value).startswith(message), str(caught.value)


def altered_logprobs(logprobs: TokenLogprobs) -> Alter:
    def alter(_: Faulty, events: list[EngineEvent]) -> list[EngineEvent]:
        return [
            evolve(event, logprobs=logprobs) if isinstance(event, Token) and event.logprobs else event
            for event in events
        ]

    return alter


@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        (TokenLogprobs(logprob=0.5), "0.5 is no probability's logarithm"),
        (
            TokenLogprobs(logprob=-1.0, top=((1, -2.0), (2, -1.0))),
            "2 likeliest tokens where 0 were asked for",
        ),
    ],
)
def test_logprobs_that_cannot_be_are_noticed(logprobs: TokenLogprobs, message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_engine(lambda: Faulty(altered_logprobs(logprobs)))
    assert str(caught.value).startswith(message), str(caught.value)


def test_an_engine_may_refuse_what_it_cannot_do_but_must_say_what() -> None:
    def refusing(param: str | None) -> Faulty:
        engine = Faulty(unchanged)

        def admit(job: Job) -> None:
            engine.engine.admit(job)
            if (
                job.logprobs is not None
                or job.grammar is not None
                or not job.sampling.takes_logits_as_they_are
            ):
                engine.engine.cancel(job)
                raise Refused("not here", param=param)

        engine.admit = admit
        return engine

    check_engine(lambda: refusing("logprobs"))
    with pytest.raises(AssertionError) as caught:
        check_engine(lambda: refusing(None))
    assert str(caught.value) == "a refusal that names no parameter: not here"


def test_an_engine_is_closed_also_when_it_fails() -> None:
    engines: list[Faulty] = []

    def factory() -> Faulty:
        engines.append(Faulty(no_start))
        return engines[0]

    with pytest.raises(AssertionError):
        check_engine(factory)
    assert engines[0].engine._lost is not None
