"""The product over TCP with real engines, and the models that it has loaded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus
from attrs import frozen

from foundry_runtime.client import Client
from foundry_runtime.engine.process import ProcessEngine
from foundry_runtime.engine.worker import EngineWorker
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.engines import MakeEngine, make_engine
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.loading import ModelOpener
from foundry_runtime.models.pool import Loaded, LoadedModel
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.app import make_application

__all__ = ["Product", "real_product"]


@frozen
class Product:
    """A server that runs."""

    url: str
    client: Client
    stop: anyio.Event
    loaded: list[Loaded]
    """Each model that was loaded, also those that have gone."""

    @property
    def child(self) -> int:
        """The process of the engine that was loaded last."""
        model = self.loaded[-1]
        assert isinstance(model, LoadedModel)
        assert isinstance(model.worker, EngineWorker)
        assert isinstance(model.worker._engine, ProcessEngine)
        return model.worker._engine.pid


@asynccontextmanager
async def real_product(
    directory: ModelDirectory, *, make: MakeEngine = make_engine, drain: float = 10.0
) -> AsyncIterator[Product]:
    """Serve the models of a home."""
    loaded: list[Loaded] = []

    class Opener(ModelOpener):
        async def __call__(self, folder: ModelFolder, provider: str | None) -> Loaded:
            model = await super().__call__(folder, provider)
            loaded.append(model)
            return model

    application = make_application(directory, Opener(make=make))
    listeners = await open_tcp_listeners("127.0.0.1", 0)
    stop = anyio.Event()
    async with anyio.create_task_group() as group:

        async def run(*, task_status: TaskStatus[None]) -> None:
            await serve(application, listeners, stop=stop, drain=drain, task_status=task_status)

        await group.start(run)
        url = f"http://{listeners[0].address}"
        async with Client(url) as client:
            yield Product(url, client, stop, loaded)
        stop.set()
