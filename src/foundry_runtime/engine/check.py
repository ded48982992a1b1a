"""The contract of an engine as a test: whoever writes one calls `check_engine` with its factory.

Knows: what `api.py` promises, law by law. Refuses to know: any test framework, and what an engine says.

A law that is broken raises `AssertionError` with a sentence about what was expected and what came.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from attrs import define, field, frozen

from foundry_runtime.engine.api import (
    Counters,
    Engine,
    EngineEvent,
    Failed,
    Finished,
    FinishReason,
    Job,
    Refused,
    Sampling,
    Started,
    Token,
)

__all__ = ["PROMPTS", "check_engine"]

PROMPTS: Final[Sequence[Sequence[int]]] = (
    (3,),
    (5, 6, 7, 8) * 4,
    tuple(range(2, 13)) * 9,
    (4, 9) * 120,
    array("i", range(2, 35)),
    (11, 12),
)
"""Of lengths about which engines make mistakes: one token, a whole slice, many slices and a rest."""

_GREEDY: Final = Sampling(temperature=0.0)


def check_engine(
    factory: Callable[[], Engine], *, prompts: Sequence[Sequence[int]] = PROMPTS, max_tokens: int = 12
) -> None:
    """Hold an engine to its contract.

    Args:
        factory: Makes the engine, with no jobs in it; called once.
        prompts: At least three of different lengths, one of them long enough for several steps.
        max_tokens: How many tokens to generate for each.

    Raises:
        AssertionError: A law is broken.
    """
    engine = factory()
    try:
        solo = {
            number: _check_alone(engine, Job(prompt=prompt, max_tokens=max_tokens, sampling=_GREEDY))
            for number, prompt in enumerate(prompts)
        }
        for law in _LAWS:
            law(engine, _Expected(prompts, max_tokens, solo))
            _expect_idle(engine, law.__name__.strip("_").replace("_", " "))
        engine.admit(Job(prompt=prompts[0], max_tokens=max_tokens, sampling=_GREEDY))
    finally:
        engine.close()  # with an unfinished job
        engine.close()


@frozen
class _Expected:
    """The prompts, and what the engine said to each when it had no other job."""

    prompts: Sequence[Sequence[int]]
    max_tokens: int
    solo: Mapping[int, tuple[int, ...]]

    def job(self, number: int, sampling: Sampling = _GREEDY) -> Job:
        return Job(prompt=self.prompts[number], max_tokens=self.max_tokens, sampling=sampling)

    @property
    def longest(self) -> int:
        return max(self.solo, key=lambda number: len(self.prompts[number]))


@define(eq=False)
class _Heard:
    """One job's events, checked for their order as they come."""

    job: Job
    started: bool = False
    tokens: list[int] = field(factory=list)
    reason: FinishReason | None = None

    def take(self, event: EngineEvent) -> None:
        _expect(self.reason is None, f"an event after the last one of its job: {event}")
        if not isinstance(event, Started | Failed):
            _expect(self.started, f"expected Started first, got {event}")
        match event:
            case Started():
                _expect(not self.started, "Started came twice for one job")
                _expect(
                    0 <= event.cached_tokens < len(self.job.prompt),
                    f"{event.cached_tokens} tokens of a prompt of {len(self.job.prompt)} were cached",
                )
                self.started = True
            case Token():
                self.tokens.append(event.id)
                _expect(
                    len(self.tokens) <= self.job.max_tokens,
                    f"{len(self.tokens)} tokens for a job of max_tokens {self.job.max_tokens}",
                )
            case Finished():
                self.reason = event.reason
                full = len(self.tokens) == self.job.max_tokens
                _expect(
                    event.reason == ("length" if full else "stop"),
                    f"{event.reason!r} after {len(self.tokens)} tokens of {self.job.max_tokens}",
                )
            case Failed():
                raise AssertionError(f"a job failed: {event.error!r}") from event.error


@define
class _Stage:
    """An engine with jobs in it: each step is checked."""

    engine: Engine
    heard: dict[Job, _Heard] = field(factory=dict)

    def admit(self, job: Job) -> _Heard:
        self.engine.admit(job)
        heard = self.heard[job] = _Heard(job)
        return heard

    def cancel(self, heard: _Heard) -> None:
        self.engine.cancel(heard.job)
        del self.heard[heard.job]

    def step(self) -> None:
        before = _totals(self.engine.counters)
        events = list(self.engine.step())
        after = _totals(self.engine.counters)
        _expect(
            all(new >= old for new, old in zip(after, before, strict=True)),
            f"a counter went back, from {before} to {after}",
        )
        _expect(sum(after[1:]) > sum(before[1:]), "a step with unfinished jobs computed nothing")
        for event in events:
            heard = self.heard.get(event.job)
            if heard is None:
                raise AssertionError(f"an event of a job that is not in the engine: {event}")
            heard.take(event)

    def run(self) -> None:
        """Step until all jobs have ended."""
        work = sum(len(job.prompt) + job.max_tokens + 1 for job in self.heard)
        while any(heard.reason is None for heard in self.heard.values()):
            _expect(work > 0, "more steps than there are tokens to compute")
            work -= 1
            self.step()


def _check_alone(engine: Engine, job: Job) -> tuple[int, ...]:
    stage = _Stage(engine)
    heard = stage.admit(job)
    before = _totals(engine.counters)
    stage.run()
    _, computed, generated = (new - old for new, old in zip(_totals(engine.counters), before, strict=True))
    _expect(computed <= len(job.prompt), f"{computed} tokens computed of a prompt of {len(job.prompt)}")
    drawn = len(heard.tokens) + (heard.reason == "stop")
    _expect(generated == drawn, f"generated_tokens grew by {generated}, but {drawn} tokens were drawn")
    return tuple(heard.tokens)


def _an_idle_step_gives_nothing(engine: Engine, _: _Expected) -> None:
    before = _totals(engine.counters)
    _expect_idle(engine, "no job")
    _expect(_totals(engine.counters)[1:] == before[1:], "a step without jobs computed tokens")


def _one_token_is_one_token(engine: Engine, expected: _Expected) -> None:
    for number, tokens in expected.solo.items():
        stage = _Stage(engine)
        heard = stage.admit(Job(prompt=expected.prompts[number], max_tokens=1, sampling=_GREEDY))
        stage.run()
        _expect_same(heard.tokens, tokens[:1], "a job of one token")


def _jobs_side_by_side_say_what_each_says_alone(engine: Engine, expected: _Expected) -> None:
    stage = _Stage(engine)
    heard = {}
    for number in expected.solo:
        heard[number] = stage.admit(expected.job(number))
        stage.step()
    stage.run()
    for number, tokens in expected.solo.items():
        _expect_same(heard[number].tokens, tokens, "a job among others")


def _many_jobs_all_end(engine: Engine, expected: _Expected) -> None:
    stage = _Stage(engine)
    heard = [stage.admit(expected.job(number % len(expected.solo))) for number in range(9)]
    stage.run()
    for number, one in enumerate(heard):
        _expect_same(one.tokens, expected.solo[number % len(expected.solo)], "one of nine jobs")


def _equal_seeds_draw_equally(engine: Engine, expected: _Expected) -> None:
    sampling = Sampling(temperature=1.3, top_p=0.95, seed=2**40 + 1)
    stage = _Stage(engine)
    first = stage.admit(expected.job(1, sampling))
    stage.run()
    second = stage.admit(expected.job(1, sampling))
    stage.admit(expected.job(2, Sampling(temperature=1.3, seed=5)))
    stage.run()
    _expect_same(second.tokens, first.tokens, "a job with the same seed")


def _a_cancelled_job_is_silent_and_the_others_are_not_touched(engine: Engine, expected: _Expected) -> None:
    longest = expected.longest
    other = min(expected.solo, key=lambda number: len(expected.prompts[number]))
    # Before any step, after the first (in prefill, for an engine that makes slices), and in decode.
    for moment in range(3):
        stage = _Stage(engine)
        heard, kept = stage.admit(expected.job(longest)), stage.admit(expected.job(other))
        if moment:
            stage.step()
        while moment == 2 and not heard.tokens and heard.reason is None:
            stage.step()
        stage.cancel(heard)
        stage.run()
        _expect_same(kept.tokens, expected.solo[other], "a job beside a cancelled one")


def _cancelling_what_is_not_there_does_nothing(engine: Engine, expected: _Expected) -> None:
    stage = _Stage(engine)
    engine.cancel(expected.job(0))
    ended, running = stage.admit(expected.job(0)), stage.admit(expected.job(1))
    while ended.reason is None:
        stage.step()
    engine.cancel(ended.job)
    engine.cancel(ended.job)
    stage.run()
    _expect_same(running.tokens, expected.solo[1], "a job beside needless cancels")


def _a_refused_job_leaves_nothing(engine: Engine, expected: _Expected) -> None:
    context = engine.context_length
    filler = expected.prompts[0][0]
    refused = _refusal(engine, Job(prompt=[filler] * context, max_tokens=1, sampling=_GREEDY))
    _expect(
        refused.code == "context_length_exceeded",
        f"expected code 'context_length_exceeded' for a prompt over the context, got {refused.code!r}",
    )
    _refusal(engine, Job(prompt=[filler], max_tokens=context, sampling=_GREEDY))
    _refusal(engine, Job(prompt=[], max_tokens=1, sampling=_GREEDY))
    _refusal(engine, Job(prompt=[filler], max_tokens=0, sampling=_GREEDY))
    _expect_idle(engine, "a refused job")
    fitting = Job(prompt=[filler] * (context - 1), max_tokens=1, sampling=_GREEDY)
    engine.admit(fitting)  # as long as the context: not refused
    engine.cancel(fitting)


_LAWS: Final[Sequence[Callable[[Engine, _Expected], None]]] = (
    _an_idle_step_gives_nothing,
    _one_token_is_one_token,
    _jobs_side_by_side_say_what_each_says_alone,
    _many_jobs_all_end,
    _equal_seeds_draw_equally,
    _a_cancelled_job_is_silent_and_the_others_are_not_touched,
    _cancelling_what_is_not_there_does_nothing,
    _a_refused_job_leaves_nothing,
)


def _refusal(engine: Engine, job: Job) -> Refused:
    try:
        engine.admit(job)
    except Refused as refused:
        _expect(bool(str(refused)), "a refusal without a text")
        return refused
    raise AssertionError(
        f"a prompt of {len(job.prompt)} tokens with max_tokens {job.max_tokens} was not refused by an engine "
        f"with a context of {engine.context_length}"
    )


def _totals(counters: Counters) -> tuple[int, int, int]:
    return counters.steps, counters.prompt_tokens, counters.generated_tokens


def _expect_idle(engine: Engine, after: str) -> None:
    events = list(engine.step())
    _expect(not events, f"a step without jobs, after {after}, gave {events}")


def _expect_same(tokens: Iterable[int], expected: Iterable[int], who: str) -> None:
    tokens, expected = list(tokens), list(expected)
    _expect(tokens == expected, f"{who} gave the tokens {tokens}, alone it gives {expected}")


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
