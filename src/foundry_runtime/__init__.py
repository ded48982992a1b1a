"""What binds `foundry_proto` to the world: sockets on asyncio or trio, and threads that step engines.

Here stand the names to begin with; each module lists what else it offers. Engines, tokenizers and importers
are imported from their own modules, since each needs packages of its own.

A name is imported when it is first asked for: the plugin for pytest stands in this package, and every run of
pytest in the environment imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from foundry_runtime.application import Application, Hangup, Send
    from foundry_runtime.client import Client, ServerFailure, Stream
    from foundry_runtime.engine.api import Engine, Job, Sampling
    from foundry_runtime.engine.generation import Generation
    from foundry_runtime.engine.worker import EngineWorker, InlineWorker, Worker
    from foundry_runtime.server import TimeOuts, serve, serve_connection
    from foundry_runtime.transport import (
        Transport,
        TransportBroken,
        TransportClosed,
        connect_tcp,
        memory_transport_pair,
        open_tcp_listeners,
    )

__all__ = [
    "Application",
    "Client",
    "Engine",
    "EngineWorker",
    "Generation",
    "Hangup",
    "InlineWorker",
    "Job",
    "Sampling",
    "Send",
    "ServerFailure",
    "Stream",
    "TimeOuts",
    "Transport",
    "TransportBroken",
    "TransportClosed",
    "Worker",
    "connect_tcp",
    "memory_transport_pair",
    "open_tcp_listeners",
    "serve",
    "serve_connection",
]

_PLACES: Final = {
    "application": ("Application", "Hangup", "Send"),
    "client": ("Client", "ServerFailure", "Stream"),
    "engine.api": ("Engine", "Job", "Sampling"),
    "engine.generation": ("Generation",),
    "engine.worker": ("EngineWorker", "InlineWorker", "Worker"),
    "server": ("TimeOuts", "serve", "serve_connection"),
    "transport": (
        "Transport",
        "TransportBroken",
        "TransportClosed",
        "connect_tcp",
        "memory_transport_pair",
        "open_tcp_listeners",
    ),
}
_MODULE_OF: Final = {name: f"{__name__}.{place}" for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value
