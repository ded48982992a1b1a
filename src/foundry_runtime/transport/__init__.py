"""Moves bytes: one `Transport` on asyncio, trio, TLS and memory, and the ways to get one.

Knows: which names of this package are public. `api` holds the promises, `_asyncio` and `stream` keep them,
`tcp` and `memory` make connections, and `check` tells whether a transport of your own keeps the promises too.
Refuses to know: what the bytes mean. Importing this loads neither asyncio nor trio.
"""

from __future__ import annotations

from foundry_runtime.transport.api import Handler, Transport, TransportBroken, TransportBusy, TransportClosed
from foundry_runtime.transport.memory import memory_transport_pair
from foundry_runtime.transport.stream import StreamTransport
from foundry_runtime.transport.tcp import Listener, connect_tcp, open_tcp_listeners, wrap_socket

__all__ = [
    "Handler",
    "Listener",
    "StreamTransport",
    "Transport",
    "TransportBroken",
    "TransportBusy",
    "TransportClosed",
    "connect_tcp",
    "memory_transport_pair",
    "open_tcp_listeners",
    "wrap_socket",
]
