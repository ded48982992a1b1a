"""What the laws of an engine stand on: an engine with jobs in it, and each event checked as it comes.

Knows: what holds at any time: the order of events, the counters, what a token says of its probability.
Refuses to know: what a single law is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, assert_never

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
    TokenLogprobs,
)

__all__ = [
    "GREEDY",
    "Expected",
    "Heard",
    "Stage",
    "check_alone",
    "expect",
    "expect_idle",
    "expect_same",
    "refusal",
    "totals",
]

GREEDY: Final = Sampling(temperature=0.0)


@frozen
class Expected:
    """The prompts, and what the engine said to each when it had no other job."""

    prompts: Sequence[Sequence[int]]
    max_tokens: int
    solo: Mapping[int, tuple[int, ...]]

    def job(self, number: int, sampling: Sampling = GREEDY, *, logprobs: int | None = None) -> Job:
        return Job(
            prompt=self.prompts[number], max_tokens=self.max_tokens, sampling=sampling, logprobs=logprobs
        )

    @property
    def longest(self) -> int:
        return max(self.solo, key=lambda number: len(self.prompts[number]))


@define(eq=False)
class Heard:
    """One job's events, checked for their order as they come."""

    job: Job
    started: bool = False
    tokens: list[int] = field(factory=list)
    logprobs: list[TokenLogprobs] = field(factory=list)
    reason: FinishReason | None = None

    def take(self, event: EngineEvent) -> None:
        expect(self.reason is None, f"an event after the last one of its job: {event}")
        if not isinstance(event, Started | Failed):
            expect(self.started, f"expected Started first, got {event}")
        match event:
            case Started():
                expect(not self.started, "Started came twice for one job")
                expect(
                    0 <= event.cached_tokens <= len(self.job.prompt),
                    f"{event.cached_tokens} tokens of a prompt of {len(self.job.prompt)} were cached",
                )
                self.started = True
            case Token():
                self.tokens.append(event.id)
                expect(
                    len(self.tokens) <= self.job.max_tokens,
                    f"{len(self.tokens)} tokens for a job of max_tokens {self.job.max_tokens}",
                )
                self._take_logprobs(event.logprobs)
            case Finished():
                self.reason = event.reason
                full = len(self.tokens) == self.job.max_tokens
                expect(
                    # A grammar may have come to its end with the last token that was allowed.
                    event.reason == ("length" if full else "stop") or (full and self.job.grammar is not None),
                    f"{event.reason!r} after {len(self.tokens)} tokens of {self.job.max_tokens}",
                )
            case Failed():
                raise AssertionError(f"a job failed: {event.error!r}") from event.error
            case _:
                assert_never(event)

    def _take_logprobs(self, logprobs: TokenLogprobs | None) -> None:
        count = self.job.logprobs
        if count is None or logprobs is None:
            expect(logprobs is None and count is None, f"a job of logprobs {count} was told {logprobs}")
            return
        self.logprobs.append(logprobs)
        values = [logprob for _, logprob in logprobs.top]
        expect(logprobs.logprob < 1e-4, f"{logprobs.logprob} is no probability's logarithm")
        expect(len(values) <= count, f"{len(values)} likeliest tokens where {count} were asked for")
        expect(values == sorted(values, reverse=True), f"the likeliest tokens out of order: {logprobs.top}")
        expect(len(dict(logprobs.top)) == len(values), f"a token twice among the likeliest: {logprobs.top}")
        whole = sum(math.exp(value) for value in values)
        expect(whole < 1 + 1e-4, f"the likeliest tokens have a probability of {whole} together")


@define
class Stage:
    """An engine with jobs in it: each step is checked."""

    engine: Engine
    heard: dict[Job, Heard] = field(factory=dict)

    def try_admit(self, job: Job) -> Heard | None:
        """Admit a job for which not every engine is made: it may refuse it, but then says for what."""
        try:
            return self.admit(job)
        except Refused as refused:
            expect(refused.param is not None, f"a refusal that names no parameter: {refused}")
            return None

    def admit(self, job: Job) -> Heard:
        self.engine.admit(job)
        heard = self.heard[job] = Heard(job)
        return heard

    def cancel(self, heard: Heard) -> None:
        self.engine.cancel(heard.job)
        del self.heard[heard.job]

    def step(self) -> None:
        before = totals(self.engine.counters)
        events = list(self.engine.step())
        after = totals(self.engine.counters)
        expect(
            all(new >= old for new, old in zip(after, before, strict=True)),
            f"a counter went back, from {before} to {after}",
        )
        over = any(isinstance(event, Finished) for event in events)
        expect(over or sum(after[1:]) > sum(before[1:]), "a step with unfinished jobs computed nothing")
        for event in events:
            heard = self.heard.get(event.job)
            if heard is None:
                raise AssertionError(f"an event of a job that is not in the engine: {event}")
            heard.take(event)

    def run(self) -> None:
        """Step until all jobs have ended."""
        work = sum(len(job.prompt) + job.max_tokens + 1 for job in self.heard)
        while any(heard.reason is None for heard in self.heard.values()):
            expect(work > 0, "more steps than there are tokens to compute")
            work -= 1
            self.step()


def check_alone(engine: Engine, job: Job) -> tuple[int, ...]:
    stage = Stage(engine)
    heard = stage.admit(job)
    before = totals(engine.counters)
    stage.run()
    _, computed, generated = (new - old for new, old in zip(totals(engine.counters), before, strict=True))
    expect(computed <= len(job.prompt), f"{computed} tokens computed of a prompt of {len(job.prompt)}")
    drawn = len(heard.tokens) + (heard.reason == "stop")
    expect(generated == drawn, f"generated_tokens grew by {generated}, but {drawn} tokens were drawn")
    return tuple(heard.tokens)


def refusal(engine: Engine, job: Job) -> Refused:
    try:
        engine.admit(job)
    except Refused as refused:
        expect(bool(str(refused)), "a refusal without a text")
        return refused
    raise AssertionError(
        f"a prompt of {len(job.prompt)} tokens with max_tokens {job.max_tokens} was not refused by an engine "
        f"with a context of {engine.context_length}"
    )


def totals(counters: Counters) -> tuple[int, int, int]:
    return counters.steps, counters.prompt_tokens, counters.generated_tokens


def expect_idle(engine: Engine, after: str) -> None:
    events = list(engine.step())
    expect(not events, f"a step without jobs, after {after}, gave {events}")


def expect_same(tokens: Iterable[int], expected: Iterable[int], who: str) -> None:
    tokens, expected = list(tokens), list(expected)
    expect(tokens == expected, f"{who} gave the tokens {tokens}, alone it gives {expected}")


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
