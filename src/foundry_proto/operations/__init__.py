"""The table: one row per endpoint, from which routing, client, server and documents derive.

Knows: which operations there are; their rows stand in modules by topic.
Refuses to know: what a row is made of (`table.py`).
"""

from __future__ import annotations

from typing import Final

from foundry_proto.operations.chat import CHAT_COMPLETIONS, COUNT_TOKENS
from foundry_proto.operations.completions import COMPLETIONS
from foundry_proto.operations.downloads import DOWNLOAD_MODEL
from foundry_proto.operations.embeddings import EMBEDDINGS
from foundry_proto.operations.models import (
    CACHED_MODELS,
    CORE_LOAD_MODEL,
    CORE_LOADED_MODELS,
    CORE_UNLOAD_MODEL,
    GET_MODEL,
    LIST_CATALOG,
    LIST_MODELS,
    LOAD_MODEL,
    LOADED_MODELS,
    UNLOAD_ALL_MODELS,
    UNLOAD_MODEL,
)
from foundry_proto.operations.registration import REGISTER_MODEL, UNREGISTER_MODEL
from foundry_proto.operations.service import (
    CACHE_LOCATION,
    CORE_STATUS,
    GET_GPU_DEVICE,
    HEALTH,
    HEALTH_LIVE,
    HEALTH_READY,
    METRICS,
    OPENAPI_DOCUMENT,
    SERVICE_STATUS,
    SET_GPU_DEVICE,
    SHUTDOWN,
)
from foundry_proto.operations.table import MAX_REQUEST_BODY, Match, Operation, Operations, Profile
from foundry_proto.operations.watch import WATCH

__all__ = [
    "ALL",
    "CHAT_COMPLETIONS",
    "COMPLETIONS",
    "CORE",
    "DOCUMENTED",
    "EMBEDDINGS",
    "EXTRA",
    "MAX_REQUEST_BODY",
    "OPENAI",
    "WATCH",
    "Match",
    "Operation",
    "Operations",
    "Profile",
]

DOCUMENTED: Final = Operations(
    [
        CHAT_COMPLETIONS,
        SERVICE_STATUS,
        LIST_CATALOG,
        CACHED_MODELS,
        LOAD_MODEL,
        UNLOAD_MODEL,
        UNLOAD_ALL_MODELS,
        LOADED_MODELS,
        GET_GPU_DEVICE,
        SET_GPU_DEVICE,
        DOWNLOAD_MODEL,
        COUNT_TOKENS,
    ]
)
"""The operations of the REST reference page."""

CORE: Final = Operations(
    [
        CORE_STATUS,
        SHUTDOWN,
        CORE_LOADED_MODELS,
        CORE_LOAD_MODEL,
        CORE_UNLOAD_MODEL,
        LIST_MODELS,
        GET_MODEL,
    ],
    not_yet=["/v1/responses", "/v1/audio/transcriptions"],
)
"""The routes of the newer service."""

OPENAI: Final = Operations([COMPLETIONS, EMBEDDINGS])
"""The routes of OpenAI's API alone."""

EXTRA: Final = Operations(
    [
        CACHE_LOCATION,
        REGISTER_MODEL,
        UNREGISTER_MODEL,
        OPENAPI_DOCUMENT,
        HEALTH,
        HEALTH_LIVE,
        HEALTH_READY,
        METRICS,
        WATCH,
    ]
)
"""What neither has: a route of an old client, and this project's own."""

ALL: Final = DOCUMENTED + CORE + OPENAI + EXTRA
"""All of them: what a whole server offers."""
