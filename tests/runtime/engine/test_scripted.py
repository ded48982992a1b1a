"""The scripted engine does what it is told, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

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


@pytest.mark.parametrize(
    ("asked", "message", "param", "code"),
    [
        (job(), "the prompt has no tokens: expected at least one", None, None),
        (job(1, -1), "prompt[1]: expected a token id below 50, got -1", None, None),
        (job(1, 2, 50), "prompt[2]: expected a token id below 50, got 50", None, None),
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
        (
            Job(prompt=[1], max_tokens=1, sampling=Sampling(top_k=-1)),
            "top_k: expected at least 0, got -1",
            "top_k",
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
