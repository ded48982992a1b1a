"""An engine without a model: it says what a script says, one token per job per step.

Knows: the whole contract of an engine, its failures included, and nothing else.
Refuses to know: time and chance; numpy, until a job wants something of logits.

For tests, and for building on an engine before there is a model:

    engine = ScriptedEngine()                                    # echoes each prompt
    engine = ScriptedEngine(lambda prompt: [72, 105])            # says the same two tokens to everything
    engine = ScriptedEngine(fail_at={3: EngineLost("pulled the plug")})

A script may be a generator; one that raises fails its own job there and then, the others go on.

A job with a grammar, logprobs, penalties or a bias is given logits, in which the script is a preference: the
token that it has for a position gets 10, and any other id gets -id/1024. The likeliest is taken, whatever the
temperature. So where a grammar forbids the script's token, the lowest id that it allows is said, or the one
with the greatest bias; logprobs can be computed by hand; and a script may be penalised until it gives way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, final

from attrs import define, evolve

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.admission import check_job
from foundry_runtime.engine.api import (
    Counters,
    EngineEvent,
    EngineLost,
    Failed,
    Finished,
    FinishReason,
    Job,
    Started,
    Token,
    TokenLogprobs,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from foundry_runtime.engine.text.choosing import Chooser

__all__ = ["Script", "ScriptedEngine", "echo"]

Script = Callable[[Sequence[int]], Iterable[int]]
"""From a prompt to the tokens generated for it; when they are all said, the model has ended its turn."""


def echo(prompt: Sequence[int]) -> Iterable[int]:
    """Say the prompt again."""
    return prompt


_PREFERENCE: Final = 10.0
_SLOPE: Final = 1 / 1024


@define
class _Running:
    job: Job
    tokens: Iterator[int]
    chooser: Chooser | None
    prefilled: int = 0
    generated: int = 0


@final
class ScriptedEngine:
    """A deterministic engine that follows a script.

    Args:
        script: What to say to a prompt.
        context_length: Most tokens of prompt and output together.
        vocabulary: How many token ids there are, as many as logits.
        end_ids: With any of these tokens an answer ends. Where there are logits, a script that has nothing
            left prefers the first; without them it then has no preference, and only a grammar's end or the
            length ends the answer of a job with a grammar.
        prefill_slice: How many prompt tokens one step takes in, of one job at a time.
        fail_at: Which steps raise instead, counted from 1. An `EngineLost` ends the engine for good.
    """

    def __init__(
        self,
        script: Script = echo,
        *,
        context_length: int = 4096,
        vocabulary: int = 1 << 16,
        end_ids: Sequence[int] = (),
        prefill_slice: int = 64,
        fail_at: Mapping[int, Exception] | None = None,
    ) -> None:
        self._script = script
        self._context_length = context_length
        self._vocabulary = vocabulary
        self._end_ids = tuple(end_ids)
        self._prefill_slice = prefill_slice
        self._fail_at = fail_at or {}
        self._counters = Counters()
        self._running: dict[Job, _Running] = {}
        self._lost: EngineLost | None = None
        self._indifferent: npt.NDArray[np.float32] | None = None

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and output together."""
        return self._context_length

    @property
    def counters(self) -> Counters:
        """Running totals."""
        return self._counters

    def admit(self, job: Job) -> None:
        """Take a job; its first slice of prefill happens in a later `step`."""
        if self._lost is not None:
            raise self._lost
        if job in self._running:
            raise LocalProtocolError("this job is in the engine already")
        check_job(job, context_length=self._context_length, vocabulary=self._vocabulary)
        self._running[job] = _Running(job, iter(self._script(job.prompt)), _chooser(job))

    def cancel(self, job: Job) -> None:
        """Forget a job."""
        self._running.pop(job, None)

    def step(self) -> Sequence[EngineEvent]:
        """One slice of prefill for the job that waits longest, and one token for each job beyond it."""
        if self._lost is not None:
            raise self._lost
        if not self._running:
            return ()
        self._counters.steps += 1
        error = self._fail_at.get(self._counters.steps)
        if error is not None:
            self._running.clear()
            if isinstance(error, EngineLost):
                self._lost = error
            raise error
        events: list[EngineEvent] = []
        self._prefill(events)
        for running in tuple(self._running.values()):
            if running.prefilled == len(running.job.prompt):
                self._decode(running, events)
        return events

    def close(self) -> None:
        """Forget all jobs; the engine cannot be used any more."""
        self._running.clear()
        self._lost = EngineLost("the engine is closed")

    def _prefill(self, events: list[EngineEvent]) -> None:
        for running in self._running.values():
            size = min(self._prefill_slice, len(running.job.prompt) - running.prefilled)
            if size:
                if not running.prefilled:
                    events.append(Started(job=running.job))
                running.prefilled += size
                self._counters.prompt_tokens += size
                return

    def _decode(self, running: _Running, events: list[EngineEvent]) -> None:
        job, chooser = running.job, running.chooser
        try:
            token, logprobs = self._choose(running)
        except Exception as error:  # noqa: BLE001 - a script fails as it likes: that is what it is for
            del self._running[job]
            events.append(Failed(job=job, error=error))
            return
        self._counters.generated_tokens += 1
        if token is None or token in self._end_ids:
            self._finish(job, "stop", events)
            return
        running.generated += 1
        events.append(Token(job=job, id=token, logprobs=logprobs))
        if chooser is not None and chooser.complete:
            self._finish(job, "stop", events)
        elif running.generated == job.max_tokens:
            self._finish(job, "length", events)

    def _finish(self, job: Job, reason: FinishReason, events: list[EngineEvent]) -> None:
        del self._running[job]
        events.append(Finished(job=job, reason=reason))

    def _choose(self, running: _Running) -> tuple[int | None, TokenLogprobs | None]:
        """The token for the next position; `None` where the answer has ended."""
        scripted = next(running.tokens, None)
        chooser = running.chooser
        if chooser is None:
            return scripted, None
        if scripted is None:
            if not self._end_ids and running.job.grammar is None:
                return None, None
            scripted = next(iter(self._end_ids), None)
        if chooser.complete:  # before the first token: a grammar of nothing but the empty text
            return None, None
        chosen = chooser.choose(self._logits(scripted))
        return chosen.id, chosen.logprobs

    def _logits(self, preferred: int | None) -> npt.NDArray[np.float32]:
        import numpy as np  # noqa: PLC0415 - see above

        if self._indifferent is None:
            self._indifferent = np.arange(self._vocabulary, dtype=np.float32) * -_SLOPE
        logits = self._indifferent.copy()
        if preferred is not None:
            if not 0 <= preferred < len(logits):
                raise ValueError(f"the script says {preferred}: expected an id below {len(logits)}")
            logits[preferred] = _PREFERENCE
        return logits


def _chooser(job: Job) -> Chooser | None:
    if job.grammar is None and job.logprobs is None and job.sampling.takes_logits_as_they_are:
        return None
    from foundry_runtime.engine.text.choosing import Chooser  # noqa: PLC0415 - see above

    return Chooser(evolve(job, sampling=evolve(job.sampling, temperature=0.0)))
