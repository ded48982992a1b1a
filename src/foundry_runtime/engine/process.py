"""An engine in a process of its own: what ends that process ends no other.

Knows: how the process is started, spoken to and ended; that each of an engine's calls is one round trip; and
how it is told that it has died.
Refuses to know: which engine it is, and what its jobs are about.

    engine = ProcessEngine("foundry_runtime.models.engines:engine_at", {"path": str(folder)})

The process is spawned, never forked: a copy of a program with threads and native libraries is one with locks
that nobody will release. The jobs' grammars stay here, and the engine asks what they allow: they are any
object, and what compiled them is here anyway.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast, final

from attrs import define

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine import _frames as frames
from foundry_runtime.engine import _messages as messages
from foundry_runtime.engine._spawned import ENDING, Watch, how_it_ended, pipe_of, start
from foundry_runtime.engine._troubles import error_of, trouble_of
from foundry_runtime.engine.api import (
    Counters,
    EngineEvent,
    EngineLost,
    Failed,
    Finished,
    FinishReason,
    Guide,
    Job,
    ModelLoadError,
    Started,
    Token,
    TokenLogprobs,
)
from foundry_runtime.platform import birth_of

__all__ = ["ProcessEngine"]


@define(eq=False)
class _Running:
    """A job in the other process."""

    job: Job
    guide: Guide | None = None
    error: Exception | None = None
    """What its grammar raised: the job fails by the very same, not by its words."""


@final
class ProcessEngine:
    """An engine that runs in a child process; made when it is loaded there, and belongs to one thread.

    Args:
        factory: What makes the engine in the child, as `module:function`.
        arguments: Its keyword arguments; whatever JSON has.
        patience: Seconds after which a child that says nothing amid a step is killed. A load takes as long as
            it takes.

    Raises:
        ModelLoadError: It could not be loaded, or its process could not be started.
        Exception: What else the factory raised.
    """

    def __init__(self, factory: str, arguments: Mapping[str, object], *, patience: float = 120.0) -> None:
        self._context_length = 0
        self._counters = Counters()
        self._running: dict[int, _Running] = {}
        self._numbers: dict[Job, int] = {}
        self._last_number = 0
        self._lost: EngineLost | None = None
        self._closed = False
        self._process = start()
        self._watch = Watch(self._process, patience)
        try:
            self._watch.begin()
            self._load(factory, arguments)
        except BaseException:
            self.close()
            raise

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and output together."""
        return self._context_length

    @property
    def counters(self) -> Counters:
        """Running totals, as of the last step."""
        return self._counters

    @property
    def lost(self) -> bool:
        """Whether the child has ended; any thread may ask."""
        return self._lost is not None or self._process.poll() is not None

    @property
    def pid(self) -> int:
        """The child's process."""
        return self._process.pid

    def admit(self, job: Job) -> None:
        """Take a job."""
        self._check_alive()
        if job in self._numbers:
            raise LocalProtocolError("this job is in the engine already")
        number = self._last_number = self._last_number + 1
        self._running[number] = _Running(job)
        try:
            with self._watch:
                self._ask(_described(number, job, self._same_as(job)), messages.Admitted)
        except BaseException:
            self._running.pop(number, None)
            raise
        self._numbers[job] = number

    def cancel(self, job: Job) -> None:
        """Forget a job."""
        number = self._numbers.pop(job, None)
        if number is not None:
            del self._running[number]
            if self._lost is None:
                self._send(messages.Cancel(number))

    def step(self) -> Sequence[EngineEvent]:
        """Have the child compute one slice."""
        self._check_alive()
        if not self._running:
            return ()
        with self._watch:
            try:
                answer = self._ask(messages.Step(), messages.Events)
            except EngineLost:
                raise
            except Exception:
                self._forget_all()
                raise
        counters = self._counters
        counters.steps, counters.prompt_tokens = answer.steps, answer.prompt_tokens
        counters.generated_tokens = answer.generated_tokens
        return [self._event(event) for event in answer.events]

    def close(self) -> None:
        """End the child, kindly if it can hear."""
        if self._closed:
            return
        self._closed = True
        self._lost = self._lost or EngineLost("the engine is closed")
        self._forget_all()
        with suppress(OSError):
            frames.write_message(pipe_of(self._process.stdin), messages.Close())
        with suppress(OSError):
            pipe_of(self._process.stdin).close()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        pipe_of(self._process.stdout).close()
        self._watch.end()

    def _load(self, factory: str, arguments: Mapping[str, object]) -> None:
        level, pid = logging.getLogger().getEffectiveLevel(), os.getpid()
        birth = birth_of(pid) or ""
        hello = messages.Hello(messages.VERSION, factory, json.dumps(arguments), level, pid, birth)
        try:
            ready = self._ask(hello, messages.Ready)
        except EngineLost as error:
            raise ModelLoadError(f"while it was loaded, {error}") from error
        if ready.version != messages.VERSION:
            raise ModelLoadError(
                "the engine's process is of another release than this one: after an upgrade, start anew"
            )
        self._context_length = ready.context_length

    def _check_alive(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _same_as(self, job: Job) -> int | None:
        """A job in the child with the very same prompt."""
        for number in self._numbers.values():
            if self._running[number].job.prompt is job.prompt:
                return number
        return None

    def _forget_all(self) -> None:
        self._running.clear()
        self._numbers.clear()

    # The pipe.

    def _ask(self, question: messages.Message, kind: type[Any]) -> Any:
        """Ask the child, and meanwhile answer what it asks of grammars.

        Raises:
            EngineLost: The child is gone.
            Exception: What the engine raised there.
        """
        self._send(question)
        while True:
            match message := self._receive():
                case messages.LogLine():
                    logging.getLogger(message.logger).log(message.level, "%s", message.text)
                case messages.Begin() | messages.Constrain() | messages.Accepted():
                    self._send(self._consult(message))
                case messages.Trouble():
                    error = error_of(message)
                    if isinstance(error, EngineLost):
                        self._lose(str(error))
                    raise error
                case _ if isinstance(message, kind):
                    return message
                case _:
                    raise self._lose(f"its process answered {type(message).__name__}")

    def _send(self, message: messages.Message) -> None:
        try:
            frames.write_message(pipe_of(self._process.stdin), message)
        except OSError:
            raise self._lose(None) from None

    def _receive(self) -> messages.Message:
        try:
            message = frames.read_message(pipe_of(self._process.stdout))
        except (OSError, frames.FrameError) as error:
            raise self._lose(f"its process is not to be understood: {error}") from error
        if message is None:
            raise self._lose(None)
        return message

    def _lose(self, why: str | None) -> EngineLost:
        """Give the child up; without a reason, it is how it ended."""
        if self._lost is None:
            if why is None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(ENDING)
                why = self._watch.why or how_it_ended(self._process.poll())
            self._process.kill()
            self._lost = EngineLost(why)
            self._forget_all()
        return self._lost

    # What the child tells and asks of jobs.

    def _event(self, event: messages.Begun | messages.Said | messages.Ended) -> EngineEvent:
        running = self._running[event.number]
        job = running.job
        match event:
            case messages.Begun():
                return Started(job=job, cached_tokens=event.cached_tokens)
            case messages.Said():
                return Token(job=job, id=event.id, logprobs=_logprobs(event.likely))
            case messages.Ended():
                del self._running[event.number]
                del self._numbers[job]
                if event.trouble is not None:
                    return Failed(job=job, error=running.error or error_of(event.trouble))
                return Finished(job=job, reason=cast("FinishReason", event.reason))

    def _consult(self, question: messages.Begin | messages.Constrain | messages.Accepted) -> messages.Message:
        running = self._running[question.number]
        try:
            match question:
                case messages.Begin():
                    assert running.job.grammar is not None
                    running.guide = running.job.grammar.begin()
                    return messages.Cast(running.guide.complete)
                case messages.Accepted():
                    assert running.guide is not None
                    running.guide.accept(question.token)
                    return messages.Cast(running.guide.complete)
                case messages.Constrain():
                    assert running.guide is not None
                    return messages.Mask(_mask(running.guide, question.vocabulary))
        except Exception as error:  # noqa: BLE001 - a grammar's own: the job fails by it
            running.error = error
            return trouble_of(error)


def _logprobs(likely: messages.Likely | None) -> TokenLogprobs | None:
    if likely is None:
        return None
    top = tuple(zip(likely.top_ids, likely.top_logprobs, strict=True))
    return TokenLogprobs(logprob=likely.logprob, top=top)


def _described(number: int, job: Job, same_as: int | None) -> messages.Admit:
    sampling = job.sampling
    bias = dict(sampling.logit_bias)
    return messages.Admit(
        number=number,
        same_as=same_as,
        prompt=tuple(job.prompt) if same_as is None else (),
        max_tokens=job.max_tokens,
        grammar=job.grammar is not None,
        logprobs=job.logprobs,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        biased=tuple(bias),
        biases=tuple(bias.values()),
        seed=None if sampling.seed is None else str(sampling.seed),
    )


def _mask(guide: Guide, vocabulary: int) -> bytes:
    """What a grammar allows next, whatever the logits are."""
    import numpy as np  # noqa: PLC0415 - an engine without logits needs no numpy

    logits = np.zeros(vocabulary, dtype=np.float32)
    guide.constrain(logits)
    return np.packbits(np.isfinite(logits)).tobytes()
