"""Which models there are: the catalogue's list, and the lists of those that can be used.

Knows: how a model of the catalogue looks in each list.
Refuses to know: where models come from, in which order they stand, and what a name means (`Catalog`).

The catalogue looks at the disk, so it is asked in a thread.
"""

from __future__ import annotations

import anyio.to_thread
from attrs import fields

from foundry_proto.events import Request, Response
from foundry_proto.messages.models import (
    CatalogWords,
    ListWords,
    ModelInfo,
    ModelList,
    ModelObject,
    ModelObjectList,
    ModelWords,
    PromptTemplate,
    RuntimeInfo,
)
from foundry_runtime.application import Send
from foundry_runtime.models.description import CatalogModel
from foundry_serve.failures import model_not_found
from foundry_serve.services import Services

__all__ = ["cached_models", "get_model", "list_catalog", "list_models"]


async def list_catalog(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /foundry/list`: an array, as clients need it, or the reference page's object."""
    words: ListWords = request.head.query
    models = tuple(_model_info(model) for model in await _catalog(services))
    await send(Response(value=ModelList(models=models) if words.format == "object" else models))


async def cached_models(services: Services, _: Request[None], send: Send) -> None:
    """Answer `GET /openai/models`."""
    await send(Response(value=tuple(model.id for model in await _catalog(services) if model.cached)))


async def list_models(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /v1/models`."""
    words: CatalogWords = request.head.query
    models = await _catalog(services)
    listed = tuple(_model_object(model) for model in models if model.cached or words.all)
    await send(Response(value=ModelObjectList(data=listed)))


async def get_model(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /v1/models/{name}`."""
    words: ModelWords = request.head.query
    model = await anyio.to_thread.run_sync(services.catalog.resolve, words.name)
    await send(model_not_found(words.name) if model is None else Response(value=_model_object(model)))


async def _catalog(services: Services) -> list[CatalogModel]:
    return await anyio.to_thread.run_sync(services.catalog.models)


def _model_info(model: CatalogModel) -> ModelInfo:
    """Write a model as `/foundry/list` shows it."""
    return ModelInfo(
        name=model.id,
        display_name=model.name,
        model_type=model.model_type,
        provider_type=model.provider_type,
        uri=model.uri,
        version=model.version,
        prompt_template=_prompt_template(model),
        publisher=model.publisher,
        task=model.task,
        runtime=RuntimeInfo(device_type=model.device, execution_provider=model.execution_provider),
        file_size_mb=model.file_size_mb,
        alias=model.alias,
        supports_tool_calling=model.supports_tool_calling,
        license=model.license,
        license_description=model.license_description,
        parent_model_uri=model.parent_uri,
        max_output_tokens=model.max_output_tokens,
        min_fl_version=model.min_fl_version,
    )


def _prompt_template(model: CatalogModel) -> PromptTemplate | None:
    if model.prompt_template is None:
        return None
    known = {field.name for field in fields(PromptTemplate)}
    return PromptTemplate(**{role: text for role, text in model.prompt_template.items() if role in known})


def _model_object(model: CatalogModel) -> ModelObject:
    return ModelObject(id=model.id, created=model.created, owned_by=model.publisher or "system")
