"""The product's application over a scripted engine: real tokenizer and template, and answers by script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from foundry_proto.connection import Limits
from foundry_proto.exchange import Gate
from foundry_proto.messages.chat import MAX_MESSAGES
from foundry_runtime.download.sources.api import Source
from foundry_runtime.engine.api import Job
from foundry_runtime.engine.driver import TextStream
from foundry_runtime.engine.generation import Generation, Generations
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.engine.text.prompt import PromptMaker
from foundry_runtime.engine.worker import InlineWorker
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.loading import make_prompts, open_encoder
from foundry_runtime.models.pool import Loaded, LoadedModel, ModelPool
from foundry_runtime.models.published.models import PublishedModels
from foundry_runtime.server import TimeOuts
from foundry_serve.app import make_application
from foundry_serve.observing import Watching
from foundry_serve.services import Services
from tests.support.serving import Served

__all__ = ["ScriptedModels", "scripted_server"]


@define
class ScriptedModels:
    """An `OpenModel` whose engines say what they are told to say; what gives vectors is real."""

    tasks: TaskGroup
    text: str = "one two three"
    """What every answer is, in one token per letter or more, as the tokenizer has it; the text of a special
    token is that token."""
    engine: Callable[..., ScriptedEngine] = ScriptedEngine
    failures: list[Exception] = field(factory=list)
    """Raised by the next loads, one each."""
    step_seconds: float = 0.0
    available: Sequence[str] = ("cpu",)
    """The execution providers that are there."""
    loads: int = 0
    jobs: list[Job] = field(factory=list)
    engines: list[ScriptedEngine] = field(factory=list)
    prompts: list[PromptMaker] = field(factory=list)
    """What made the prompts, of each model loaded."""
    services: list[Services] = field(factory=list)
    """What the application's handlers share; one, once it runs."""

    @property
    def pool(self) -> ModelPool:
        """The models in memory."""
        return self.services[0].pool

    async def providers(self) -> Sequence[str]:
        return self.available

    async def __call__(self, folder: ModelFolder, provider: str | None) -> Loaded:
        self.loads += 1
        await anyio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        if folder.task == "embeddings":
            return await open_encoder(folder, threads=1)
        prompts = make_prompts(folder)
        self.prompts.append(prompts)

        def make_engine() -> ScriptedEngine:
            engine = self.engine(
                self._say(prompts),
                context_length=folder.context_length,
                vocabulary=folder.vocab_size,
                end_ids=folder.end_ids,
            )
            self.engines.append(engine)
            return engine

        worker = await InlineWorker.start(
            make_engine, tasks=self.tasks, name=folder.id, step_seconds=self.step_seconds
        )
        return LoadedModel(
            folder=folder,
            worker=_Recorder(worker, self.jobs),
            prompts=prompts,
            provider=provider or folder.provider,
        )

    def _say(self, prompts: PromptMaker) -> Callable[[object], list[int]]:
        return lambda _: list(prompts.make_text(self.text).ids)


class _Recorder:
    """A worker that remembers its jobs."""

    def __init__(self, worker: InlineWorker, jobs: list[Job]) -> None:
        self._worker = worker
        self._jobs = jobs
        self.name = worker.name
        self.context_length = worker.context_length
        self.counters = worker.counters
        self.aclose = worker.aclose

    @property
    def lost(self) -> bool:
        return self._worker.lost

    @property
    def process(self) -> int | None:
        return self._worker.process

    def submit(self, job: Job, text: TextStream) -> Generation:
        self._jobs.append(job)
        return self._worker.submit(job, text)

    def submit_all(self, jobs: Sequence[tuple[Job, TextStream]]) -> Generations:
        self._jobs += [job for job, _ in jobs]
        return self._worker.submit_all(jobs)


@asynccontextmanager
async def scripted_server(
    home: ModelDirectory,
    *,
    time_outs: TimeOuts | None = None,
    endpoints: Sequence[str] = (),
    stop: Callable[[], None] | None = None,
    sources: Sequence[Source] = (),
    watching: Watching | None = None,
    published: PublishedModels | None = None,
    gate: Gate | None = None,
    limits: Limits | None = None,
    most_messages: int = MAX_MESSAGES,
    **more: object,
) -> AsyncIterator[tuple[Served, ScriptedModels]]:
    """Serve the product's application in memory, with scripted answers."""
    async with anyio.create_task_group() as tasks:
        models = ScriptedModels(tasks, **more)  # type: ignore[arg-type]
        application = make_application(
            home,
            models,
            endpoints=endpoints,
            stop=stop,
            sources=sources,
            published=published,
            gate=gate,
            most_messages=most_messages,
            watching=watching,
        )
        async with application.running() as services, anyio.create_task_group() as connections:
            models.services.append(services)
            yield Served(application, None, connections, time_outs or TimeOuts(), limits), models
            connections.cancel_scope.cancel()
        tasks.cancel_scope.cancel()
