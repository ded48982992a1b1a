"""Moves bytes: one `Transport` on asyncio, trio, TLS and memory, and the ways to get one.

Knows: which names of this package are public. `api` holds the promises, `_asyncio` and `stream` keep them,
`tcp`, `unix`, `tls` and `memory` make connections, `listener` accepts them, and `check` tells whether a
transport of your own keeps the promises too.
Refuses to know: what the bytes mean. Importing this loads neither asyncio nor trio.
"""

from __future__ import annotations

from foundry_runtime.transport.api import Handler, Transport, TransportBroken, TransportBusy, TransportClosed
from foundry_runtime.transport.listener import Listener
from foundry_runtime.transport.memory import memory_transport_pair
from foundry_runtime.transport.sockets import wrap_socket
from foundry_runtime.transport.stream import StreamTransport
from foundry_runtime.transport.tcp import connect_tcp, open_tcp_listeners
from foundry_runtime.transport.unix import connect_unix, open_unix_listener

__all__ = [
    "Handler",
    "Listener",
    "StreamTransport",
    "Transport",
    "TransportBroken",
    "TransportBusy",
    "TransportClosed",
    "connect_tcp",
    "connect_unix",
    "memory_transport_pair",
    "open_tcp_listeners",
    "open_unix_listener",
    "wrap_socket",
]
