"""An engine without a model: it says what a script says, one token per job per step.

Knows: the whole contract of an engine, its failures included, and nothing else.
Refuses to know: time, chance, numpy.

For tests, and for building on an engine before there is a model:

    engine = ScriptedEngine()                                    # echoes each prompt
    engine = ScriptedEngine(lambda prompt: [72, 105])            # says the same two tokens to everything
    engine = ScriptedEngine(fail_at={3: EngineLost("pulled the plug")})

A script may be a generator; one that raises fails its own job there and then, the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import final

from attrs import define

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.admission import check_job
from foundry_runtime.engine.api import (
    Counters,
    EngineEvent,
    EngineLost,
    Failed,
    Finished,
    Job,
    Started,
    Token,
)

__all__ = ["Script", "ScriptedEngine", "echo"]

Script = Callable[[Sequence[int]], Iterable[int]]
"""From a prompt to the tokens generated for it; when they are all said, the model has ended its turn."""


def echo(prompt: Sequence[int]) -> Iterable[int]:
    """Say the prompt again."""
    return prompt


@define
class _Running:
    job: Job
    tokens: Iterator[int]
    prefilled: int = 0
    generated: int = 0


@final
class ScriptedEngine:
    """A deterministic engine that follows a script.

    Args:
        script: What to say to a prompt.
        context_length: Most tokens of prompt and output together.
        vocabulary: Ids from here on are refused in prompts; `None` takes any.
        prefill_slice: How many prompt tokens one step takes in, of one job at a time.
        fail_at: Which steps raise instead, counted from 1. An `EngineLost` ends the engine for good.
    """

    def __init__(
        self,
        script: Script = echo,
        *,
        context_length: int = 4096,
        vocabulary: int | None = None,
        prefill_slice: int = 64,
        fail_at: Mapping[int, Exception] | None = None,
    ) -> None:
        self._script = script
        self._context_length = context_length
        self._vocabulary = vocabulary
        self._prefill_slice = prefill_slice
        self._fail_at = fail_at or {}
        self._counters = Counters()
        self._running: dict[Job, _Running] = {}
        self._lost: EngineLost | None = None

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
        self._running[job] = _Running(job, iter(self._script(job.prompt)))

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
        job = running.job
        try:
            token = next(running.tokens, None)
        except Exception as error:  # noqa: BLE001 - a script fails as it likes: that is what it is for
            del self._running[job]
            events.append(Failed(job=job, error=error))
            return
        self._counters.generated_tokens += 1
        if token is None:
            del self._running[job]
            events.append(Finished(job=job, reason="stop"))
            return
        running.generated += 1
        events.append(Token(job=job, id=token))
        if running.generated == job.max_tokens:
            del self._running[job]
            events.append(Finished(job=job, reason="length"))
