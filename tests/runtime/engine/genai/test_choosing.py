"""What the engine makes of logits: logprobs, penalties, bias, grammars; and choices of one prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from attrs import evolve

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.api import EngineEvent, Failed, Job, Sampling, Started, Token
from foundry_runtime.engine.genai.binding import GenaiError, Generator, Model, load_library
from foundry_runtime.engine.genai.engine import GenaiEngine
from foundry_runtime.engine.text.choosing import logprobs_of
from tests.runtime.engine.genai.running import GREEDY, Appended, job, run, tokens


@pytest.fixture
def engine(tiny_folder: Path) -> Iterator[GenaiEngine]:
    engine = GenaiEngine(tiny_folder, threads=1, max_kept=0)
    yield engine
    engine.close()


def logits_after(folder: Path, sequence: Sequence[int]) -> npt.NDArray[np.float32]:
    """The model's own logits, by the binding alone."""
    with Model(load_library(), folder, "{}") as model, Generator(model, max_length=512) as generator:
        generator.append(np.array(sequence, dtype=np.int32))
        return generator.logits()


def test_greedy_through_the_logits_is_the_native_choice(engine: GenaiEngine) -> None:
    native, told = job(50, 60), evolve(job(50, 60), logprobs=2)
    events = run(engine, native, told)
    assert tokens(events[native]) == tokens(events[told])


def test_logprobs_are_the_models_own(engine: GenaiEngine, tiny_folder: Path) -> None:
    asked = evolve(
        job(20, 3, Sampling(temperature=1.7, seed=4, repetition_penalty=1.5, presence_penalty=2.0)),
        logprobs=5,
    )
    events = run(engine, asked)[asked]
    sequence = list(asked.prompt)
    for event in events:
        if isinstance(event, Token):
            expected = logprobs_of(logits_after(tiny_folder, sequence), event.id, 5)
            assert event.logprobs is not None
            # One more token is computed by another kernel than the prompt: 8-bit weights round differently.
            assert event.logprobs.logprob == pytest.approx(expected.logprob, abs=0.3)
            assert len(event.logprobs.top) == 5
            sequence.append(event.id)
    assert len(sequence) == 23


def test_penalties_and_bias_decide_as_the_models_logits_say(engine: GenaiEngine, tiny_folder: Path) -> None:
    asked = job(40, 1, Sampling(temperature=0.0, repetition_penalty=3.0, logit_bias={7: 2.5, 9: -1.0}))
    logits = logits_after(tiny_folder, asked.prompt)
    seen = list(set(asked.prompt))
    logits[seen] = np.where(logits[seen] > 0, logits[seen] / 3, logits[seen] * 3)
    logits[7] += 2.5
    logits[9] -= 1.0
    assert tokens(run(engine, asked)[asked]) == [int(logits.argmax())]


class Broken:
    """A grammar that fails when it is begun, or when its job has come so far."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after

    def begin(self) -> Broken:
        if self.after is None:
            raise OSError("no such grammar")
        return Broken(self.after)

    def constrain(self, logits: npt.NDArray[np.float32]) -> None:
        if self.after == 0:
            raise OSError("out of derivations")

    def accept(self, token: int) -> None:
        assert self.after is not None
        self.after -= 1

    @property
    def complete(self) -> bool:
        return False


def test_a_grammar_that_fails_fails_its_own_job(engine: GenaiEngine) -> None:
    begun, later, kept = evolve(job(9), grammar=Broken()), evolve(job(10), grammar=Broken(3)), job(11)
    alone = job(11)
    expected = tokens(run(engine, alone)[alone])
    events = run(engine, begun, later, kept)
    assert [str(event.error) for event in events[begun] if isinstance(event, Failed)] == ["no such grammar"]
    assert isinstance(failed := events[later][-1], Failed)
    assert (str(failed.error), len(tokens(events[later]))) == ("out of derivations", 3)
    assert tokens(events[kept]) == expected


def choices(first: Job, *others: Sampling, max_tokens: int | None = None) -> list[Job]:
    """A job, and more of the very same prompt."""
    limit = max_tokens or first.max_tokens
    return [first, *(evolve(first, sampling=sampling, max_tokens=limit) for sampling in others)]


def started(events: Sequence[EngineEvent]) -> Started:
    (event,) = (event for event in events if isinstance(event, Started))
    return event


VARIOUS = [
    GREEDY,
    Sampling(temperature=1.5, seed=1),
    Sampling(temperature=1.5, seed=2, presence_penalty=1.0),
    GREEDY,
    Sampling(temperature=0.0, repetition_penalty=1.3),
]


@pytest.mark.parametrize("length", [1, 33, 150])
def test_the_choices_of_an_answer_have_their_prompt_computed_once_and_say_what_each_says_alone(
    tiny_folder: Path, length: int
) -> None:
    engine = GenaiEngine(tiny_folder, threads=1, max_kept=0, slice_seconds=0.0)
    alone = [evolve(job(length, 20, sampling), logprobs=2) for sampling in VARIOUS]
    expected = [run(engine, one)[one] for one in alone]
    before = engine.counters.prompt_tokens
    together = [evolve(one, logprobs=2) for one in choices(job(length, 20, VARIOUS[0]), *VARIOUS[1:])]
    together[0] = evolve(together[0], logprobs=None)  # the native search begins
    other = job(40, 30)
    events = run(engine, other, *together)
    assert engine.counters.prompt_tokens - before == length + 40
    assert [started(events[one]).cached_tokens for one in together] == [0, *[length] * 4]
    assert tokens(events[together[0]]) == tokens(expected[0])
    for choice, original in zip(together[1:], expected[1:], strict=True):
        assert [(event.id, event.logprobs) for event in events[choice] if isinstance(event, Token)] == [
            (event.id, event.logprobs) for event in original if isinstance(event, Token)
        ]
    assert len(tokens(events[other])) == 30
    engine.close()


def test_choices_have_one_kv_cache_and_the_next_goes_on_where_one_was_cancelled(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = GenaiEngine(tiny_folder, threads=1, max_kept=0, slice_seconds=0.0)
    alone = job(100, 8)
    expected = tokens(run(engine, alone)[alone])
    appended = Appended(monkeypatch)
    first, second, third = choices(job(100, 8), GREEDY, GREEDY)
    for one in (first, second, third):
        engine.admit(one)
    for _ in range(3):
        engine.step()
    engine.cancel(first)  # in the midst of its prompt
    engine.admit(late := evolve(second))
    events: list[EngineEvent] = []
    while not tokens([event for event in events if event.job is second]):
        events += engine.step()
    engine.cancel(second)  # in the midst of its answer
    for _ in range(30):
        events += engine.step()
    assert sum(appended.slices) == 100 + 2  # the prompt, and the first token of each that inherited it
    assert len(appended.generators) == 1
    assert [(event.job, event.cached_tokens) for event in events if isinstance(event, Started)] == [
        (second, 48),
        (third, 100),
        (late, 100),
    ]
    for one in (third, late):
        assert tokens([event for event in events if event.job is one]) == expected
    with pytest.raises(LocalProtocolError):
        appended.generators[0].pointer  # noqa: B018 - asking is the test
    engine.close()


def test_a_choice_that_needs_more_room_or_whose_model_cannot_go_back_computes_its_prompt(
    engine: GenaiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = run(engine, *(longer := choices(job(50, 4), GREEDY, max_tokens=9)))
    assert [started(events[one]).cached_tokens for one in longer] == [0, 0]
    assert len(tokens(events[longer[1]])) == 9

    def cannot(_: Generator, __: int) -> None:
        raise GenaiError("Rewind is not supported")

    monkeypatch.setattr(Generator, "rewind_to", cannot)
    events = run(engine, *(stuck := choices(job(50, 4), GREEDY)))
    assert [started(events[one]).cached_tokens for one in stuck] == [0, 0]
    assert tokens(events[stuck[0]]) == tokens(events[stuck[1]])


def test_a_choice_that_fails_leaves_the_next_to_begin_anew(
    engine: GenaiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended = Appended(monkeypatch)
    failing = evolve(job(21), grammar=Broken(2))
    kept = evolve(failing, grammar=None)
    events = run(engine, failing, kept)
    assert isinstance(events[failing][-1], Failed)
    assert started(events[kept]).cached_tokens == 0
    assert len(tokens(events[kept])) == 12
    assert len(appended.generators) == 2
    for generator in appended.generators:
        with pytest.raises(LocalProtocolError):
            generator.pointer  # noqa: B018 - asking is the test
