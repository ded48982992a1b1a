"""Continuous batching: a step machine whose jobs share each pass through the model.

Knows: when a job may begin (a free row, and room in the budget of tokens), how its prompt is computed beside
running streams, how tokens are chosen row by row, and whom an error ends.
Refuses to know: onnxruntime (`model.py`), what comes next and how much of it (`schedule.py`), who is in which
row and what is kept of it (`rows.py`), text, threads.

A prompt's keys and values are the same bits however it is cut into slices of two tokens and more, and decode
gives a row the same bits whatever rows stand beside it. What is kept of prompts is therefore as good as
computed: the answer to a request does not depend on what else runs or ran. Only keys and values that *decode*
wrote are different in the last bits; they are kept for the next turn of a conversation.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

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
    Refused,
    Started,
    Token,
)
from foundry_runtime.engine.batched.layout import Layout, read_layout
from foundry_runtime.engine.batched.memory import RowMemory
from foundry_runtime.engine.batched.model import POSITIONS_INPUT, BatchedModel
from foundry_runtime.engine.batched.rows import Rows, Running
from foundry_runtime.engine.batched.schedule import Schedule
from foundry_runtime.engine.batched.speculation import Speculation
from foundry_runtime.engine.genai.config import read_config
from foundry_runtime.engine.text.choosing import Chooser, Chosen, takes_the_likeliest
from foundry_runtime.platform import return_freed_memory, usable_cores, usable_memory

__all__ = ["BatchedEngine"]

logger = logging.getLogger(__name__)

_Floats: TypeAlias = npt.NDArray[np.float32]

_LEAST_ROWS: Final = 2
_LEAST_BUDGET: Final = 2048
_ROWS_SHARE: Final = 0.25
"""Of the machine's memory, for running jobs, if all of them use all that they may."""
_KEPT_SHARE: Final = 0.05
_KEPT_BYTES: Final = 512 * 1024 * 1024
"""For kept blocks the lesser of this and their share of the machine's memory."""


@final
class BatchedEngine:
    """An engine over a plain decoder's folder; loads the model, and belongs to one thread.

    Args:
        folder: The model folder, with its `genai_config.json`.
        threads: Threads that compute; by default as many as this process may use cores.
        max_rows: How many jobs are computed at once.
        max_waiting: How many further jobs may wait for a row; choices of one answer come in together.
        budget: Tokens, prompts and allowed outputs together, that running jobs may have keys and values of.
        kept: Tokens of finished jobs whose keys and values are kept for prompts that begin like them.
        speculate: Whether the tokens that follow are guessed while a single answer is generated, and several
            are computed at once. The weights are then used in another kernel, which rounds otherwise: with 8
            bits, an answer may differ from the one that is generated beside others.
        schedule: Which prompt is computed next, and how much of it at a time.
        clock: Seconds.

    Raises:
        NotBatchable: The model is for another engine.
        ModelLoadError: It cannot be loaded.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        max_rows: int = 16,
        max_waiting: int = MOST_WAITING,
        budget: int | None = None,
        kept: int | None = None,
        speculate: bool = False,
        schedule: Schedule | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        layout = read_layout(folder)
        self._config = config = read_config(folder)
        memory = usable_memory()
        if budget is None:
            budget = max(_LEAST_BUDGET, int(memory * _ROWS_SHARE) // layout.bytes_per_token)
        if kept is None:
            kept = min(_KEPT_BYTES, int(memory * _KEPT_SHARE)) // layout.bytes_per_token
        self._budget = budget
        self._clock = clock
        self._schedule = schedule or Schedule()
        self._max_waiting = max_waiting
        self._counters = Counters()
        self._waiting: dict[Job, Running] = {}
        self._closed = False
        self._model = BatchedModel(
            layout,
            vocabulary=config.vocabulary,
            threads=threads or usable_cores(),
            # One row more than jobs, so that there is always a place to move one to.
            memory=_row_memory(layout, max_rows + 1, min(config.context_length, budget)),
            rewritten=_rewritten(layout) if speculate else None,
        )
        self._speculates = speculate and self._model.can_check
        self._rows = Rows(layout, self._model.memory, kept=kept)

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and output together."""
        return self._config.context_length

    @property
    def counters(self) -> Counters:
        """Running totals."""
        return self._counters

    @property
    def kept_tokens(self) -> int:
        """How many tokens' keys and values are kept for later prompts."""
        return self._rows.kept_tokens

    def admit(self, job: Job) -> None:
        """Take a job; memory is taken for it in a later `step`. See `Engine.admit`."""
        if self._closed:
            raise EngineLost("the engine is closed")
        if job in self._waiting or self._rows.find(job) is not None:
            raise LocalProtocolError("this job is in the engine already")
        check_job(job, context_length=self.context_length, vocabulary=self._config.vocabulary)
        sequence = Running(job, self._clock(), list(job.prompt))
        if sequence.reserved > self._budget:
            raise Refused(
                f"the prompt has {sequence.prompt_length} tokens and max_tokens is {job.max_tokens}: together"
                f" they exceed the {self._budget} tokens that this server has memory for",
                code="context_length_exceeded",
            )
        waiting = self._waiting.values()
        if not any(one.job.prompt is job.prompt for one in waiting):
            work = self._schedule.seconds(sum(one.remaining for one in waiting))
            check_queue(len(waiting) - self._rows.room, most=self._max_waiting, seconds=work)
        self._waiting[job] = sequence

    def cancel(self, job: Job) -> None:
        """Forget a job and free its row."""
        self._waiting.pop(job, None)
        sequence = self._rows.find(job)
        if sequence is not None:
            self._retire(sequence)
            self._rest()

    def step(self) -> Sequence[EngineEvent]:
        """Some prefill for the prompts that come next, and one token for each running stream.

        A prompt that ends while no stream waits for its next token ends the step: its first token leaves at
        once. Returns and errors as for `Engine.step`.
        """
        if self._closed:
            raise EngineLost("the engine is closed")
        if self._is_idle():
            return ()
        self._counters.steps += 1
        events: list[EngineEvent] = []
        running = len(self._rows.decoding)
        prefilled = self._prefill(running, events)
        if running or not prefilled:
            if len(self._rows.decoding) == 1 and self._speculates:
                self._decode_one(self._rows.decoding[0], events)
            elif self._rows.decoding:
                self._decode(events)
        self._rest()
        return events

    def _rest(self) -> None:
        """Give memory back, where nothing is left to do."""
        if self._is_idle():
            self._rows.shrink()
            return_freed_memory()

    def _is_idle(self) -> bool:
        return not (self._waiting or self._rows.filling or self._rows.decoding)

    def forget_prefixes(self) -> None:
        """Keep nothing of finished jobs any more, and give the memory back."""
        self._rows.forget()

    def close(self) -> None:
        """Free everything, unfinished jobs included."""
        if not self._closed:
            self._closed = True
            self._waiting.clear()
            self._rows.close()
            self._model.close()
            return_freed_memory()

    # Prompts.

    def _next_prompt(self) -> Running | None:
        """The prompt to compute now: one that has begun, or the first of those that wait, if it may begin."""
        filling = self._rows.filling
        candidate = self._schedule.first((*filling.values(), *self._waiting.values()))
        if candidate is None or candidate.row >= 0:
            return candidate
        if self._rows.room and self._rows.reserved + candidate.reserved <= self._budget:
            return candidate
        return self._schedule.first(filling.values())

    def _prefill(self, running: int, events: list[EngineEvent]) -> bool:
        """Compute a slice of the prompt that comes next, and further prompts that end within the step's time.

        Args:
            running: How many streams wait for their next token.

        Returns:
            Whether anything was computed.
        """
        started, prefilled = self._clock(), False
        while (sequence := self._next_prompt()) is not None:
            if sequence.row < 0 and not self._begin(sequence, events):
                continue
            spent = self._clock() - started
            if prefilled and not self._schedule.has_time(sequence.remaining, running=running, spent=spent):
                break
            prefilled = True
            try:
                self._compute(sequence, running, events)
            except Exception as error:  # noqa: BLE001 - what goes wrong in one job's prefill ends this job alone
                self._fail(sequence, error, events)
            if sequence.row >= 0 and sequence.remaining:
                break
        return prefilled

    def _begin(self, sequence: Running, events: list[EngineEvent]) -> bool:
        """Let a job that waits have a row; whether it got one."""
        del self._waiting[sequence.job]
        try:
            self._rows.begin(sequence)
        except Exception as error:  # noqa: BLE001 - no memory, as a rule: it ends this job alone
            self._fail(sequence, error, events)
            return False
        return True

    def _compute(self, sequence: Running, running: int, events: list[EngineEvent]) -> None:
        """Compute a slice of a prompt, and choose what follows it where that was the last."""
        if not sequence.started:
            sequence.started = True
            events.append(Started(job=sequence.job, cached_tokens=sequence.computed))
            if not takes_the_likeliest(sequence.job):
                sequence.chooser = Chooser(sequence.job)
        begin = sequence.computed
        size = self._schedule.slice(sequence.remaining, running=running)
        started = self._clock()
        logits = self._model.compute(sequence.row, sequence.tokens[begin : begin + size], begin)
        self._schedule.prefilled(size, self._clock() - started)
        sequence.computed += size
        self._counters.prompt_tokens += size
        self._rows.keep(sequence, exact=True)
        if not sequence.remaining:
            self._choose(sequence, logits, events)
            if sequence.row >= 0:
                self._rows.join(sequence)

    # Running streams.

    def _decode(self, events: list[EngineEvent]) -> None:
        rows = tuple(self._rows.decoding)
        started = self._clock()
        try:
            logits = self._model.decode([one.tokens[-1] for one in rows], [len(one.tokens) for one in rows])
        except Exception as error:  # noqa: BLE001 - it fails the jobs of this pass, and no other
            for sequence in rows:
                self._fail(sequence, error, events)
            return
        self._schedule.decoded(self._clock() - started)
        # Of all rows before any leaves: what moves then must take its newest token along.
        for sequence in rows:
            sequence.computed += 1
        # From the last row on: where several end together, none of them moves to the row of another.
        for sequence, its_logits in zip(reversed(rows), reversed(logits), strict=True):
            self._choose(sequence, its_logits, events)

    def _decode_one(self, sequence: Running, events: list[EngineEvent]) -> None:
        """Decode a single stream: several tokens at once where guesses say what they may be."""
        if sequence.speculation is None:
            sequence.speculation = Speculation()
        said = len(sequence.tokens)
        # Behind the last guess, one more token comes of the check.
        guesses = sequence.speculation.guess(sequence.tokens)[: sequence.reserved - said - 1]
        if guesses:
            started = self._clock()
            try:
                logits = self._model.check(sequence.row, [sequence.tokens[-1], *guesses], sequence.computed)
            except Exception as error:  # noqa: BLE001 - it fails the jobs of this pass, and no other
                self._fail(sequence, error, events)
                return
            took = self._clock() - started
            for guess, its_logits in zip([*guesses, None], logits, strict=True):
                sequence.computed += 1
                self._choose(sequence, its_logits, events)
                if sequence.row < 0 or sequence.tokens[-1] != guess:
                    break
            tokens = len(sequence.tokens) - said
            sequence.speculation.checked(max(tokens, 1), took, self._schedule.decode_seconds)
        else:
            self._decode(events)

    def _choose(self, sequence: Running, logits: _Floats, events: list[EngineEvent]) -> None:
        """Choose a job's next token; a job that ends here leaves its row."""
        job, chooser = sequence.job, sequence.chooser
        try:
            if chooser is None:
                chosen = Chosen(_likeliest(logits), None)
            elif chooser.complete:  # before the first token: a grammar of nothing but the empty text
                self._finish(sequence, "stop", events)
                return
            else:
                chosen = chooser.choose(logits)
        except Exception as error:  # noqa: BLE001 - nothing to choose, or a grammar's own: this job alone
            self._fail(sequence, error, events)
            return
        self._counters.generated_tokens += 1
        if chosen.id in self._config.end_ids:
            self._finish(sequence, "stop", events)
            return
        sequence.tokens.append(chosen.id)
        events.append(Token(job=job, id=chosen.id, logprobs=chosen.logprobs))
        if chooser is not None and chooser.complete:
            self._finish(sequence, "stop", events)
        elif len(sequence.tokens) == sequence.reserved:
            self._finish(sequence, "length", events)

    def _finish(self, sequence: Running, reason: FinishReason, events: list[EngineEvent]) -> None:
        self._retire(sequence)
        events.append(Finished(job=sequence.job, reason=reason))

    def _retire(self, sequence: Running) -> None:
        """Keep what a job has computed for those that begin like it, and free its row."""
        self._rows.keep(sequence, exact=False)
        self._rows.leave(sequence)

    def _fail(self, sequence: Running, error: Exception, events: list[EngineEvent]) -> None:
        if sequence.row >= 0:
            self._rows.leave(sequence)
        events.append(Failed(job=sequence.job, error=error))


def _rewritten(layout: Layout) -> bytes | None:
    """The graph with an input for the positions whose logits are wanted; `None` where it cannot be had."""
    try:
        # What rewrites graphs is installed with what imports models.
        from foundry_runtime.importers.positions import with_logit_positions  # noqa: PLC0415
    except ImportError:
        logger.warning("no guessing of tokens: install foundry-proto[gguf]")
        return None
    return with_logit_positions(layout.path, logits=layout.logits, positions=POSITIONS_INPUT)


def _likeliest(logits: _Floats) -> int:
    token = int(logits.argmax())
    if not np.isfinite(logits[token]):
        raise ValueError(f"the logits have no finite maximum: {logits[token]}")
    return token


def _row_memory(layout: Layout, rows: int, length: int) -> RowMemory:
    """Room for so many rows, or for as many as the system gives address space for."""
    while True:
        try:
            return RowMemory(layout, rows, length)
        except MemoryError:
            if rows <= _LEAST_ROWS:
                raise
            rows = max(rows // 2, _LEAST_ROWS)
