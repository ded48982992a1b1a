"""Who steps an engine: a thread of its own, or a task of an event loop.

Knows: that an engine is loaded, stepped and closed by one owner; how commands reach that owner and how
deliveries come back; that nobody who waits is ever left waiting.
Refuses to know: what an engine computes, and what the text means.

    worker = await EngineWorker.start(load_engine, name="smollm2-135m")
    generation = worker.submit(job, text)
    try:
        while not finished:
            for delivery in await generation.receive(): ...
    finally:
        generation.cancel()

The owner never waits for a reader: a job's inbox cannot exceed the job's allowed output.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from foundry_runtime.engine._front import Close, Command, Front, break_all, closed, failed, perform
from foundry_runtime.engine.api import Counters, Engine, Job
from foundry_runtime.engine.driver import Driver, TextStream
from foundry_runtime.engine.generation import Generation, Generations
from foundry_runtime.engine.turns import Turns
from foundry_runtime.wakeup import Inbox, Latch

__all__ = ["EngineFactory", "EngineWorker", "InlineWorker", "Worker"]

EngineFactory = Callable[[], Engine]
"""Loads a model and gives its engine; called once, by the owner."""


class Worker(Protocol):
    """What serves jobs with one model."""

    @property
    def name(self) -> str:
        """What messages call it: the model's id."""
        ...

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and output together."""
        ...

    @property
    def counters(self) -> Counters:
        """The engine's running totals."""
        ...

    @property
    def lost(self) -> bool:
        """Whether nothing more will be generated here; it may have happened while nobody asked anything."""
        ...

    @property
    def process(self) -> int | None:
        """The process that the engine is in, if it has one of its own."""
        ...

    def submit(self, job: Job, text: TextStream) -> Generation:
        """Give a job to the engine; to be called in the event loop that will receive from the generation.

        It never waits and never raises for what the job is: `Refused`, and a closed or lost engine
        (`EngineLost`), come as a `Broken`.

        Args:
            job: One sequence.
            text: Makes text of its tokens, in the worker; ends the job where a stop text is found.

        Returns:
            Where its deliveries come, in their order.
        """
        ...

    def submit_all(self, jobs: Sequence[tuple[Job, TextStream]]) -> Generations:
        """Give jobs to the engine, to receive from all of them at once; see `submit`.

        Args:
            jobs: At least one; each delivery comes with its job's index among them.
        """
        ...

    async def aclose(self) -> None:
        """End all jobs (`Broken`, with an `EngineLost`), free the engine, and wait until that is done.

        A cancelled caller waits too: nothing is left running behind. Calling it again waits likewise.

        Raises:
            Exception: What the engine's own `close` raised.
        """
        ...


@final
class EngineWorker(Front):
    """Steps an engine in a thread of its own, where it is also loaded and closed; make it with `start`.

    The loop is free while the engine loads and computes. Jobs may come from several event loops.
    """

    # Choice: a daemon thread, stopped and joined by an `atexit` function. A plain thread that nobody closed
    # would hang the interpreter's exit; a daemon alone would be inside native code while that code's own
    # globals are destroyed. The join waits for one step, or for a load to end.

    def __init__(self, factory: EngineFactory, name: str, turns: Turns) -> None:
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        super().__init__(name, self._commands.put)
        self._factory = factory
        self._turns = turns
        self._load_ended = Latch()
        self._ended = Latch()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name=f"engine {name}", daemon=True)

    @classmethod
    async def start(
        cls, factory: EngineFactory, *, name: str = "engine", turns: Turns | None = None
    ) -> EngineWorker:
        """Start the thread and wait until the engine is loaded.

        Args:
            factory: Loads the model; called in the new thread.
            name: The model's id, for messages and for the thread's name.
            turns: Shared by the workers that share the machine's cores.

        Raises:
            Exception: What `factory` raised, such as `ModelLoadError`. No thread is left.

        A cancelled caller waits until the thread has ended: a load cannot be interrupted, but its engine is
        closed at once.
        """
        worker = cls(factory, name, Turns() if turns is None else turns)
        worker._thread.start()
        atexit.register(worker._stop)
        try:
            await worker._load_ended.wait()
        except BaseException:
            await worker._end()
            raise
        if worker._engine is None:
            await worker.aclose()  # raises what the factory raised
        return worker

    async def aclose(self) -> None:
        """End all jobs, free the engine and end the thread; see `Worker.aclose`."""
        await self._end()
        if self._error is not None:
            raise self._error

    async def _end(self) -> None:
        self._commands.put(Close())
        with anyio.CancelScope(shield=True):
            await self._ended.wait()
        self._thread.join()  # it has nothing left to do but return
        atexit.unregister(self._stop)

    def _stop(self) -> None:
        """At the interpreter's exit: the thread must not be inside native code from here on."""
        self._commands.put(Close())
        self._thread.join()

    def _main(self) -> None:
        try:
            engine = self._factory()
        except BaseException as error:  # noqa: BLE001 - raised again in `start`
            self._error = error
        else:
            self._engine = engine
            self._load_ended.set()
            self._serve(engine)
        finally:
            self._load_ended.set()
            self._ended.set()

    def _serve(self, engine: Engine) -> None:
        driver = Driver(engine)
        gone = closed(self.name)
        try:
            self._run(driver)
        except BaseException as error:  # noqa: BLE001 - a bug of ours; those who wait are told
            gone = failed(self.name, error)
        self._shut(gone)
        break_all(driver, self._left(), gone)
        try:
            engine.close()
        except BaseException as error:  # noqa: BLE001 - raised again in `aclose`
            self._error = error

    def _run(self, driver: Driver) -> None:
        while True:
            try:
                command = self._commands.get(block=not driver.busy)
            except queue.Empty:
                with self._turns:
                    driver.step()
            else:
                if not perform(driver, command):
                    return

    def _left(self) -> list[Command]:
        left: list[Command] = []
        while not self._commands.empty():
            left.append(self._commands.get())
        return left


@final
class InlineWorker(Front):
    """Steps an engine as a task of the caller's task group; make it with `start`.

    For tests under a virtual clock, and for embedding without threads. Each step blocks the loop for as long
    as it takes; after each, the loop runs whatever else is ready.
    """

    def __init__(self, name: str, step_seconds: float) -> None:
        self._commands: Inbox[Command] = Inbox()
        super().__init__(name, self._commands.put)
        self._step_seconds = step_seconds
        self._ended = Latch()
        self._error: Exception | None = None

    @classmethod
    async def start(
        cls, factory: EngineFactory, *, tasks: TaskGroup, name: str = "engine", step_seconds: float = 0.0
    ) -> InlineWorker:
        """Start a task that loads the engine and then steps it.

        Args:
            factory: Loads the model; the loop stands still meanwhile.
            tasks: Owns the stepping task. When it is cancelled the worker closes as by `aclose`.
            name: The model's id, for messages.
            step_seconds: How long to sleep after each step: a step's duration on a virtual clock.

        Raises:
            Exception: What `factory` raised, such as `ModelLoadError`; `tasks` goes on.
        """
        worker = cls(name, step_seconds)
        await tasks.start(worker._main, factory, name=f"engine {name}")
        return worker

    async def aclose(self) -> None:
        """End all jobs and free the engine; see `Worker.aclose`."""
        self._commands.put(Close())
        with anyio.CancelScope(shield=True):
            await self._ended.wait()
        if self._error is not None:
            raise self._error

    async def _main(self, factory: EngineFactory, *, task_status: TaskStatus[None]) -> None:
        engine = self._engine = factory()
        driver = Driver(engine)
        gone = closed(self.name)
        try:
            task_status.started()
            await self._run(driver)
        except Exception as error:  # noqa: BLE001 - a bug of ours; those who wait are told
            gone = failed(self.name, error)
        finally:  # a cancelled task group comes this way too
            self._shut(gone)
            break_all(driver, self._commands.receive_nowait(), gone)
            try:
                engine.close()
            except Exception as error:  # noqa: BLE001 - raised again in `aclose`
                self._error = error
            self._ended.set()

    async def _run(self, driver: Driver) -> None:
        while True:
            commands = self._commands.receive_nowait() if driver.busy else await self._commands.receive()
            for number, command in enumerate(commands, start=1):
                if not perform(driver, command):
                    for late in commands[number:]:
                        self._commands.put(late)
                    return
            driver.step()
            await anyio.sleep(self._step_seconds)
