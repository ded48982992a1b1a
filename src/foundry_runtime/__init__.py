"""What binds `foundry_proto` to the world: sockets on asyncio or trio, and threads that step engines.

Here stand the names to begin with; each module lists what else it offers. Engines, tokenizers and importers
are imported from their own modules, since each needs packages of its own.
"""

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
