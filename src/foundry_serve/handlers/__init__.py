"""What each operation does: one coroutine function per row of the table, named like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from foundry_runtime.application import Handler
from foundry_serve.handlers import (
    chat,
    completions,
    downloads,
    embeddings,
    external,
    health,
    memory,
    models,
    service,
    tokens,
    watch,
)
from foundry_serve.services import Services

__all__ = ["HANDLERS"]

_ALL: Final[tuple[Handler[Services], ...]] = (
    chat.chat_completions,
    completions.completions,
    embeddings.embeddings,
    service.service_status,
    service.core_status,
    service.cache_location,
    service.get_gpu_device,
    service.set_gpu_device,
    service.shutdown,
    service.openapi,
    health.health,
    health.health_live,
    health.health_ready,
    health.metrics,
    models.list_catalog,
    models.cached_models,
    models.list_models,
    models.get_model,
    memory.load_model,
    memory.unload_model,
    memory.unload_all_models,
    memory.loaded_models,
    memory.core_load_model,
    memory.core_unload_model,
    memory.core_loaded_models,
    tokens.count_tokens,
    downloads.download_model,
    external.register_model,
    external.unregister_model,
    watch.watch,
)

HANDLERS: Final[Mapping[str, Handler[Services]]] = {handler.__name__: handler for handler in _ALL}
