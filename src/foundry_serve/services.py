"""What all handlers share while the server runs.

Knows: what there is once an application runs, each thing by its name.
Refuses to know: how it is made (`app.py`), and who uses it.
"""

from __future__ import annotations

from collections.abc import Callable

from anyio import CapacityLimiter
from attrs import define, field, frozen

from foundry_proto.messages.chat import MAX_MESSAGES
from foundry_runtime.download.manager import Downloads
from foundry_runtime.feed import Feed
from foundry_runtime.models.catalog import Catalog
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.external import Relay
from foundry_runtime.models.pool import ModelPool
from foundry_runtime.models.registered import RegisteredModels
from foundry_serve.metrics import Metrics

__all__ = ["GpuDevice", "Services"]


@define
class GpuDevice:
    """Which GPU is to be used; remembered for clients, since no engine here uses one."""

    device_id: int = 0


@frozen(kw_only=True)
class Services:
    """The first argument of every handler."""

    directory: ModelDirectory
    """The models on disk."""
    catalog: Catalog
    """All models that there are, by their names."""
    pool: ModelPool
    """The models in memory."""
    downloads: Downloads
    """The models on their way."""
    prompt_threads: CapacityLimiter
    """How many prompts are made at a time, each in a thread."""
    registered: RegisteredModels
    """The models of other servers."""
    relay: Relay
    """How requests reach them."""
    feed: Feed
    """What happens here, for who watches."""
    gpu: GpuDevice = field(factory=GpuDevice)
    most_messages: int = MAX_MESSAGES
    """How many messages a chat may have."""
    endpoints: tuple[str, ...] = ()
    """The addresses that the server is bound to, as URLs."""
    metrics: Metrics = field(factory=Metrics)
    """What is counted and measured."""
    shows_metrics: bool = True
    """Whether anybody is told of it."""
    stopping: Callable[[], bool] = field(default=lambda: False)
    """Whether the server has been asked to stop."""
    stop: Callable[[], None] | None = None
    """Ends the server; `None` where it may not be ended by request."""
