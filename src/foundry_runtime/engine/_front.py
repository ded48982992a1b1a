"""The door of a worker: where jobs enter, from any thread, on their way to the engine's one owner.

Knows: the commands that an owner is given, and how each becomes a call of the driver; that nobody who waits
is left waiting when the owner is gone.
Refuses to know: who the owner is, a thread or a task, and how it waits for commands (`worker.py`).

The laws:
- A job that enters is answered: by the driver, or, once the door is shut, by `Broken` at the door.
- What cancels a job never waits, and may come too late: then it does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import assert_never

from attrs import frozen

from foundry_runtime.engine.api import Counters, Engine, EngineLost, Job, Perishable
from foundry_runtime.engine.driver import Broken, Deliver, Delivery, Driver, TextStream
from foundry_runtime.engine.generation import Generation, Generations
from foundry_runtime.wakeup import Inbox

__all__ = ["Cancel", "Close", "Command", "Front", "Submit", "break_all", "closed", "failed", "perform"]


@frozen(eq=False)
class Submit:
    """A job to be computed, and who is told of it."""

    job: Job
    text: TextStream
    deliver: Deliver


@frozen(eq=False)
class Cancel:
    """A job that nobody wants any more."""

    job: Job


@frozen(eq=False)
class Close:
    """The end of all."""


Command = Submit | Cancel | Close


class Front:
    """What both workers show: the engine's numbers, and the door where jobs enter."""

    def __init__(self, name: str, send: Callable[[Command], None]) -> None:
        self.name = name
        self._send = send
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._gone: EngineLost | None = None

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and output together."""
        return self._loaded().context_length

    @property
    def counters(self) -> Counters:
        """The engine's running totals."""
        return self._loaded().counters

    @property
    def lost(self) -> bool:
        """Whether nothing more will be generated here."""
        engine = self._loaded()
        return self._gone is not None or (isinstance(engine, Perishable) and engine.lost)

    @property
    def process(self) -> int | None:
        """The process that the engine is in, if it has one of its own."""
        engine = self._loaded()
        return engine.pid if isinstance(engine, Perishable) else None

    def submit(self, job: Job, text: TextStream) -> Generation:
        """Give a job to the engine; see `Worker.submit`."""
        inbox: Inbox[Delivery] = Inbox()
        return Generation(inbox, self._enter(job, text, inbox.put))

    def submit_all(self, jobs: Sequence[tuple[Job, TextStream]]) -> Generations:
        """Give several jobs to the engine; see `Worker.submit_all`."""
        inbox: Inbox[tuple[int, Delivery]] = Inbox()

        def deliver(number: int) -> Deliver:
            return lambda delivery: inbox.put((number, delivery))

        cancels = [self._enter(job, text, deliver(number)) for number, (job, text) in enumerate(jobs)]
        return Generations(inbox, cancels)

    def _enter(self, job: Job, text: TextStream, deliver: Deliver) -> Callable[[], None]:
        """Let a job in; gives how to cancel it."""
        with self._lock:
            if self._gone is None:
                self._send(Submit(job, text, deliver))
            else:
                deliver(Broken(error=self._gone))
        return lambda: self._send(Cancel(job))

    def _shut(self, error: EngineLost) -> None:
        """From here on jobs are answered at the door: none waits for an owner that is gone."""
        with self._lock:
            self._gone = error

    def _loaded(self) -> Engine:
        assert self._engine is not None, "start() gives a worker only once its engine is loaded"
        return self._engine


def perform(driver: Driver, command: Command) -> bool:
    """Hand a command to the driver; whether to go on."""
    match command:
        case Submit():
            driver.submit(command.job, command.text, command.deliver)
        case Cancel():
            driver.cancel(command.job)
        case Close():
            return False
        case _:
            assert_never(command)
    return True


def break_all(driver: Driver, left: Sequence[Command], error: EngineLost) -> None:
    """Answer every job that is running or was about to: nobody will step the engine any more."""
    driver.lose(error)
    for command in left:
        if isinstance(command, Submit):
            command.deliver(Broken(error=error))


def failed(name: str, error: BaseException) -> EngineLost:
    """What is told when the owner itself has failed."""
    lost = EngineLost(f"the worker of {name} failed: {error!r}")
    lost.__cause__ = error
    return lost


def closed(name: str) -> EngineLost:
    """What is told when the worker was closed."""
    return EngineLost(f"the engine of {name} was closed")
