"""The driver: what a request receives, whatever the engine or the text does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.text_stream import TextStream
from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.api import EngineLost, Job, Refused, Sampling
from foundry_runtime.engine.driver import Broken, Delivery, Delta, Done, Driver
from foundry_runtime.engine.scripted import Script, ScriptedEngine, echo

BYTES = [bytes([value]) for value in range(256)]


def job(prompt: str | bytes = "hello", max_tokens: int = 100) -> Job:
    data = prompt.encode() if isinstance(prompt, str) else prompt
    return Job(prompt=list(data), max_tokens=max_tokens, sampling=Sampling())


def text(*stops: str) -> TextStream:
    return TextStream(BYTES, stops)


class Desk:
    """A driver over a scripted engine, and an inbox for each job."""

    def __init__(self, engine: ScriptedEngine | None = None) -> None:
        self.engine = engine or ScriptedEngine()
        self.driver = Driver(self.engine)

    def submit(self, new: Job, stream: TextStream | None = None) -> list[Delivery]:
        inbox: list[Delivery] = []
        self.driver.submit(new, stream or text(), inbox.append)
        return inbox

    def run(self) -> None:
        for _ in range(1000):
            if not self.driver.busy:
                return
            self.driver.step()
        raise AssertionError("the jobs never end")


def joined(inbox: list[Delivery]) -> str:
    return "".join(one.text for one in inbox if isinstance(one, Delta))


def done(reason: str, prompt_tokens: int, completion_tokens: int) -> Done:
    assert reason in ("stop", "length")
    return Done(
        reason="stop" if reason == "stop" else "length",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=0,
    )


def test_a_job_is_its_text_token_by_token_and_its_end() -> None:
    desk = Desk()
    inbox = desk.submit(job("hi"))
    desk.run()
    assert inbox == [Delta(text="h", tokens=(104,)), Delta(text="i", tokens=(105,)), done("stop", 2, 2)]


def test_the_end_by_length_counts_the_allowed_tokens() -> None:
    desk = Desk()
    inbox = desk.submit(job("hello", max_tokens=3))
    desk.run()
    assert (joined(inbox), inbox[-1]) == ("hel", done("length", 5, 3))


def test_a_character_over_several_tokens_comes_whole_with_all_its_tokens() -> None:
    desk = Desk()
    inbox = desk.submit(job("aé"))
    desk.run()
    assert inbox == [
        Delta(text="a", tokens=(97,)),
        Delta(text="é", tokens=(0xC3, 0xA9)),
        done("stop", 3, 3),
    ]


def test_what_is_held_back_at_the_end_comes_with_the_last_delta() -> None:
    desk = Desk()
    inbox = desk.submit(job("xSTO"), text("STOP"))
    cut = desk.submit(job(b"y\xc3"))
    desk.run()
    assert inbox == [
        Delta(text="x", tokens=(120,)),
        Delta(text="STO", tokens=(83, 84, 79)),
        done("stop", 4, 4),
    ]
    assert cut == [Delta(text="y", tokens=(121,)), Delta(text="�", tokens=(0xC3,)), done("stop", 2, 2)]


def test_tokens_without_text_come_in_a_last_delta() -> None:
    table = dict(enumerate(BYTES)) | {300: b""}
    desk = Desk(ScriptedEngine(lambda _: [104, 300, 300]))
    inbox = desk.submit(job("?"), TextStream(table))
    desk.run()
    assert inbox == [Delta(text="h", tokens=(104,)), Delta(text="", tokens=(300, 300)), done("stop", 1, 3)]


def test_a_stop_sequence_ends_the_job_in_the_step_that_completes_it() -> None:
    desk = Desk()
    inbox = desk.submit(job("one two three"), text("two"))
    steps = 0
    while desk.driver.busy:
        desk.driver.step()
        steps += 1
    assert steps == len("one two")
    # Swallowed tokens count: they were computed. No delta shows them.
    assert (joined(inbox), inbox[-1]) == ("one ", done("stop", 13, 7))
    assert not desk.engine.step(), "the engine still has the job"


def test_a_stop_sequence_wins_over_the_length_it_is_completed_at() -> None:
    desk = Desk()
    inbox = desk.submit(job("abc", max_tokens=3), text("c"))
    desk.run()
    assert inbox[-1] == done("stop", 3, 3)


def test_a_cancelled_job_hears_nothing_more_and_the_others_go_on() -> None:
    desk = Desk()
    first, second = job("first"), job("second")
    cancelled, kept = desk.submit(first), desk.submit(second)
    desk.driver.step()
    before = list(cancelled)
    desk.driver.cancel(first)
    desk.driver.cancel(first)
    desk.run()
    desk.driver.cancel(second)
    assert cancelled == before
    assert joined(kept) == "second"


def test_a_refused_job_is_broken_at_once() -> None:
    desk = Desk(ScriptedEngine(context_length=10))
    (broken,) = desk.submit(job("hello", max_tokens=6))
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, Refused)
    assert broken.error.code == "context_length_exceeded"
    assert str(broken.error) == (
        "the prompt has 5 tokens and max_tokens is 6: together they exceed the model's context of 10 tokens"
    )
    assert not desk.driver.busy


def test_a_job_submitted_twice_is_broken_and_the_first_goes_on() -> None:
    desk = Desk()
    twice = job("hi")
    first, second = desk.submit(twice), desk.submit(twice)
    desk.run()
    assert joined(first) == "hi"
    (broken,) = second
    assert isinstance(broken, Broken)
    assert str(broken.error) == "this job is running already: make a new one"


def test_a_failing_step_breaks_exactly_the_jobs_in_it() -> None:
    error = MemoryError("no room")
    desk = Desk(ScriptedEngine(fail_at={3: error}))
    first, second = desk.submit(job("first")), desk.submit(job("second"))
    for _ in range(3):
        desk.driver.step()
    assert first[-1] == second[-1] == Broken(error=error)
    assert not desk.driver.busy
    later = desk.submit(job("later"))
    desk.run()
    assert joined(later) == "later"


def failing_script(prompt: Sequence[int]) -> Iterator[int]:
    yield from prompt
    if prompt[0] == ord("!"):
        raise ValueError("a broken script")


def test_a_job_that_fails_fails_alone() -> None:
    desk = Desk(ScriptedEngine(failing_script))
    bad, good = desk.submit(job("!a")), desk.submit(job("good"))
    desk.run()
    assert (joined(bad), joined(good)) == ("!a", "good")
    assert isinstance(bad[-1], Broken)
    assert str(bad[-1].error) == "a broken script"
    assert good[-1] == done("stop", 4, 4)


def test_a_text_that_fails_breaks_its_job_alone() -> None:
    desk = Desk(ScriptedEngine(lambda prompt: [*prompt, 999]))
    bad, good = desk.submit(job("a")), desk.submit(job("b"), TextStream(dict(enumerate(BYTES)) | {999: b"!"}))
    desk.run()
    assert isinstance(bad[-1], Broken)
    assert isinstance(bad[-1].error, LocalProtocolError)
    assert (joined(bad), joined(good)) == ("a", "b!")


def test_a_lost_engine_breaks_all_jobs_and_all_later_ones() -> None:
    lost = EngineLost("pulled the plug")
    desk = Desk(ScriptedEngine(fail_at={2: lost}))
    first, second = desk.submit(job("first")), desk.submit(job("second"))
    desk.run()
    assert first[-1] == second[-1] == Broken(error=lost)
    assert desk.submit(job("later")) == [Broken(error=lost)]
    assert not desk.driver.busy


@pytest.mark.parametrize("error", [EngineLost("gone"), ValueError("not allowed")], ids=["lost", "any"])
def test_an_engine_that_cannot_cancel_is_lost(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    first, second = job("first"), job("second")
    cancelled, other = desk.submit(first), desk.submit(second)

    def cancel(_: Job) -> None:
        raise error

    monkeypatch.setattr(desk.engine, "cancel", cancel)
    desk.driver.cancel(first)
    assert cancelled == []
    (broken,) = other
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, EngineLost)
    expected = "gone" if isinstance(error, EngineLost) else "the engine could not cancel a job: not allowed"
    assert str(broken.error) == expected
    assert desk.submit(job("later")) == [broken]


@pytest.mark.parametrize("error", [EngineLost("gone"), RuntimeError("odd")], ids=["lost", "any"])
def test_an_admission_that_fails_breaks_the_job(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    running = desk.submit(job("running"))

    def admit(_: Job) -> None:
        raise error

    monkeypatch.setattr(desk.engine, "admit", admit)
    assert desk.submit(job("new")) == [Broken(error=error)]
    assert running == ([Broken(error=error)] if isinstance(error, EngineLost) else [])


def test_a_driver_without_jobs_does_not_step() -> None:
    desk = Desk()
    desk.driver.step()
    assert desk.engine.counters.steps == 0


SCRIPTS: list[Script] = [echo, failing_script]


@settings(deadline=None, max_examples=150)
@given(
    prompts=st.lists(st.text("ab!é", min_size=1, max_size=12), min_size=1, max_size=5),
    stops=st.lists(st.text("ab", min_size=1, max_size=3), max_size=2),
    max_tokens=st.integers(1, 15),
    faults=st.dictionaries(
        st.integers(1, 20), st.sampled_from([RuntimeError("x"), EngineLost("y")]), max_size=2
    ),
    script=st.sampled_from(SCRIPTS),
)
def test_each_job_gets_exactly_one_end_and_it_is_the_last(
    prompts: list[str], stops: list[str], max_tokens: int, faults: dict[int, Exception], script: Script
) -> None:
    desk = Desk(ScriptedEngine(script, prefill_slice=3, fail_at=faults))
    inboxes = [desk.submit(job(prompt, max_tokens), text(*stops)) for prompt in prompts]
    desk.run()
    for inbox in inboxes:
        ends = [one for one in inbox if isinstance(one, Done | Broken)]
        assert ends == inbox[-1:]
        told = sum(len(one.tokens) for one in inbox if isinstance(one, Delta))
        if isinstance(ends[0], Done):
            assert told <= ends[0].completion_tokens <= max_tokens
        assert not any(stop in joined(inbox) for stop in stops)
