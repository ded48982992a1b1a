"""The scripted engine does what it is told, step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from attrs import evolve

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.api import (
    Counters,
    EngineEvent,
    EngineLost,
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

TOO_LONG = "the prompt has 1 tokens and max_tokens is 9: together they exceed the model's context of 9 tokens"


def job(*prompt: int, max_tokens: int = 10) -> Job:
    return Job(prompt=prompt, max_tokens=max_tokens, sampling=Sampling())


def test_it_keeps_the_contract() -> None:
    check_engine(ScriptedEngine)
    check_engine(lambda: ScriptedEngine(prefill_slice=1, context_length=300))


def test_it_echoes_unless_told_otherwise() -> None:
    engine = ScriptedEngine()
    asked = job(7, 8)
    engine.admit(asked)
    assert list(engine.step()) == [Started(job=asked), Token(job=asked, id=7)]
    assert list(engine.step()) == [Token(job=asked, id=8)]
    assert list(engine.step()) == [Finished(job=asked, reason="stop")]
    assert engine.counters == Counters(steps=3, prompt_tokens=2, generated_tokens=3)


def test_a_prompt_takes_a_step_for_each_slice() -> None:
    engine = ScriptedEngine(lambda _: [1], prefill_slice=2)
    asked = job(1, 2, 3, 4, 5)
    engine.admit(asked)
    assert [list(engine.step()) for _ in range(3)] == [
        [Started(job=asked)],
        [],
        [Token(job=asked, id=1)],
    ]
    assert engine.counters.prompt_tokens == 5


def test_one_job_prefills_while_others_decode() -> None:
    engine = ScriptedEngine(prefill_slice=2)
    first, second = job(1, 2), job(3, 4)
    engine.admit(first)
    engine.admit(second)
    assert list(engine.step()) == [Started(job=first), Token(job=first, id=1)]
    assert list(engine.step()) == [Started(job=second), Token(job=first, id=2), Token(job=second, id=3)]


def test_a_script_that_raises_fails_its_own_job() -> None:
    error = ValueError("forgot my lines")

    def script(prompt: Sequence[int]) -> Iterator[int]:
        yield prompt[0]
        if prompt[0] == 1:
            raise error

    engine = ScriptedEngine(script)
    bad, good = job(1), job(2)
    engine.admit(bad)
    engine.admit(good)
    events: list[EngineEvent] = []
    for _ in range(4):
        events += engine.step()
    assert events[-1] == Finished(job=good, reason="stop")
    assert Failed(job=bad, error=error) in events


def test_a_step_can_be_made_to_fail_with_all_its_jobs() -> None:
    error = OSError("a cosmic ray")
    engine = ScriptedEngine(fail_at={1: error})
    engine.admit(job(1))
    with pytest.raises(OSError) as caught:
        engine.step()
    assert caught.value is error
    assert engine.step() == ()
    engine.admit(job(1))
    assert engine.step()


def test_an_engine_can_be_made_to_be_lost() -> None:
    engine = ScriptedEngine(fail_at={1: EngineLost("pulled the plug")})
    engine.admit(job(1))
    for use in (engine.step, engine.step, lambda: engine.admit(job(2))):
        with pytest.raises(EngineLost) as caught:
            use()
        assert str(caught.value) == "pulled the plug"
    engine.close()


def test_a_closed_engine_is_lost() -> None:
    engine = ScriptedEngine()
    engine.close()
    with pytest.raises(EngineLost) as caught:
        engine.step()
    assert str(caught.value) == "the engine is closed"


def test_a_job_is_admitted_once() -> None:
    engine = ScriptedEngine()
    once = job(1)
    engine.admit(once)
    with pytest.raises(LocalProtocolError) as caught:
        engine.admit(once)
    assert str(caught.value) == "this job is in the engine already"


def said(engine: ScriptedEngine, asked: Job) -> tuple[list[int], str]:
    """The job's tokens, and why it ended."""
    engine.admit(asked)
    events: list[EngineEvent] = []
    while not events or not isinstance(events[-1], Finished):
        events += engine.step()
    return [event.id for event in events if isinstance(event, Token)], events[-1].reason


class Even:
    """A grammar of even ids without 0, so many of them and no more."""

    def __init__(self, most: int) -> None:
        self.left = most

    def begin(self) -> Even:
        return Even(self.left)

    def constrain(self, logits: npt.NDArray[np.float32]) -> None:
        logits[1::2] = -math.inf
        logits[0] = -math.inf

    def accept(self, token: int) -> None:
        assert token % 2 == 0
        self.left -= 1

    @property
    def complete(self) -> bool:
        return self.left == 0


def test_where_a_grammar_forbids_the_script_the_lowest_id_that_it_allows_is_said() -> None:
    engine = ScriptedEngine(lambda _: [4, 5, 6], vocabulary=50)
    obedient = evolve(job(1), grammar=Even(4))
    assert said(engine, obedient) == ([4, 2, 6, 2], "stop")
    assert said(engine, evolve(obedient, max_tokens=3)) == ([4, 2, 6], "length")
    assert said(engine, evolve(obedient, grammar=Even(0))) == ([], "stop")


def test_a_script_that_is_said_prefers_the_first_end_token() -> None:
    engine = ScriptedEngine(lambda _: [4, 6], vocabulary=50, end_ids=(40, 2), context_length=99)
    assert said(engine, evolve(job(1), grammar=Even(9))) == ([4, 6], "stop")
    endless = Sampling(logit_bias={40: -100.0, 2: -100.0})
    assert said(engine, evolve(job(1), grammar=Even(9), sampling=endless)) == ([4, 6, *[4] * 7], "stop")
    assert said(engine, job(1)) == ([4, 6], "stop")
    assert said(ScriptedEngine(lambda _: [4, 2, 6], end_ids=[2]), job(1)) == ([4], "stop")


def test_the_logprobs_of_a_script_can_be_computed_by_hand() -> None:
    engine = ScriptedEngine(lambda _: [3], vocabulary=5)
    asked = evolve(job(1), logprobs=3)
    engine.admit(asked)
    token = next(event for event in engine.step() if isinstance(event, Token))
    logits = [0.0, -1 / 1024, -2 / 1024, 10.0, -4 / 1024]
    whole = math.log(sum(math.exp(logit) for logit in logits))
    assert token.logprobs is not None
    assert token.logprobs.logprob == pytest.approx(10 - whole)
    assert [token_id for token_id, _ in token.logprobs.top] == [3, 0, 1]
    assert [logprob for _, logprob in token.logprobs.top] == pytest.approx(
        [logits[token_id] - whole for token_id in (3, 0, 1)]
    )
    assert engine.step() == [Finished(job=asked, reason="stop")]


def test_a_script_gives_way_to_bias_and_penalties_and_to_no_temperature() -> None:
    engine = ScriptedEngine(lambda _: [7] * 9, vocabulary=50, context_length=99)
    biased = evolve(job(1), sampling=Sampling(temperature=2.0, logit_bias={9: 50.0}))
    assert said(engine, biased) == ([9] * 9, "stop")
    tired = evolve(job(1), sampling=Sampling(temperature=2.0, frequency_penalty=2.0, presence_penalty=1.0))
    assert said(engine, tired) == ([7, 7, 7, 7, 7, 0, 1, 2, 3], "stop")


def test_a_script_that_leaves_the_vocabulary_fails_where_there_are_logits() -> None:
    engine = ScriptedEngine(lambda _: [50], vocabulary=50)
    engine.admit(evolve(job(1), logprobs=0))
    failed = engine.step()[-1]
    assert isinstance(failed, Failed)
    assert str(failed.error) == "the script says 50: expected an id below 50"


NONSENSE = [
    (Sampling(top_k=-1), "top_k", "expected at least 0, got -1"),
    (Sampling(min_p=1.01), "min_p", "expected a number from 0 to 1, got 1.01"),
    (Sampling(min_p=math.nan), "min_p", "expected a number from 0 to 1, got nan"),
    (Sampling(repetition_penalty=0.0), "repetition_penalty", "expected a number from 0.1 to 10, got 0.0"),
    (Sampling(presence_penalty=2.5), "presence_penalty", "expected a number from -2 to 2, got 2.5"),
    (Sampling(frequency_penalty=-3.0), "frequency_penalty", "expected a number from -2 to 2, got -3.0"),
    (Sampling(logit_bias={7: 1.0, 50: 1.0}), "logit_bias.50", "expected a token id below 50, got 50"),
    (Sampling(logit_bias={-1: 1.0}), "logit_bias.-1", "expected a token id below 50, got -1"),
    (Sampling(logit_bias={3: -100.5}), "logit_bias.3", "expected a number from -100 to 100, got -100.5"),
    (Sampling(logit_bias={3: math.nan}), "logit_bias.3", "expected a number from -100 to 100, got nan"),
]
"""A sampling, the parameter that is to blame, and what is said of it."""


@pytest.mark.parametrize(
    ("asked", "message", "param", "code"),
    [
        (job(), "the prompt has no tokens: expected at least one", None, None),
        (job(1, -1), "prompt[1]: expected a token id below 50, got -1", "prompt[1]", None),
        (job(1, 2, 50), "prompt[2]: expected a token id below 50, got 50", "prompt[2]", None),
        (job(1, max_tokens=0), "max_tokens: expected at least 1, got 0", "max_tokens", None),
        (
            job(1, max_tokens=9),
            TOO_LONG,
            None,
            "context_length_exceeded",
        ),
        (
            Job(prompt=[1], max_tokens=1, sampling=Sampling(temperature=-0.5)),
            "temperature: expected a finite number of at least 0, got -0.5",
            "temperature",
            None,
        ),
        (
            Job(prompt=[1], max_tokens=1, sampling=Sampling(temperature=float("nan"))),
            "temperature: expected a finite number of at least 0, got nan",
            "temperature",
            None,
        ),
        (
            Job(prompt=[1], max_tokens=1, sampling=Sampling(top_p=1.5)),
            "top_p: expected a number from 0 to 1, got 1.5",
            "top_p",
            None,
        ),
        *(
            (Job(prompt=[1], max_tokens=1, sampling=sampling), f"{param}: {message}", param, None)
            for sampling, param, message in NONSENSE
        ),
        (
            Job(prompt=[1], max_tokens=1, sampling=Sampling(), logprobs=-1),
            "logprobs: expected at least 0, got -1",
            "logprobs",
            None,
        ),
    ],
)
def test_what_can_never_run_is_refused(asked: Job, message: str, param: str | None, code: str | None) -> None:
    engine = ScriptedEngine(context_length=9, vocabulary=50)
    with pytest.raises(Refused) as caught:
        engine.admit(asked)
    assert (str(caught.value), caught.value.param, caught.value.code) == (message, param, code)
    assert engine.step() == ()
