"""An engine's own process: makes the engine that its owner names, and does what the owner says.

Knows: that its standard input and output are the owner's pipe, so that nothing else may print there; that it
ends when the owner does; and that a grammar stays with the owner, who is asked what it allows.
Refuses to know: which engine it is.

`foundry_runtime.engine.process` starts it.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar, final

from attrs import define, field, frozen

from foundry_runtime.engine import _frames as frames
from foundry_runtime.engine import _messages as messages
from foundry_runtime.engine._troubles import error_of, trouble_of
from foundry_runtime.engine.api import (
    Engine,
    EngineEvent,
    Failed,
    Finished,
    Guide,
    Job,
    Sampling,
    Started,
    Token,
    TokenLogprobs,
)
from foundry_runtime.platform import (
    end_with_parent,
    leave_signals_to_parent,
    offer_memory_first,
    return_large_memory_at_once,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["main", "serve"]

MessageT = TypeVar("MessageT")

_STDIN, _STDOUT, _STDERR = 0, 1, 2


class _OwnerGone(Exception):
    """The pipe is closed, or brings nonsense: there is nobody to work for."""


@define(eq=False)
class _Pipe:
    """Both directions."""

    _inward: BinaryIO
    _outward: BinaryIO

    def send(self, message: messages.Message) -> None:
        try:
            frames.write_message(self._outward, message)
        except OSError as error:
            raise _OwnerGone from error

    def receive(self) -> messages.Message:
        try:
            message = frames.read_message(self._inward)
        except (OSError, frames.FrameError) as error:
            raise _OwnerGone from error
        if message is None:
            raise _OwnerGone
        return message

    def ask(self, question: messages.Message, kind: type[MessageT]) -> MessageT:
        """Ask the owner amid a step.

        Raises:
            Exception: What the owner was answered with.
        """
        self.send(question)
        match answer := self.receive():
            case messages.Trouble():
                raise error_of(answer)
            case _ if isinstance(answer, kind):
                return answer
        raise _OwnerGone


@final
@frozen
class _Grammar:
    """A job's grammar, which the owner has."""

    _pipe: _Pipe
    _number: int

    def begin(self) -> Guide:
        return _Guide(
            self._pipe, self._number, self._pipe.ask(messages.Begin(self._number), messages.Cast).complete
        )


@final
@define
class _Guide:
    """How far the owner has come in a job's grammar."""

    _pipe: _Pipe
    _number: int
    complete: bool

    def constrain(self, logits: npt.NDArray[np.float32]) -> None:
        import numpy as np  # noqa: PLC0415 - an engine without logits needs no numpy

        mask = self._pipe.ask(messages.Constrain(self._number, len(logits)), messages.Mask)
        allowed = np.unpackbits(np.frombuffer(mask.bits, dtype=np.uint8), count=len(logits))
        logits[allowed == 0] = -np.inf

    def accept(self, token: int) -> None:
        self.complete = self._pipe.ask(messages.Accepted(self._number, int(token)), messages.Cast).complete


@define(eq=False)
class _Jobs:
    """The jobs that run, by their numbers."""

    _pipe: _Pipe
    by_number: dict[int, Job] = field(factory=dict)
    _numbers: dict[Job, int] = field(factory=dict)

    def make(self, asked: messages.Admit) -> Job:
        """Make the job that an owner describes."""
        prompt = asked.prompt if asked.same_as is None else self.by_number[asked.same_as].prompt
        return Job(
            prompt=prompt,
            max_tokens=asked.max_tokens,
            logprobs=asked.logprobs,
            grammar=_Grammar(self._pipe, asked.number) if asked.grammar else None,
            sampling=Sampling(
                temperature=asked.temperature,
                top_p=asked.top_p,
                top_k=asked.top_k,
                min_p=asked.min_p,
                repetition_penalty=asked.repetition_penalty,
                presence_penalty=asked.presence_penalty,
                frequency_penalty=asked.frequency_penalty,
                logit_bias=_mapping(asked.biased, asked.biases),
                seed=None if asked.seed is None else int(asked.seed),
            ),
        )

    def add(self, number: int, job: Job) -> None:
        self.by_number[number] = job
        self._numbers[job] = number

    def pop(self, number: int) -> Job | None:
        job = self.by_number.pop(number, None)
        if job is not None:
            del self._numbers[job]
        return job

    def clear(self) -> None:
        self.by_number.clear()
        self._numbers.clear()

    def describe(self, event: EngineEvent) -> messages.Begun | messages.Said | messages.Ended:
        """An event as the owner is told of it; a job that has ended with it is forgotten."""
        number = self._numbers[event.job]
        match event:
            case Started():
                return messages.Begun(number, event.cached_tokens)
            case Token():
                return messages.Said(number, event.id, _likely(event.logprobs))
            case Finished():
                self.pop(number)
                return messages.Ended(number, event.reason)
            case Failed():
                self.pop(number)
                return messages.Ended(number, "", trouble_of(event.error))


def _likely(logprobs: TokenLogprobs | None) -> messages.Likely | None:
    if logprobs is None:
        return None
    ids, values = [one[0] for one in logprobs.top], [one[1] for one in logprobs.top]
    return messages.Likely(logprobs.logprob, tuple(ids), tuple(values))


def _mapping(keys: Sequence[int], values: Sequence[float]) -> Mapping[int, float]:
    return MappingProxyType(dict(zip(keys, values, strict=True)))


def serve(engine: Engine, pipe: _Pipe) -> None:
    """Do what the owner says, until it says that this is all.

    Raises:
        _OwnerGone: It is gone.
    """
    jobs = _Jobs(pipe)
    while True:
        match message := pipe.receive():
            case messages.Step():
                answer = _step(engine, jobs)
            case messages.Admit():
                answer = _admit(engine, jobs, message)
            case messages.Cancel():
                # What this raises ends the process: the engine's state is unknown, and the owner will see.
                job = jobs.pop(message.number)
                if job is not None:
                    engine.cancel(job)
                continue
            case _:
                return
        pipe.send(answer)


def _admit(engine: Engine, jobs: _Jobs, asked: messages.Admit) -> messages.Message:
    try:
        job = jobs.make(asked)
        engine.admit(job)
    except _OwnerGone:
        raise
    except Exception as error:  # noqa: BLE001 - the owner raises it again
        return trouble_of(error)
    jobs.add(asked.number, job)
    return messages.Admitted()


def _step(engine: Engine, jobs: _Jobs) -> messages.Message:
    try:
        events = engine.step()
    except _OwnerGone:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        jobs.clear()  # it has failed all that there were, and the owner has forgotten them, too
        return trouble_of(error)
    counters = engine.counters
    return messages.Events(
        counters.steps,
        counters.prompt_tokens,
        counters.generated_tokens,
        tuple([jobs.describe(event) for event in events]),
    )


class _ToOwner(logging.Handler):
    """Has the owner log what this process logs."""

    def __init__(self, pipe: _Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(_OwnerGone):
            self._pipe.send(messages.LogLine(record.levelno, record.name, self.format(record)))


@contextmanager
def _logging_to(pipe: _Pipe, level: int) -> Iterator[None]:
    handler = _ToOwner(pipe)
    logging.basicConfig(level=level, handlers=[handler], format="%(message)s")
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


@contextmanager
def _owners_pipe() -> Iterator[_Pipe]:
    """The pipe, for this program alone: whatever prints, native libraries too, prints to the error output
    from here on."""
    inward, outward = os.fdopen(os.dup(_STDIN), "rb"), os.fdopen(os.dup(_STDOUT), "wb")
    os.dup2(_STDERR, _STDOUT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, _STDIN)
    os.close(nothing)
    try:
        yield _Pipe(inward, outward)
    finally:
        inward.close()
        with suppress(OSError):  # what has not been written has nobody who would read it
            outward.close()


def main() -> int:
    """Be an engine's process; gives its exit status."""
    leave_signals_to_parent()
    faulthandler.enable()  # a native library that ends the process leaves a trace
    with _owners_pipe() as pipe, suppress(_OwnerGone):
        hello = pipe.receive()
        if not isinstance(hello, messages.Hello):
            return _MISUNDERSTOOD
        end_with_parent(hello.parent, hello.birth)
        if hello.version != messages.VERSION:
            pipe.send(messages.Ready(messages.VERSION, 0))
            return _MISUNDERSTOOD
        with _logging_to(pipe, hello.log_level):
            _run(pipe, hello)
    return 0


_MISUNDERSTOOD: Final = 2


def _run(pipe: _Pipe, hello: messages.Hello) -> None:
    offer_memory_first()
    return_large_memory_at_once()
    try:
        module, _, name = hello.factory.partition(":")
        engine: Engine = getattr(importlib.import_module(module), name)(**json.loads(hello.arguments))
    except Exception as error:  # noqa: BLE001 - the owner raises it again
        pipe.send(trouble_of(error))
        return
    gc.freeze()  # as in any program that serves: what was imported stays
    try:
        pipe.send(messages.Ready(messages.VERSION, engine.context_length))
        serve(engine, pipe)
    finally:
        engine.close()


if __name__ == "__main__":
    sys.exit(main())
