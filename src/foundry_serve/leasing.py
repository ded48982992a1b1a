"""From a model's name to the loaded model, for as long as a request runs.

Knows: in which order that can fail, and that a model either generates text or gives vectors.
Refuses to know: what a request wants of its model.

    try:
        async with model_for(services, body.model) as model:
            ...
    except Refusal as refusal:
        await send(refusal.failure)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread

from foundry_proto.events import Failure
from foundry_runtime.models.folder import BadModelFolder, ModelFolder, Task
from foundry_runtime.models.pool import Loaded, LoadedEncoder, LoadedModel, LoadFailed
from foundry_serve.failures import load_failure, no_such_model, wrong_task
from foundry_serve.services import Services

__all__ = ["Refusal", "encoder_for", "model_for"]


class Refusal(Exception):
    """A request that cannot be served, found before its answer began.

    Args:
        failure: The answer.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@asynccontextmanager
async def model_for(services: Services, name: str, *, ttl: float | None = None) -> AsyncIterator[LoadedModel]:
    """Give the model of this name, ready to generate, for as long as the request runs.

    Args:
        services: The models.
        name: As the client wrote it.
        ttl: Seconds that the model stays in memory after its last use from now on; `None` changes nothing.

    Raises:
        Refusal: No model of this name is here, it cannot be loaded, or it does not generate.
    """
    async with _leased(services, name, "chat-completion", ttl) as model:
        if not isinstance(model, LoadedModel):
            raise Refusal(wrong_task(model.folder))
        yield model


@asynccontextmanager
async def encoder_for(services: Services, name: str) -> AsyncIterator[LoadedEncoder]:
    """Give the model of this name, ready to give vectors, for as long as the request runs.

    Raises:
        Refusal: No model of this name is here, it cannot be loaded, or it gives no vectors.
    """
    async with _leased(services, name, "embeddings", None) as model:
        if not isinstance(model, LoadedEncoder):
            raise Refusal(wrong_task(model.folder))
        yield model


@asynccontextmanager
async def _leased(services: Services, name: str, task: Task, ttl: float | None) -> AsyncIterator[Loaded]:
    try:
        folder: ModelFolder | None = await anyio.to_thread.run_sync(services.catalog.folder, name)
        if folder is None:
            raise Refusal(no_such_model(name))
        if folder.task != task:  # told without loading it
            raise Refusal(wrong_task(folder))
        async with services.pool.lease(folder, ttl=ttl) as model:
            yield model
    except (BadModelFolder, LoadFailed) as error:
        raise Refusal(load_failure(error)) from error
