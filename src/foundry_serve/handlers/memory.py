"""Which models are in memory: loading and unloading by request, in the words of both generations.

Knows: which terms a request states, and what each generation's clients are told.
Refuses to know: when a model leaves (`foundry_proto.lifecycle`), and how it is loaded.
"""

from __future__ import annotations

import anyio.to_thread

from foundry_proto.catalog import is_meant
from foundry_proto.events import Failure, Request, Response
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.models import LoadState, LoadWords, ModelWords, UnloadState, UnloadWords
from foundry_proto.providers import requested_provider
from foundry_runtime.application import Send
from foundry_runtime.models.description import CatalogModel
from foundry_runtime.models.folder import BadModelFolder, ModelFolder
from foundry_runtime.models.pool import LoadFailed
from foundry_serve.failures import load_failure, model_not_cached, model_not_found, no_such_model, not_moved
from foundry_serve.services import Services

__all__ = [
    "core_load_model",
    "core_loaded_models",
    "core_unload_model",
    "load_model",
    "loaded_models",
    "unload_all_models",
    "unload_model",
]


async def load_model(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /openai/load/{name}`.

    A time to live above 0 overrides `unload`; without one, a model that is to be unloaded stays for the
    pool's own time.
    """
    words: LoadWords = request.head.query
    try:
        provider = requested_provider(words.ep or "")
    except ContentError as error:
        await send(Failure(status=400, message=str(error), param="ep"))
        return
    found = await _find(services, words.name)
    if found is None or not found.cached:
        await send(no_such_model(words.name, param="name", known=found is not None))
        return
    try:
        if (folder := await _folder(found)) is not None:
            pin = words.unload is False and not words.ttl
            await services.pool.load(folder, ttl=words.ttl or None, pin=pin, provider=provider)
    except (BadModelFolder, LoadFailed) as error:
        await send(load_failure(error))
    else:
        note = not_moved(provider, services.pool.provider_of(found.id))
        await send(Response(value=None, headers=note))


async def core_load_model(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /models/load/{name}`."""
    words: ModelWords = request.head.query
    found = await _find(services, words.name)
    if found is None:
        await send(model_not_found(words.name))
        return
    if not found.cached:
        await send(model_not_cached())
        return
    try:
        folder = await _folder(found)
        loaded = folder is not None and await services.pool.load(folder)
    except (BadModelFolder, LoadFailed) as error:
        await send(Failure(status=500, message=f"Load failed: {error}"))
    else:
        await send(Response(value=LoadState(status="loaded" if loaded else "already_loaded")))


async def unload_model(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /openai/unload/{name}`; a model that is not loaded is no misfortune."""
    words: UnloadWords = request.head.query
    model_id = await _id_of(services, words.name)
    if model_id is None:
        await send(no_such_model(words.name, param="name"))
        return
    services.pool.unload(model_id, force=words.force is True)
    await send(Response(value=None))


async def core_unload_model(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /models/unload/{name}`, whose clients know of no time to live: it is unloaded by force."""
    words: ModelWords = request.head.query
    model_id = await _id_of(services, words.name)
    if model_id is None:
        await send(model_not_found(words.name))
        return
    unloaded = services.pool.unload(model_id, force=True)
    await send(Response(value=UnloadState(status="unloaded" if unloaded else "not_loaded")))


async def unload_all_models(services: Services, _: Request[None], send: Send) -> None:
    """Answer `GET /openai/unloadall`."""
    services.pool.unload_all()
    await send(Response(value=None))


async def loaded_models(services: Services, _: Request[None], send: Send) -> None:
    """Answer `GET /openai/loadedmodels`."""
    await send(Response(value=tuple(services.pool.loaded())))


async def core_loaded_models(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /models/loaded`."""
    await loaded_models(services, request, send)


async def _find(services: Services, name: str) -> CatalogModel | None:
    return await anyio.to_thread.run_sync(services.catalog.resolve, name)


async def _folder(model: CatalogModel) -> ModelFolder | None:
    """The folder of a model; a registered external one has none, and can be used as it is.

    Raises:
        BadModelFolder: It cannot be used.
    """
    return None if model.path is None else await anyio.to_thread.run_sync(ModelFolder.read, model.path)


async def _id_of(services: Services, name: str) -> str | None:
    """The model that a name means; one that is in memory goes before others, even if its files are gone."""
    for model_id in services.pool.loaded():
        if is_meant(model_id, name):
            return model_id
    found = await _find(services, name)
    return None if found is None else found.id
