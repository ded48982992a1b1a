"""From a model's name to the loaded model, for as long as a request runs.

Knows: in which order that can fail, and that a model either generates text or gives vectors.
Refuses to know: what a request wants of its model.

    @sends_refusals
    async def count_tokens(services, request, send):
        async with model_for(services, request.value.model) as model:
            ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import wraps
from typing import Any, TypeAlias, TypeVar

import anyio.to_thread
from attrs import evolve

from foundry_proto.events import Failure, Request, Response, StreamItem
from foundry_proto.exchange import Answer
from foundry_proto.jsontext import ContentError
from foundry_proto.providers import requested_provider
from foundry_proto.sentinels import ABSENT, Maybe
from foundry_runtime.application import Send
from foundry_runtime.models.catalog import Catalog
from foundry_runtime.models.folder import BadModelFolder, ModelFolder, Task
from foundry_runtime.models.pool import Loaded, LoadedEncoder, LoadedModel, LoadFailed
from foundry_serve.failures import load_failure, model_elsewhere, no_such_model, not_moved, wrong_task
from foundry_serve.observing import note
from foundry_serve.services import Services

__all__ = ["Refusal", "encoder_for", "model_for", "noting_provider", "refusing", "sends_refusals"]

RequestT = TypeVar("RequestT")

_Handles: TypeAlias = Callable[[Services, Request[RequestT], Send], Coroutine[Any, Any, None]]


class Refusal(Exception):
    """A request that cannot be served, found before its answer began.

    Args:
        failure: The answer.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def sends_refusals(handler: _Handles[RequestT]) -> _Handles[RequestT]:
    """Make a handler whose `Refusal` is sent as its answer."""

    @wraps(handler)
    async def handle(services: Services, request: Request[RequestT], send: Send) -> None:
        try:
            await handler(services, request, send)
        except Refusal as refusal:
            await send(refusal.failure)

    return handle


@contextmanager
def refusing() -> Iterator[None]:
    """Answer with status 400 what a request's content makes impossible.

    Raises:
        Refusal: For a `ContentError`, naming the same field.
    """
    try:
        yield
    except ContentError as error:
        raise Refusal(Failure(status=400, message=str(error), param=error.param)) from error


@asynccontextmanager
async def model_for(
    services: Services, name: str, *, ttl: float | None = None, ep: Maybe[str] = ABSENT
) -> AsyncIterator[LoadedModel]:
    """Give the model of this name, ready to generate, for as long as the request runs.

    Args:
        services: The models.
        name: As the client wrote it.
        ttl: Seconds that the model stays in memory after its last use from now on; `None` changes nothing.
        ep: The execution provider that the request wants, as the client wrote it. A model that is in use
            stays where it is; the answer says so if it is sent by way of `noting_provider`.

    Raises:
        Refusal: No model of this name is here, it cannot be loaded, not on this provider, or it does not
            generate.
    """
    with refusing():
        provider = requested_provider(ep or "")
    async with _leased(services, name, "chat-completion", ttl, provider) as model:
        if not isinstance(model, LoadedModel):
            raise Refusal(wrong_task(model.folder))
        yield model


def noting_provider(send: Send, model: Loaded, ep: Maybe[str]) -> Send:
    """Have an answer say in its head that the model runs elsewhere than it was asked to, if it does."""
    note = not_moved(requested_provider(ep or ""), model.provider)
    if not note:
        return send
    first = True

    async def send_noted(*events: Answer) -> None:
        nonlocal first
        if first and events and isinstance(events[0], Response | StreamItem | Failure):
            events = (evolve(events[0], headers=(*events[0].headers, *note)), *events[1:])
            first = False
        await send(*events)

    return send_noted


@asynccontextmanager
async def encoder_for(services: Services, name: str) -> AsyncIterator[LoadedEncoder]:
    """Give the model of this name, ready to give vectors, for as long as the request runs.

    Raises:
        Refusal: No model of this name is here, it cannot be loaded, or it gives no vectors.
    """
    async with _leased(services, name, "embeddings") as model:
        if not isinstance(model, LoadedEncoder):
            raise Refusal(wrong_task(model.folder))
        yield model


@asynccontextmanager
async def _leased(
    services: Services, name: str, task: Task, ttl: float | None = None, provider: str | None = None
) -> AsyncIterator[Loaded]:
    try:
        folder = await anyio.to_thread.run_sync(_find, services.catalog, name)
        note(model=folder.id)
        if folder.task != task:  # told without loading it
            raise Refusal(wrong_task(folder))
        async with services.pool.lease(folder, ttl=ttl, provider=provider) as model:
            yield model
    except (BadModelFolder, LoadFailed) as error:
        raise Refusal(load_failure(error)) from error


def _find(catalog: Catalog, name: str) -> ModelFolder:
    """The folder of the model that a name means; looks at the disk."""
    folder = catalog.folder(name)
    if folder is not None:
        return folder
    found = catalog.resolve(name)
    if found is not None and found.cached:
        raise Refusal(model_elsewhere(found.id))
    raise Refusal(no_such_model(name, known=found is not None))
