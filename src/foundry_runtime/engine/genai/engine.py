"""A model folder of onnxruntime-genai as a step machine.

Knows: how a job becomes a native generator, in which slices its prompt is computed, how its tokens are
chosen, and that the one job is to blame for what goes wrong in its own generator.
Refuses to know: text, threads, and everything native but `binding.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt
from attrs import define, field

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.admission import MOST_WAITING, check_job, check_queue
from foundry_runtime.engine.api import (
    Counters,
    EngineEvent,
    EngineLost,
    Failed,
    Finished,
    FinishReason,
    Job,
    ModelLoadError,
    Started,
    Token,
)
from foundry_runtime.engine.genai.binding import GenaiError, Generator, Model, load_library
from foundry_runtime.engine.genai.config import ModelConfig, read_config
from foundry_runtime.engine.genai.kept import KeptGenerators
from foundry_runtime.engine.genai.providers import available_providers, why_not
from foundry_runtime.engine.prefill import PrefillSpeed, slice_length
from foundry_runtime.engine.text.choosing import Chooser, Chosen, takes_the_likeliest
from foundry_runtime.platform import return_freed_memory, usable_cores

__all__ = ["GenaiEngine", "session_overlay"]


@define(eq=False)
class _Sequence:
    """A job and how far it is."""

    job: Job
    prompt: npt.NDArray[np.int32]
    chooser: Chooser | None = None
    """Looks at the logits, where the native search is not enough; made with the generator."""
    generator: Generator | None = None
    room: int = 0
    """How many tokens the generator can hold."""
    computed: int = 0
    logits: npt.NDArray[np.float32] | None = None
    """Those of the whole prompt, for the choices of the same answer that follow."""
    inherited: bool = False
    """Whether an earlier choice computed the whole prompt."""
    started: bool = False
    said: list[int] = field(factory=list)
    """The tokens that were generated."""
    served: int = 0
    """The step of its last slice: the job that waits longest comes next."""

    @property
    def ready(self) -> bool:
        """Whether the whole prompt is computed, so that tokens can be drawn."""
        return self.computed == len(self.prompt)

    @property
    def length(self) -> int:
        """How many tokens it may come to have."""
        return len(self.prompt) + self.job.max_tokens


@final
class GenaiEngine:
    """An engine over a model folder; loads the model, which takes its time, and belongs to one thread.

    Args:
        folder: The model folder, with its `genai_config.json`.
        provider: The execution provider to run on; by default the one that the folder's configuration names.
        threads: Threads that compute; by default as many as this process may use cores. One too many is
            worse than one too few.
        max_jobs: How many jobs have a KV cache at once; further ones wait, first come, first served. The
            choices of one answer take turns with one KV cache, so that their prompt is computed once: at the
            same time they would each be as many times slower.
        max_waiting: How many further answers may wait for one.
        max_kept: How many KV caches of ended jobs are kept, for prompts that begin like theirs.
        slice_seconds: How long one slice of prefill should take; it sets how soon a cancel takes effect, and
            how long the others' next tokens wait.
        clock: Seconds, for measuring the speed.

    Raises:
        ModelLoadError: The folder holds no model that can be loaded here. One token was computed to know.
    """

    def __init__(
        self,
        folder: Path,
        *,
        provider: str | None = None,
        threads: int | None = None,
        max_jobs: int = 4,
        max_waiting: int = MOST_WAITING,
        max_kept: int = 2,
        slice_seconds: float = 0.1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._config = read_config(folder)
        self._max_jobs = max_jobs
        self._max_waiting = max_waiting
        self._slice_seconds = slice_seconds
        self._clock = clock
        self._speed = PrefillSpeed()
        self._counters = Counters()
        self._sequences: dict[Job, _Sequence] = {}
        self._closed = False
        self._kept = KeptGenerators(max_kept, context_length=self._config.context_length)
        self._model = _load(
            folder, threads or usable_cores(), self._config, provider or self._config.provider
        )

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and output together."""
        return self._config.context_length

    @property
    def counters(self) -> Counters:
        """Running totals."""
        return self._counters

    def admit(self, job: Job) -> None:
        """Take a job; memory is taken for it in a later `step`. See `Engine.admit`."""
        if self._closed:
            raise EngineLost("the engine is closed")
        if job in self._sequences:
            raise LocalProtocolError("this job is in the engine already")
        check_job(job, context_length=self.context_length, vocabulary=self._config.vocabulary)
        self._check_queue(job)
        self._sequences[job] = _Sequence(job, np.array(job.prompt, dtype=np.int32))

    def cancel(self, job: Job) -> None:
        """Forget a job; its KV cache goes to the next choice of its answer, or is kept for the next turn."""
        sequence = self._sequences.pop(job, None)
        if sequence is None or sequence.generator is None or self._pass_on(sequence):
            return
        if self._closed:
            sequence.generator.close()
        else:
            # What was chosen last may not be computed.
            tokens = np.array(sequence.said[:-1], dtype=np.int32)
            computed = np.concatenate((sequence.prompt[: sequence.computed], tokens))
            self._kept.keep(sequence.generator, computed, sequence.room)

    def step(self) -> Sequence[EngineEvent]:
        """One slice of prefill for one job, in turns, and one token for each job whose prompt is computed.

        Returns and errors as for `Engine.step`.
        """
        if self._closed:
            raise EngineLost("the engine is closed")
        if not self._sequences:
            return ()
        self._counters.steps += 1
        events: list[EngineEvent] = []
        resident = self._resident()
        unready = [sequence for sequence in resident if not sequence.ready]
        if unready:
            self._attempt(self._prefill, min(unready, key=lambda sequence: sequence.served), events)
        for sequence in resident:
            if sequence.ready:
                self._attempt(self._decode, sequence, events)
        return events

    def close(self) -> None:
        """Free the jobs' memory, then the model's."""
        if not self._closed:
            self._closed = True
            for job in tuple(self._sequences):
                self.cancel(job)
            self._kept.close()
            self._model.close()
            return_freed_memory()

    def _check_queue(self, job: Job) -> None:
        """Refuse the first choice of an answer that would wait behind too many; the others follow it."""
        answers = {id(one.job.prompt): one for one in self._sequences.values()}
        if id(job.prompt) not in answers:
            tokens = sum(len(one.prompt) - one.computed for one in answers.values())
            seconds = tokens / (self._speed.tokens_per_second or tokens or 1)
            check_queue(len(answers) - self._max_jobs, most=self._max_waiting, seconds=seconds)

    def _resident(self) -> list[_Sequence]:
        """The jobs that have a KV cache, and as many more as may get one, in the order of their coming."""
        resident = [sequence for sequence in self._sequences.values() if sequence.generator is not None]
        prompts = {id(sequence.job.prompt) for sequence in resident}
        for sequence in self._sequences.values():
            if len(resident) == self._max_jobs:
                break
            if id(sequence.job.prompt) not in prompts:
                prompts.add(id(sequence.job.prompt))
                resident.append(sequence)
        return resident

    def _pass_on(self, sequence: _Sequence) -> bool:
        """Give what a job has computed to the next choice of the same answer; whether there is one."""
        heir = next((one for one in self._sequences.values() if one.job.prompt is sequence.job.prompt), None)
        generator = sequence.generator
        if heir is None or generator is None or self._closed or heir.length > sequence.room:
            return False
        if sequence.ready:
            if sequence.logits is None:
                return False
            try:
                generator.rewind_to(len(sequence.prompt))
            except GenaiError:  # as some kinds of models: the heir computes the prompt anew
                return False
        heir.generator, heir.room, heir.computed = generator, sequence.room, sequence.computed
        heir.logits, heir.inherited = sequence.logits, sequence.ready
        return True

    def _attempt(
        self,
        work: Callable[[_Sequence, Generator, list[EngineEvent]], None],
        sequence: _Sequence,
        events: list[EngineEvent],
    ) -> None:
        """Work for one job; what goes wrong there ends this job alone."""
        try:
            if not sequence.started and sequence.generator is None:
                self._take_kept(sequence)
            if not sequence.started:
                self._start(sequence, events)
            if sequence.generator is None:
                sequence.generator = self._make_generator(sequence)
            work(sequence, sequence.generator, events)
        except Exception as error:  # noqa: BLE001 - native errors, no memory, nothing to choose, a grammar's own
            self._sequences.pop(sequence.job, None)
            if sequence.generator is not None:
                sequence.generator.close()  # for good: nobody knows what state it is in
            events.append(Failed(job=sequence.job, error=error))

    def _take_kept(self, sequence: _Sequence) -> None:
        """Begin where an ended job's KV cache has the beginning of this one's prompt."""
        found = self._kept.take(sequence.prompt, sequence.length)
        if found is not None:
            sequence.generator, sequence.computed, sequence.room = found

    def _start(self, sequence: _Sequence, events: list[EngineEvent]) -> None:
        sequence.started = True
        events.append(Started(job=sequence.job, cached_tokens=sequence.computed))
        sequence.chooser = None if takes_the_likeliest(sequence.job) else Chooser(sequence.job)

    def _make_generator(self, sequence: _Sequence) -> Generator:
        # The KV cache is allocated, and cleared, for this length: never ask for the model's whole context.
        length = sequence.room = self._kept.room_for(sequence.length)
        try:
            return Generator(self._model, max_length=length)
        except GenaiError as error:
            raise GenaiError(f"no KV cache for {length} tokens: {error}") from error

    def _prefill(self, sequence: _Sequence, generator: Generator, _: list[EngineEvent]) -> None:
        begin = sequence.computed
        size = slice_length(len(sequence.prompt) - begin, self._speed.tokens_per_second * self._slice_seconds)
        started = self._clock()
        generator.append(sequence.prompt[begin : begin + size])
        self._speed.measured(size, self._clock() - started)
        sequence.computed += size
        sequence.served = self._counters.steps
        self._counters.prompt_tokens += size

    def _decode(self, sequence: _Sequence, generator: Generator, events: list[EngineEvent]) -> None:
        job, chooser = sequence.job, sequence.chooser
        if sequence.said:
            if chooser is None:
                chosen = Chosen(generator.next_token(), None)
            else:
                chosen = generator.with_logits(chooser.choose)
        elif chooser is not None and chooser.complete:  # a grammar of nothing but the empty text
            self._finish(job, "stop", events)
            return
        else:
            chosen = self._first(sequence, generator)
        self._counters.generated_tokens += 1
        if chosen.id in self._config.end_ids:
            self._finish(job, "stop", events)
            return
        sequence.said.append(chosen.id)
        events.append(Token(job=job, id=chosen.id, logprobs=chosen.logprobs))
        if chooser is not None and chooser.complete:
            self._finish(job, "stop", events)
        elif len(sequence.said) == job.max_tokens:
            self._finish(job, "length", events)
        elif sequence.inherited and len(sequence.said) == 1:
            generator.append(np.array([chosen.id], dtype=np.int32))
        elif chooser is not None:
            generator.choose(chosen.id, self._config.vocabulary)

    def _first(self, sequence: _Sequence, generator: Generator) -> Chosen:
        """The first token; the logits that it comes from stay for the next choice of the same answer.

        They are the only ones that are exactly those of the prompt: the last token, computed again alone,
        gives others, from another kernel.
        """
        if sequence.logits is None:
            sequence.logits = generator.logits()
        if sequence.chooser is not None:
            return sequence.chooser.choose(sequence.logits)
        return Chosen(int(sequence.logits.argmax()) if sequence.inherited else generator.next_token(), None)

    def _finish(self, job: Job, reason: FinishReason, events: list[EngineEvent]) -> None:
        self.cancel(job)
        events.append(Finished(job=job, reason=reason))


def session_overlay(threads: int) -> str:
    """What is set over a folder's own session options, whoever made the folder; JSON."""
    options = {
        "intra_op_num_threads": threads,
        # Between two kernels a thread that sleeps costs a quarter of the speed; one that spins for as long as
        # it does by default burns a core for 30 ms after each token. This is the speed without the burning.
        "session.intra_op.spin_duration_us": "100",
    }
    return json.dumps({"model": {"decoder": {"session_options": options}}})


def _load(folder: Path, threads: int, config: ModelConfig, provider: str) -> Model:
    """Load a model and compute one token: a wrong vocabulary or head size shows itself only there."""
    try:
        if provider != "cpu" and (reason := why_not(provider)) is not None:
            raise ModelLoadError(
                f"{folder}: the model {'wants' if provider == config.provider else 'was asked'} to run on "
                f"{provider}, which is not available here ({', '.join(available_providers())}): {reason}"
            )
        # Its own provider keeps the options that its configuration has for it.
        other = None if provider == config.provider else provider
        model = Model(load_library(), folder, session_overlay(threads), provider=other)
        try:
            with Generator(model, max_length=2) as generator:
                generator.append(np.zeros(1, dtype=np.int32))
                logits = len(generator.logits())
        except GenaiError:
            model.close()
            raise
    except GenaiError as error:
        raise ModelLoadError(f"{folder}: the model cannot be loaded: {error}") from error
    if logits != config.vocabulary:
        model.close()
        raise ModelLoadError(
            f"{folder}: the model gives {logits} logits, but its vocab_size is {config.vocabulary}"
        )
    return model
