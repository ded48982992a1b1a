"""Accepts connections, in clear or with TLS, as many as there may be, and serves each in a task.

Knows: which errors of `accept` pass by themselves; that a connection too many is told so, and that telling
must not cost what it saves.
Refuses to know: how the socket came to listen (`tcp.py`, `unix.py`), and what a connection is for.

The socket is plain and non-blocking, and both loops wait for it through anyio: one accept loop serves both.
"""

from __future__ import annotations

import errno
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, final

import anyio
from anyio.abc import TaskGroup

from foundry_runtime.crowd import Crowd
from foundry_runtime.transport.api import Handler, TransportBroken
from foundry_runtime.transport.sockets import join_address, wrap_socket
from foundry_runtime.transport.tls import wrap_server_socket

__all__ = ["Listener"]

logger = logging.getLogger(__name__)

ACCEPT_PAUSE: Final = 0.1
"""Seconds without accepting when the process or the system is out of files or memory."""

TURNED_AWAY: Final = 32
"""How many clients at a time are given a moment to read that there are too many; the others are cut."""

MOMENT: Final = 1.0
"""That moment, in seconds."""

_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of `accept` that pass when others close their files."""

_CONNECTION_LOST: Final = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENONET",
        "ENOPROTOOPT", "EOPNOTSUPP", "EPERM", "EPROTO", "ETIMEDOUT",
    )
    if hasattr(errno, name)
)  # fmt: skip
"""Errors of `accept` that belong to the one connection, not to the listener: the "Error handling" section of
accept(2), and `EPERM`, which is a firewall's."""


@final
class Listener:
    """A listening socket; `open_tcp_listeners` and `open_unix_listener` make them.

    Args:
        sock: Bound and listening, and non-blocking; it belongs to the listener from now on.
        tls: With it, connections are TLS ones.
        on_close: Called once, when the listener closes.

    Attributes:
        host: The address that it is bound to; empty for a Unix socket.
        port: The port that it is bound to, never 0; 0 for a Unix socket.
        address: Both, as a URL takes them: `127.0.0.1:5272`, `[::1]:5272`; the path of a Unix socket.
        tls: Whether connections are TLS ones.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._socket = sock
        self._tls = tls
        self._on_close = on_close
        self._closed = False
        self._turned_away = 0
        name: Any = sock.getsockname()
        self.host: str = "" if isinstance(name, str) else name[0]
        self.port: int = 0 if isinstance(name, str) else name[1]
        self.address: str = name if isinstance(name, str) else join_address(self.host, self.port)
        self.tls = tls is not None

    def __repr__(self) -> str:
        return f"<Listener {self.address}{', closed' if self._closed else ''}>"

    async def serve(
        self, handler: Handler, *, task_group: TaskGroup | None = None, crowd: Crowd | None = None
    ) -> None:
        """Accept connections until `aclose`, and serve each in a task of its own.

        Args:
            handler: Gets the transport, which is closed when it returns or raises. What it raises ends the
                task group: an ordinary failure of one connection must not leave it.
            task_group: Where the connections' tasks run. Without one they belong to this call, which then
                returns when the listener is closed *and* the last connection has ended.
            crowd: How many connections there are; it may belong to several listeners. Without it, all are
                let in.

        Raises:
            OSError: The listening socket itself failed. What passes by itself is waited out: connections lost
                before they were accepted, and a lack of files or memory.
        """
        async with AsyncExitStack() as stack:
            if task_group is None:
                task_group = await stack.enter_async_context(anyio.create_task_group())
            while (accepted := await self._accept()) is not None:
                sock, host = accepted
                refusal = None if crowd is None else crowd.enter(host)
                if refusal is None:
                    task_group.start_soon(self._serve_socket, sock, host, handler, crowd)
                elif self._tls is not None or self._turned_away >= TURNED_AWAY:
                    sock.close()  # words would cost a handshake, or one more waiting client
                else:
                    self._turned_away += 1
                    task_group.start_soon(self._turn_away, sock, refusal)

    async def aclose(self) -> None:
        """Accept no more. Connections go on; those that were not accepted yet are refused."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()
            self._on_close()

    async def _serve_socket(
        self, sock: socket.socket, host: str | None, handler: Handler, crowd: Crowd | None
    ) -> None:
        try:
            await self._serve_connected(sock, handler)
        finally:
            if crowd is not None:
                crowd.leave(host)

    async def _serve_connected(self, sock: socket.socket, handler: Handler) -> None:
        wrapped = wrap_socket(sock) if self._tls is None else wrap_server_socket(sock, self._tls)
        try:
            transport = await wrapped
        except TransportBroken:
            return  # The client left between connecting and here, or speaks no TLS.
        try:
            await handler(transport)
        finally:
            await transport.aclose()

    async def _turn_away(self, sock: socket.socket, refusal: bytes) -> None:
        """Say that there are too many. What is not read before the close would reset the connection."""
        try:
            with anyio.move_on_after(MOMENT):
                transport = await wrap_socket(sock)
                try:
                    await transport.send(refusal)
                    await transport.send_eof()
                    while await transport.receive():
                        pass
                finally:
                    await transport.aclose()
        except TransportBroken:
            pass
        finally:
            self._turned_away -= 1

    async def _accept(self) -> tuple[socket.socket, str | None] | None:
        """Accept a connection; gives it with its peer's address, if it has one."""
        # Also when many connections are waiting: the tasks that serve them must get their turn.
        await anyio.lowlevel.checkpoint()
        complained = False
        while not self._closed:
            try:
                sock, name = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                with suppress(anyio.ClosedResourceError):
                    await anyio.wait_readable(self._socket)
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    if not complained:
                        complained = True
                        logger.warning(
                            "no connection can be accepted on %s: %s", self.address, error.strerror
                        )
                    await anyio.sleep(ACCEPT_PAUSE)
                elif error.errno in _CONNECTION_LOST:
                    await anyio.lowlevel.checkpoint()
                else:
                    raise
            else:
                return sock, name[0] if isinstance(name, tuple) else None
        return None
