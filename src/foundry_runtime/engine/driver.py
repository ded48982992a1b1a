"""From an engine's tokens to what a request receives: text, the end, or an error.

Knows: which jobs run, each job's text stream, and what a failure touches: one job, the jobs of one step, or
all that the engine will ever do.
Refuses to know: threads, event loops, and how a delivery travels: it is handed to a plain function.

A stop sequence ends its job in the very step that completed it, so neither the text nor the usage depends on
timing. Whatever happens, each submitted job that is not cancelled gets exactly one last delivery.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, assert_never, final

from attrs import Factory, define, frozen

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.api import (
    Engine,
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

__all__ = ["Broken", "Deliver", "Delivery", "Delta", "Done", "Driver", "TextStream"]


@frozen(kw_only=True)
class Delta:
    """A piece of the answer's text."""

    text: str
    """Whole characters, none of which can still turn out to belong to a stop sequence. Empty only in an
    answer's last delta, when its last tokens gave no text."""
    tokens: tuple[int, ...]
    """The ids whose text begins to leave with this delta, and those before them that have none of their own.
    A token whose text waits, because it may become a stop sequence, waits too; one that a stop sequence
    swallowed whole never comes."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each of the tokens, where the job asked for them."""


@frozen(kw_only=True)
class Done:
    """The last delivery of a job that ended well."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    """Tokens generated, the end token not counted; those that a stop sequence swallowed are."""
    cached_tokens: int


@frozen(kw_only=True)
class Broken:
    """The last delivery of a job that an error ended."""

    error: Exception
    """`Refused`: it never ran; `EngineLost`: nothing more will run here; any other: this job alone, or this
    step's jobs."""


Delivery = Delta | Done | Broken

Deliver = Callable[[Delivery], None]
"""Where a job's deliveries go; it neither waits nor raises."""


class TextStream(Protocol):
    """What the driver needs of `foundry_proto.chat.text_stream.TextStream`."""

    @property
    def stopped(self) -> str | None:
        """The stop sequence that ended the text, once one did."""
        ...

    @property
    def held(self) -> int:
        """How many characters are held back: a stop sequence may yet be made of them, or was."""
        ...

    def push(self, token: int, /) -> str:
        """The text that is certain after one more token."""
        ...

    def finish(self) -> str:
        """The text that was held back, at the end of the tokens."""
        ...


@define
class _Running:
    """A job in the engine, and what came of it so far."""

    text: TextStream
    deliver: Deliver
    held: deque[tuple[int, Token]] = Factory(deque)
    """Tokens that are in no delta yet, each with the number of characters before its own."""
    left: int = 0
    """Characters in the deltas so far."""
    completion_tokens: int = 0
    cached_tokens: int = 0

    def push(self, token: Token) -> str:
        """Take a token in; gives the text that may leave."""
        self.completion_tokens += 1
        self.held.append((self.left + self.text.held, token))
        text = self.text.push(token.id)
        self.left += len(text)
        return text

    def delta(self, text: str, *, last: bool = False) -> Delta:
        """The delta of this text and the tokens that it has begun to show; all that are left in the last."""
        tokens = []
        while self.held and (last or self.held[0][0] < self.left):
            tokens.append(self.held.popleft()[1])
        return Delta(
            text=text,
            tokens=tuple([token.id for token in tokens]),
            logprobs=tuple([token.logprobs for token in tokens if token.logprobs is not None]),
        )


@final
class Driver:
    """Feeds one engine with jobs and each job's text stream with its tokens; owned by one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running: dict[Job, _Running] = {}
        self._lost: EngineLost | None = None

    @property
    def busy(self) -> bool:
        """Whether any job is unfinished: only then is there a reason to `step`."""
        return bool(self._running)

    def submit(self, job: Job, text: TextStream, deliver: Deliver) -> None:
        """Take a job in. What comes of it, a refusal included, goes to `deliver`, at once or in a `step`."""
        if self._lost is not None:
            deliver(Broken(error=self._lost))
            return
        if job in self._running:
            deliver(Broken(error=LocalProtocolError("this job is running already: make a new one")))
            return
        try:
            self._engine.admit(job)
        except EngineLost as error:
            deliver(Broken(error=error))
            self.lose(error)
        except Exception as error:  # noqa: BLE001 - an engine may fail in any way; the request is told
            deliver(Broken(error=error))
        else:
            self._running[job] = _Running(text, deliver)

    def cancel(self, job: Job) -> None:
        """Forget a job: nothing more is delivered for it. One that has ended, or is unknown, is ignored."""
        if self._running.pop(job, None) is not None:
            self._drop(job)

    def step(self) -> None:
        """Let the engine compute one slice and deliver what came of it; never raises."""
        if not self._running:
            return
        try:
            events = self._engine.step()
        except EngineLost as error:
            self.lose(error)
        except Exception as error:  # noqa: BLE001 - the contract: it fails exactly the jobs of this step
            for job in tuple(self._running):
                self._break(job, error)
        else:
            for event in events:
                self._take(event)

    def lose(self, error: EngineLost) -> None:
        """Tell all jobs, and all that are submitted later, that the engine is gone."""
        self._lost = error
        running, self._running = self._running, {}
        for one in running.values():
            one.deliver(Broken(error=error))

    def _take(self, event: EngineEvent) -> None:
        running = self._running.get(event.job)
        if running is None:
            return  # a stop sequence, or its text stream's failure, ended it earlier in this step
        try:
            match event:
                case Started():
                    running.cached_tokens = event.cached_tokens
                case Token():
                    self._push(event, running)
                case Finished():
                    self._finish(event.job, running, event.reason)
                case Failed():
                    del self._running[event.job]
                    running.deliver(Broken(error=event.error))
                case _:
                    assert_never(event)
        except Exception as error:  # noqa: BLE001 - from the text stream: an id that is not in its table
            self._break(event.job, error)

    def _push(self, event: Token, running: _Running) -> None:
        text = running.push(event)
        if text:
            running.deliver(running.delta(text))
        if running.text.stopped is not None:
            del self._running[event.job]
            running.deliver(_done(event.job, running, "stop"))
            self._drop(event.job)

    def _finish(self, job: Job, running: _Running, reason: FinishReason) -> None:
        text = running.text.finish()
        del self._running[job]
        whole = running.text.stopped is None
        if text or (whole and running.held):
            running.deliver(running.delta(text, last=whole))
        running.deliver(_done(job, running, "stop" if running.text.stopped is not None else reason))

    def _break(self, job: Job, error: Exception) -> None:
        running = self._running.pop(job, None)
        if running is not None:
            running.deliver(Broken(error=error))
            self._drop(job)

    def _drop(self, job: Job) -> None:
        """Make the engine forget a job; an engine that cannot do even that is lost."""
        try:
            self._engine.cancel(job)
        except EngineLost as error:
            self.lose(error)
        except Exception as error:  # noqa: BLE001 - against the contract: its state is unknown from here on
            lost = EngineLost(f"the engine could not cancel a job: {error}")
            lost.__cause__ = error
            self.lose(lost)


def _done(job: Job, running: _Running, reason: FinishReason) -> Done:
    return Done(
        reason=reason,
        prompt_tokens=len(job.prompt),
        completion_tokens=running.completion_tokens,
        cached_tokens=running.cached_tokens,
    )
