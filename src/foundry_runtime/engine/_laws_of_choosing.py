"""The laws of an engine about which tokens it chooses, and what it tells of them.

Knows: what logprobs, bias, penalties, grammars and shared prompts mean for any engine. One that cannot do
what a job asks refuses it: none of it is ever ignored.
Refuses to know: distributions. A law cannot know how likely a model holds a token.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field, frozen

from foundry_runtime.engine._laws import Law
from foundry_runtime.engine._stage import GREEDY, Expected, Heard, Stage, expect, expect_same
from foundry_runtime.engine.api import Engine, Guide, Job, Sampling

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["LAWS_OF_CHOOSING"]


def _logprobs_are_those_of_what_was_said(engine: Engine, expected: Expected) -> None:
    for count in (0, 3):
        stage = Stage(engine)
        heard = stage.try_admit(expected.job(1, logprobs=count))
        if heard is None:
            return
        stage.run()
        expect_same(heard.tokens, expected.solo[1], "a job with logprobs")
        for token, logprobs in zip(heard.tokens, heard.logprobs, strict=True):
            likeliest = logprobs.top[0] if count else (token, logprobs.logprob)
            expect(
                likeliest == (token, logprobs.logprob),
                f"{token} with a logprob of {logprobs.logprob} was the likeliest, but told is {logprobs.top}",
            )


def _a_bias_decides(engine: Engine, expected: Expected) -> None:
    for number, said in expected.solo.items():
        if not said:
            continue
        wanted = next(token for token in expected.prompts[1] if token != said[0])
        stage = Stage(engine)
        favoured = stage.try_admit(_first(expected, number, {wanted: 100.0}))
        if favoured is None:
            return
        banned = stage.admit(_first(expected, number, {said[0]: -100.0}))
        stage.run()
        expect(favoured.tokens == [wanted], f"a bias of 100 for {wanted} gave {favoured.tokens}")
        expect(banned.tokens[:1] != [said[0]], f"a bias of -100 for {said[0]} gave {banned.tokens}")


def _first(expected: Expected, number: int, bias: dict[int, float]) -> Job:
    sampling = Sampling(temperature=0.0, logit_bias=bias)
    return Job(prompt=expected.prompts[number], max_tokens=1, sampling=sampling)


def _penalties_touch_their_own_job_alone(engine: Engine, expected: Expected) -> None:
    sampling = Sampling(
        temperature=0.0, presence_penalty=2.0, frequency_penalty=2.0, repetition_penalty=2.0, min_p=0.1
    )
    stage = Stage(engine)
    alone = stage.try_admit(expected.job(1, sampling))
    if alone is None:
        return
    stage.run()
    again, plain = stage.admit(expected.job(1, sampling)), stage.admit(expected.job(1))
    stage.run()
    expect_same(again.tokens, alone.tokens, "a job with penalties")
    expect_same(plain.tokens, expected.solo[1], "a job beside one with penalties")


def _penalties_weigh_what_was_said(engine: Engine, expected: Expected) -> None:
    sampling = Sampling(temperature=0.0, presence_penalty=1.5, frequency_penalty=2.0)
    for number in expected.solo:
        stage = Stage(engine)
        heard = stage.try_admit(expected.job(number, sampling, logprobs=20))
        if heard is None:
            return
        stage.run()
        said: Counter[int] = Counter()
        for token, logprobs in zip(heard.tokens, heard.logprobs, strict=True):
            # Logprobs differ as the logits do. Whatever is not among them is less likely than the last.
            weighed = {
                one: logprob
                - (said[one] > 0) * sampling.presence_penalty
                - said[one] * sampling.frequency_penalty
                for one, logprob in logprobs.top
            }
            best = max(weighed.values())
            if best > logprobs.top[-1][1]:
                chosen = weighed.get(token, -math.inf)
                expect(
                    chosen > best - 1e-3,
                    f"{token} was said after {dict(said)}: the penalties leave it {chosen}, the best {best}",
                )
            said[token] += 1


def _a_grammar_is_obeyed(engine: Engine, expected: Expected) -> None:
    ids = sorted(set(expected.prompts[1]))
    grammar = _Rounds((ids[:2], ids[-2:], ids[1:3], ids[:1]))
    stage = Stage(engine)
    whole = stage.try_admit(_bound(expected, grammar, max_tokens=4))
    if whole is None:
        return
    cut, free = stage.admit(_bound(expected, grammar, max_tokens=2)), stage.admit(expected.job(2))
    stage.run()
    _expect_obedient(whole, grammar, 4, "stop")
    _expect_obedient(cut, grammar, 2, "length")
    expect_same(free.tokens, expected.solo[2], "a job beside those with a grammar")
    drawn = stage.admit(evolve(_bound(expected, grammar, max_tokens=9), sampling=Sampling(seed=1)))
    empty = stage.admit(_bound(expected, _Rounds(()), max_tokens=4))
    stage.run()
    _expect_obedient(drawn, grammar, 4, "stop")
    _expect_obedient(empty, _Rounds(()), 0, "stop")


def _bound(expected: Expected, grammar: _Rounds, *, max_tokens: int) -> Job:
    return Job(prompt=expected.prompts[1], max_tokens=max_tokens, sampling=GREEDY, grammar=grammar)


def _expect_obedient(heard: Heard, grammar: _Rounds, count: int, reason: str) -> None:
    expect(
        len(heard.tokens) == count and heard.reason == reason,
        f"{heard.tokens}, {heard.reason!r}: a grammar of {len(grammar.allowed)} tokens, of which "
        f"{heard.job.max_tokens} were allowed, expected {count}, {reason!r}",
    )
    for token, allowed in zip(heard.tokens, grammar.allowed, strict=False):
        expect(token in allowed, f"the tokens {heard.tokens} where a grammar allows {grammar.allowed}")


@frozen
class _Rounds:
    """A grammar that allows certain tokens first, others second, and nothing after the last."""

    allowed: Sequence[Sequence[int]]

    def begin(self) -> Guide:
        return _Round(self.allowed)


@define
class _Round:
    allowed: Sequence[Sequence[int]]
    accepted: list[int] = field(factory=list)

    @property
    def complete(self) -> bool:
        return len(self.accepted) == len(self.allowed)

    def constrain(self, logits: npt.NDArray[np.float32]) -> None:
        expect(not self.complete, "a grammar that was complete was asked what may follow")
        kept = [(token, float(logits[token])) for token in self.allowed[len(self.accepted)]]
        logits.fill(-math.inf)
        for token, logit in kept:
            logits[token] = logit

    def accept(self, token: int) -> None:
        allowed = self.allowed[len(self.accepted)]
        expect(token in allowed, f"a grammar that allows {allowed} was given {token}")
        self.accepted.append(token)


def _choices_of_one_prompt_say_what_each_says_alone(engine: Engine, expected: Expected) -> None:
    number = expected.longest
    prompt = expected.prompts[number]
    drawn = Sampling(temperature=1.3, seed=7)
    stage = Stage(engine)
    # The very prompt for all: the first is cancelled amid the others, the second ends early.
    jobs = [Job(prompt=prompt, max_tokens=limit, sampling=GREEDY) for limit in (expected.max_tokens, 1)]
    jobs += [expected.job(number), expected.job(number, drawn), expected.job(number)]
    cancelled, short, *others = [stage.admit(job) for job in jobs]
    while not cancelled.tokens and cancelled.reason is None:
        stage.step()
    stage.cancel(cancelled)
    stage.run()
    expect_same(short.tokens, expected.solo[number][:1], "a short choice")
    for choice in (others[0], others[2]):
        expect_same(choice.tokens, expected.solo[number], "a choice")
    alone = stage.admit(evolve(others[1].job, prompt=tuple(prompt)))
    stage.run()
    expect_same(others[1].tokens, alone.tokens, "a choice that was drawn")


LAWS_OF_CHOOSING: Final[Sequence[Law]] = (
    _logprobs_are_those_of_what_was_said,
    _a_bias_decides,
    _penalties_touch_their_own_job_alone,
    _penalties_weigh_what_was_said,
    _a_grammar_is_obeyed,
    _choices_of_one_prompt_say_what_each_says_alone,
)
