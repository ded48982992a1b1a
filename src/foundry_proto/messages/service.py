"""What the service says about itself: where it listens, where its models lie, which device it uses.

Knows: the replies of both generations, in the casings that their clients read.
Refuses to know: how any of it is found out.

Source: the REST reference page, "GET /openai/status" and "GET /openai/getgpudevice"; for the newer routes the
public core's own service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from attrs import frozen

from foundry_proto.wire import Between, Wire

__all__ = [
    "CacheLocation",
    "CoreStatus",
    "DeviceId",
    "DeviceWords",
    "Health",
    "OpenAPIDocument",
    "ServiceStatus",
    "ShuttingDown",
]

DeviceId = Annotated[int, Between(0, 2**31 - 1)]
"""A GPU, as the execution providers number them."""


@frozen(kw_only=True)
class ServiceStatus:
    """The older service's status: as the reference page spells it, and as its clients read it."""

    WIRE: ClassVar = Wire(writes=("camel", "pascal"), any_case=True)
    endpoints: tuple[str, ...]
    """The addresses that the server is bound to, as URLs."""
    model_dir_path: str
    """Where local models are stored."""
    pipe_name: str = "inference_agent"
    """The named pipe of the first service; there is none here."""


@frozen(kw_only=True)
class CacheLocation:
    """Where models are stored, as the oldest clients ask for it."""

    location: str


@frozen(kw_only=True)
class CoreStatus:
    """The newer service's status."""

    WIRE: ClassVar = Wire(writes=("camel",))
    endpoints: tuple[str, ...]
    """The addresses that the server is bound to, as URLs."""
    model_cache_path: str
    """Where local models are stored."""
    pid: int
    """The server's process."""


@frozen(kw_only=True)
class Health:
    """How the service is."""

    status: Literal["live", "ready"]
    """`live`: it answers. `ready`: requests may come."""


@frozen(kw_only=True)
class ShuttingDown:
    """The service ends."""

    status: Literal["shutting_down"] = "shutting_down"


@frozen(kw_only=True)
class OpenAPIDocument:
    """A description of all operations, for tools (OpenAPI 3.1)."""

    openapi: str = "3.1.0"
    info: Mapping[str, object]
    tags: tuple[Mapping[str, object], ...] = ()
    paths: Mapping[str, object]
    components: Mapping[str, object]


@frozen(kw_only=True)
class DeviceWords:
    """The words of `/openai/setgpudevice/{deviceId}`."""

    WIRE: ClassVar = Wire(writes=("camel",))
    device_id: DeviceId
