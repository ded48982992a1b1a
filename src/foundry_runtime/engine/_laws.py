"""The laws of an engine: order, independence, cancelling, refusals.

Knows: what `api.py` promises of any job. Refuses to know: what a job may ask for beside tokens
(`_laws_of_choosing.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from foundry_runtime.engine._stage import (
    GREEDY,
    Expected,
    Stage,
    expect,
    expect_idle,
    expect_same,
    refusal,
    totals,
)
from foundry_runtime.engine.api import Engine, Job, Sampling

__all__ = ["LAWS", "Law"]

Law = Callable[[Engine, Expected], None]


def _an_idle_step_gives_nothing(engine: Engine, _: Expected) -> None:
    before = totals(engine.counters)
    expect_idle(engine, "no job")
    expect(totals(engine.counters)[1:] == before[1:], "a step without jobs computed tokens")


def _one_token_is_one_token(engine: Engine, expected: Expected) -> None:
    for number, tokens in expected.solo.items():
        stage = Stage(engine)
        heard = stage.admit(Job(prompt=expected.prompts[number], max_tokens=1, sampling=GREEDY))
        stage.run()
        expect_same(heard.tokens, tokens[:1], "a job of one token")


def _jobs_side_by_side_say_what_each_says_alone(engine: Engine, expected: Expected) -> None:
    stage = Stage(engine)
    heard = {}
    for number in expected.solo:
        heard[number] = stage.admit(expected.job(number))
        stage.step()
    stage.run()
    for number, tokens in expected.solo.items():
        expect_same(heard[number].tokens, tokens, "a job among others")


def _many_jobs_all_end(engine: Engine, expected: Expected) -> None:
    stage = Stage(engine)
    heard = [stage.admit(expected.job(number % len(expected.solo))) for number in range(9)]
    stage.run()
    for number, one in enumerate(heard):
        expect_same(one.tokens, expected.solo[number % len(expected.solo)], "one of nine jobs")


def _equal_seeds_draw_equally(engine: Engine, expected: Expected) -> None:
    sampling = Sampling(temperature=1.3, top_p=0.95, seed=2**40 + 1)
    stage = Stage(engine)
    first = stage.admit(expected.job(1, sampling))
    stage.run()
    second = stage.admit(expected.job(1, sampling))
    stage.admit(expected.job(2, Sampling(temperature=1.3, seed=5)))
    stage.run()
    expect_same(second.tokens, first.tokens, "a job with the same seed")


def _a_cancelled_job_is_silent_and_the_others_are_not_touched(engine: Engine, expected: Expected) -> None:
    longest = expected.longest
    other = min(expected.solo, key=lambda number: len(expected.prompts[number]))
    # Before any step, after the first (in prefill, for an engine that makes slices), and in decode.
    for moment in range(3):
        stage = Stage(engine)
        heard, kept = stage.admit(expected.job(longest)), stage.admit(expected.job(other))
        if moment:
            stage.step()
        while moment == 2 and not heard.tokens and heard.reason is None:
            stage.step()
        stage.cancel(heard)
        stage.run()
        expect_same(kept.tokens, expected.solo[other], "a job beside a cancelled one")


def _cancelling_what_is_not_there_does_nothing(engine: Engine, expected: Expected) -> None:
    stage = Stage(engine)
    engine.cancel(expected.job(0))
    ended, running = stage.admit(expected.job(0)), stage.admit(expected.job(1))
    while ended.reason is None:
        stage.step()
    engine.cancel(ended.job)
    engine.cancel(ended.job)
    stage.run()
    expect_same(running.tokens, expected.solo[1], "a job beside needless cancels")


_NONSENSE: Final = (
    Sampling(temperature=-1.0),
    Sampling(temperature=math.nan),
    Sampling(top_p=1.5),
    Sampling(top_k=-1),
    Sampling(min_p=-0.5),
    Sampling(repetition_penalty=0.0),
    Sampling(presence_penalty=2.5),
    Sampling(frequency_penalty=-2.5),
    Sampling(logit_bias={-1: 1.0}),
    Sampling(logit_bias={2**31 - 1: 1.0}),
)


def _a_refused_job_leaves_nothing(engine: Engine, expected: Expected) -> None:
    context = engine.context_length
    filler = expected.prompts[0][0]
    refused = refusal(engine, Job(prompt=[filler] * context, max_tokens=1, sampling=GREEDY))
    expect(
        refused.code == "context_length_exceeded",
        f"expected code 'context_length_exceeded' for a prompt over the context, got {refused.code!r}",
    )
    refusal(engine, Job(prompt=[filler], max_tokens=context, sampling=GREEDY))
    refusal(engine, Job(prompt=[], max_tokens=1, sampling=GREEDY))
    refusal(engine, Job(prompt=[filler], max_tokens=0, sampling=GREEDY))
    for sampling in _NONSENSE:
        param = refusal(engine, Job(prompt=[filler], max_tokens=1, sampling=sampling)).param
        expect(param is not None, f"a refusal of {sampling} that names no parameter")
    expect_idle(engine, "a refused job")
    fitting = Job(prompt=[filler] * (context - 1), max_tokens=1, sampling=GREEDY)
    engine.admit(fitting)  # as long as the context: not refused
    engine.cancel(fitting)


LAWS: Final[Sequence[Law]] = (
    _an_idle_step_gives_nothing,
    _one_token_is_one_token,
    _jobs_side_by_side_say_what_each_says_alone,
    _many_jobs_all_end,
    _equal_seeds_draw_equally,
    _a_cancelled_job_is_silent_and_the_others_are_not_touched,
    _cancelling_what_is_not_there_does_nothing,
    _a_refused_job_leaves_nothing,
)
