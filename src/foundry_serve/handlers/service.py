"""What the service says about itself, and the routes that change it: devices, and its end.

Knows: the values that the parts of the product hold.
Refuses to know: how they come by them, and who may ask (`Application.check`).
"""

from __future__ import annotations

import os

from foundry_proto.events import Failure, Request, Response
from foundry_proto.messages.service import (
    CacheLocation,
    CoreStatus,
    DeviceWords,
    ServiceStatus,
    ShuttingDown,
)
from foundry_proto.openapi import openapi_document
from foundry_proto.operations import ALL
from foundry_runtime.application import Send
from foundry_serve.services import Services

__all__ = [
    "cache_location",
    "core_status",
    "get_gpu_device",
    "openapi",
    "service_status",
    "set_gpu_device",
    "shutdown",
]


async def service_status(services: Services, _: Request[None], send: Send) -> None:
    """Answer `GET /openai/status`."""
    status = ServiceStatus(endpoints=services.endpoints, model_dir_path=str(services.directory.models))
    await send(Response(value=status))


async def core_status(services: Services, _: Request[None], send: Send) -> None:
    """Answer `GET /status`."""
    status = CoreStatus(
        endpoints=services.endpoints, model_cache_path=str(services.directory.models), pid=os.getpid()
    )
    await send(Response(value=status))


async def cache_location(services: Services, _: Request[None], send: Send) -> None:
    """Answer `GET /foundry/cache`."""
    await send(Response(value=CacheLocation(location=str(services.directory.models))))


async def get_gpu_device(services: Services, _: Request[None], send: Send) -> None:
    """Answer `GET /openai/getgpudevice`."""
    await send(Response(value=services.gpu.device_id))


async def set_gpu_device(services: Services, request: Request[None], send: Send) -> None:
    """Answer `GET /openai/setgpudevice/{deviceId}`.

    Choice: any number is kept. How many devices there are only the engine could say, and onnxruntime-genai's
    own device calls end the process on a machine that has none.
    """
    words: DeviceWords = request.head.query
    services.gpu.device_id = words.device_id
    await send(Response(value=None))


async def shutdown(services: Services, _: Request[None], send: Send) -> None:
    """Answer `POST /shutdown`; the answer leaves first."""
    if services.stop is None:
        message = "shutdown: expected a server that may be stopped by request; this one was not started so"
        await send(Failure(status=403, message=message, code="forbidden"))
        return
    await send(Response(value=ShuttingDown()))
    services.stop()


async def openapi(_services: Services, _request: Request[None], send: Send) -> None:
    """Answer `GET /openapi.json`."""
    await send(Response(value=openapi_document(ALL)))
