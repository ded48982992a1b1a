"""Models of other servers: registered, taken back, and requests for them relayed.

Knows: that a model which the catalogue has otherwise goes before a registered one of the same name.
Refuses to know: HTTP, and how a registration is kept.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import anyio.to_thread

from foundry_proto.events import Failure, Request, Response
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.registration import RegisteredWords, RegisterRequest
from foundry_runtime.application import Send
from foundry_runtime.models.registered import ExternalModel
from foundry_serve.observing import note
from foundry_serve.services import Services

__all__ = ["Asking", "register_model", "relayed", "unregister_model"]


async def register_model(services: Services, request: Request[RegisterRequest], send: Send) -> None:
    """Answer `POST /openai/register`."""
    try:
        model = ExternalModel.registered(request.value)
    except ContentError as error:
        await send(Failure(status=400, message=str(error), param=error.param))
        return
    found = await anyio.to_thread.run_sync(services.catalog.resolve, model.name)
    if found is not None and services.registered.find(found.id) is None:
        message = f"ModelName: {model.name} is the name of {found.id}, which is no registered model"
        await send(Failure(status=409, message=message, param="ModelName", code="name_taken"))
        return
    await anyio.to_thread.run_sync(services.registered.add, model)
    await send(Response(value=None))


async def unregister_model(services: Services, request: Request[None], send: Send) -> None:
    """Answer `DELETE /openai/register/{name}`."""
    words: RegisteredWords = request.head.query
    if await anyio.to_thread.run_sync(services.registered.remove, words.name):
        await send(Response(value=None))
        return
    message = f"name: no model is registered as {words.name[:200]}"
    await send(Failure(status=404, message=message, param="name", code="model_not_found"))


AskingT = TypeVar("AskingT", bound="Asking")


class Asking(Protocol):
    """A request that names a model."""

    @property
    def model(self) -> str:
        """Alias or id of the model."""
        ...


async def relayed(services: Services, request: Request[AskingT], send: Send) -> bool:
    """Answer a request whose model another server has; whether this was one."""
    # On the loop: nearly always no more than a look at whether a small file is there.
    name = request.value.model
    model = services.registered.find(name)
    if model is None:
        return False
    found = await anyio.to_thread.run_sync(services.catalog.resolve, name)
    if found is None or found.id != model.id or found.path is not None:
        return False
    note(model=model.id)
    await services.relay.answer(model, request, send)
    return True
