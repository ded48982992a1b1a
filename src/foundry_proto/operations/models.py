"""The rows of models: which there are, which are in memory, and how they get there and leave.

Knows: both generations' routes. Refuses to know: what a row is (`table.py`), and what loading means.

Source: the REST reference page; the public core's own service for the newer routes.

Choice: loading and unloading are GETs, as the reference page and all clients have them; they answer POST as
well, which says what happens.
"""

from __future__ import annotations

from types import NoneType
from typing import Final, cast

from foundry_proto.messages.models import (
    CatalogWords,
    ListWords,
    LoadState,
    LoadWords,
    ModelInfo,
    ModelList,
    ModelObject,
    ModelObjectList,
    ModelWords,
    UnloadState,
    UnloadWords,
)
from foundry_proto.operations.table import Operation

__all__ = [
    "CACHED_MODELS",
    "CORE_LOADED_MODELS",
    "CORE_LOAD_MODEL",
    "CORE_UNLOAD_MODEL",
    "GET_MODEL",
    "LIST_CATALOG",
    "LIST_MODELS",
    "LOADED_MODELS",
    "LOAD_MODEL",
    "UNLOAD_ALL_MODELS",
    "UNLOAD_MODEL",
]

_Ids = tuple[str, ...]
_List = tuple[ModelInfo, ...] | ModelList

LIST_CATALOG: Final[Operation[None, _List, None]] = Operation(
    name="list_catalog",
    methods=("GET",),
    path="/foundry/list",
    summary="Lists all models of the catalogue, here or not, in the order that clients choose by.",
    request=NoneType,
    response=cast("type[_List]", _List),
    item=NoneType,
    query=ListWords,
    safe=True,
    errors="compatible",
    heading="GET /foundry/list",
)

CACHED_MODELS: Final[Operation[None, _Ids, None]] = Operation(
    name="cached_models",
    methods=("GET",),
    path="/openai/models",
    summary="Lists the ids of the models on this machine, and of registered external ones.",
    request=NoneType,
    response=_Ids,
    item=NoneType,
    safe=True,
    errors="compatible",
    heading="GET /openai/models",
)

LOAD_MODEL: Final[Operation[None, None, None]] = Operation(
    name="load_model",
    methods=("GET", "POST"),
    path="/openai/load/{name}",
    summary="Loads a model into memory, and says how long it stays there.",
    request=NoneType,
    response=NoneType,
    item=NoneType,
    query=LoadWords,
    long=True,
    errors="compatible",
    failures=(404, 500),
    heading="GET /openai/load/{name}",
)

UNLOAD_MODEL: Final[Operation[None, None, None]] = Operation(
    name="unload_model",
    methods=("GET", "POST"),
    path="/openai/unload/{name}",
    summary="Unloads a model whose time to live is over, or any with force.",
    request=NoneType,
    response=NoneType,
    item=NoneType,
    query=UnloadWords,
    errors="compatible",
    failures=(404,),
    heading="GET /openai/unload/{name}",
)

UNLOAD_ALL_MODELS: Final[Operation[None, None, None]] = Operation(
    name="unload_all_models",
    methods=("GET", "POST"),
    path="/openai/unloadall",
    summary="Unloads every model.",
    request=NoneType,
    response=NoneType,
    item=NoneType,
    errors="compatible",
    heading="GET /openai/unloadall",
)

LOADED_MODELS: Final[Operation[None, _Ids, None]] = Operation(
    name="loaded_models",
    methods=("GET",),
    path="/openai/loadedmodels",
    summary="Lists the ids of the models in memory.",
    request=NoneType,
    response=_Ids,
    item=NoneType,
    safe=True,
    errors="compatible",
    heading="GET /openai/loadedmodels",
)

CORE_LOADED_MODELS: Final[Operation[None, _Ids, None]] = Operation(
    name="core_loaded_models",
    methods=("GET",),
    path="/models/loaded",
    summary="Lists the ids of the models in memory.",
    request=NoneType,
    response=_Ids,
    item=NoneType,
    safe=True,
    errors="compatible",
    profile="core",
    heading="GET /models/loaded",
)

CORE_LOAD_MODEL: Final[Operation[None, LoadState, None]] = Operation(
    name="core_load_model",
    methods=("GET", "POST"),
    path="/models/load/{name}",
    summary="Loads a model into memory.",
    request=NoneType,
    response=LoadState,
    item=NoneType,
    query=ModelWords,
    long=True,
    errors="compatible",
    failures=(404, 500),
    profile="core",
    heading="GET /models/load/{name}",
)

CORE_UNLOAD_MODEL: Final[Operation[None, UnloadState, None]] = Operation(
    name="core_unload_model",
    methods=("GET", "POST"),
    path="/models/unload/{name}",
    summary="Unloads a model.",
    request=NoneType,
    response=UnloadState,
    item=NoneType,
    query=ModelWords,
    errors="compatible",
    failures=(404,),
    profile="core",
    heading="GET /models/unload/{name}",
)

LIST_MODELS: Final[Operation[None, ModelObjectList, None]] = Operation(
    name="list_models",
    methods=("GET",),
    path="/v1/models",
    summary="Lists the models that a chat can use now.",
    request=NoneType,
    response=ModelObjectList,
    item=NoneType,
    query=CatalogWords,
    safe=True,
    profile="core",
    heading="GET /v1/models",
)

GET_MODEL: Final[Operation[None, ModelObject, None]] = Operation(
    name="get_model",
    methods=("GET",),
    path="/v1/models/{name}",
    summary="Describes one model of the catalogue, here or not.",
    request=NoneType,
    response=ModelObject,
    item=NoneType,
    query=ModelWords,
    safe=True,
    failures=(404,),
    profile="core",
    heading="GET /v1/models/{name}",
)
