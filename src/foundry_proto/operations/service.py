"""The rows of what the service says about itself.

Knows: both generations' routes, and this project's own. Refuses to know: what a row is (`table.py`).

Source: the REST reference page; the public core's own service for the newer routes.
"""

from __future__ import annotations

from types import NoneType
from typing import Final

from attrs import evolve

from foundry_proto.messages.service import (
    CacheLocation,
    CoreStatus,
    DeviceWords,
    Health,
    OpenAPIDocument,
    ServiceStatus,
    ShuttingDown,
)
from foundry_proto.operations.table import Operation

__all__ = [
    "CACHE_LOCATION",
    "CORE_STATUS",
    "GET_GPU_DEVICE",
    "HEALTH",
    "HEALTH_LIVE",
    "HEALTH_READY",
    "METRICS",
    "OPENAPI_DOCUMENT",
    "SERVICE_STATUS",
    "SET_GPU_DEVICE",
    "SHUTDOWN",
]

SERVICE_STATUS: Final[Operation[None, ServiceStatus, None]] = Operation(
    name="service_status",
    methods=("GET",),
    path="/openai/status",
    summary="Says where the server listens and where its models lie.",
    request=NoneType,
    response=ServiceStatus,
    item=NoneType,
    safe=True,
    errors="compatible",
    heading="GET /openai/status",
)

GET_GPU_DEVICE: Final[Operation[None, int, None]] = Operation(
    name="get_gpu_device",
    methods=("GET",),
    path="/openai/getgpudevice",
    summary="Gives the id of the current GPU device.",
    request=NoneType,
    response=int,
    item=NoneType,
    safe=True,
    errors="compatible",
    heading="GET /openai/getgpudevice",
)

SET_GPU_DEVICE: Final[Operation[None, None, None]] = Operation(
    name="set_gpu_device",
    methods=("GET", "POST"),
    path="/openai/setgpudevice/{deviceId}",
    summary="Sets the current GPU device.",
    request=NoneType,
    response=NoneType,
    item=NoneType,
    query=DeviceWords,
    errors="compatible",
    heading="GET /openai/setgpudevice/{deviceId}",
)

CORE_STATUS: Final[Operation[None, CoreStatus, None]] = Operation(
    name="core_status",
    methods=("GET",),
    path="/status",
    summary="Says where the server listens, where its models lie, and which process it is.",
    request=NoneType,
    response=CoreStatus,
    item=NoneType,
    safe=True,
    errors="compatible",
    profile="core",
    heading="GET /status",
)

SHUTDOWN: Final[Operation[None, ShuttingDown, None]] = Operation(
    name="shutdown",
    methods=("POST",),
    path="/shutdown",
    summary="Stops the server, if it was started so that it may be stopped by request.",
    request=NoneType,
    response=ShuttingDown,
    item=NoneType,
    local=True,
    errors="compatible",
    failures=(403,),
    profile="core",
    heading="POST /shutdown",
)

CACHE_LOCATION: Final[Operation[None, CacheLocation, None]] = Operation(
    name="cache_location",
    methods=("GET",),
    path="/foundry/cache",
    summary="Says where the server's models lie, to the oldest clients.",
    request=NoneType,
    response=CacheLocation,
    item=NoneType,
    safe=True,
    errors="compatible",
    profile="extra",
    heading="GET /foundry/cache, of the first Rust client",
)

OPENAPI_DOCUMENT: Final[Operation[None, OpenAPIDocument, None]] = Operation(
    name="openapi",
    methods=("GET",),
    path="/openapi.json",
    summary="Describes all routes in OpenAPI 3.1.",
    request=NoneType,
    response=OpenAPIDocument,
    item=NoneType,
    safe=True,
    errors="compatible",
    profile="extra",
    heading="this project's own",
)

HEALTH: Final[Operation[None, Health, None]] = Operation(
    name="health",
    methods=("GET",),
    path="/health",
    summary="Says whether requests may come, to who distributes them.",
    request=NoneType,
    response=Health,
    item=NoneType,
    safe=True,
    public=True,
    errors="compatible",
    failures=(503,),
    profile="extra",
    heading="this project's own",
)

HEALTH_LIVE: Final[Operation[None, Health, None]] = Operation(
    name="health_live",
    methods=("GET",),
    path="/health/live",
    summary="Says that the server lives, to who would start it anew otherwise.",
    request=NoneType,
    response=Health,
    item=NoneType,
    safe=True,
    public=True,
    errors="compatible",
    profile="extra",
    heading="this project's own",
)

HEALTH_READY: Final[Operation[None, Health, None]] = evolve(
    HEALTH, name="health_ready", path="/health/ready", summary="Says the same as `/health`."
)

METRICS: Final[Operation[None, str, None]] = Operation(
    name="metrics",
    methods=("GET",),
    path="/metrics",
    summary="Tells Prometheus what was counted and measured.",
    request=NoneType,
    response=str,
    item=NoneType,
    safe=True,
    media_type=b"text/plain; version=0.0.4; charset=utf-8",
    errors="compatible",
    failures=(404,),
    profile="extra",
    heading="this project's own",
)
