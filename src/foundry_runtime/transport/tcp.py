"""From addresses to transports: listening, accepting, connecting.

Knows: sockets, which errors of `accept` pass by themselves, and which transport suits the running loop.
Refuses to know: what a connection is for. The sockets are plain and non-blocking, and both loops wait for
them through anyio, so that one accept loop and one way of connecting serve asyncio and trio.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Final, final

import anyio
from anyio.abc import TaskGroup

from foundry_runtime.transport._socket import SocketStream
from foundry_runtime.transport.api import BROKEN, Handler, Transport, TransportBroken
from foundry_runtime.transport.stream import StreamTransport

__all__ = ["Listener", "connect_tcp", "open_tcp_listeners", "wrap_socket"]

logger = logging.getLogger(__name__)

BACKLOG: Final = 512
"""Connections that the system holds ready to be accepted; it may allow fewer."""

ACCEPT_PAUSE: Final = 0.1
"""Seconds without accepting when the process or the system is out of files or memory."""

BIND_ATTEMPTS: Final = 10
"""How often a free port is asked for, when the one found on the first address is taken on another."""

CONNECT_HEAD_START: Final = 0.25
"""Seconds that one address has before the next is tried beside it (RFC 8305, section 5)."""

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

_CONNECTING: Final = frozenset(
    {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)} - {0}
)

_FAMILY_MISSING: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""What a machine without IPv6 answers for an address that its resolver gave nevertheless."""

_SocketAddress = tuple[str | int | bytes, ...]
_Target = tuple[socket.AddressFamily, _SocketAddress]


@final
class Listener:
    """A listening socket; `open_tcp_listeners` makes them.

    Attributes:
        host: The address that it is bound to.
        port: The port that it is bound to, never 0.
        address: Both, as a URL takes them: `127.0.0.1:5272`, `[::1]:5272`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._closed = False
        self.host, self.port = sock.getsockname()[:2]
        self.address = _join(self.host, self.port)

    def __repr__(self) -> str:
        return f"<Listener {self.address}{', closed' if self._closed else ''}>"

    async def serve(self, handler: Handler, *, task_group: TaskGroup | None = None) -> None:
        """Accept connections until `aclose`, and serve each in a task of its own.

        Args:
            handler: Gets the transport, which is closed when it returns or raises. What it raises ends the
                task group: an ordinary failure of one connection must not leave it.
            task_group: Where the connections' tasks run. Without one they belong to this call, which then
                returns when the listener is closed *and* the last connection has ended.

        Raises:
            OSError: The listening socket itself failed. What passes by itself is waited out: connections lost
                before they were accepted, and a lack of files or memory.
        """
        async with AsyncExitStack() as stack:
            if task_group is None:
                task_group = await stack.enter_async_context(anyio.create_task_group())
            while (sock := await self._accept()) is not None:
                task_group.start_soon(_serve_socket, sock, handler)

    async def aclose(self) -> None:
        """Accept no more. Connections go on; those that were not accepted yet are refused."""
        if not self._closed:
            self._closed = True
            anyio.notify_closing(self._socket)
            self._socket.close()

    async def _accept(self) -> socket.socket | None:
        # Also when many connections are waiting: the tasks that serve them must get their turn.
        await anyio.lowlevel.checkpoint()
        complained = False
        while not self._closed:
            try:
                sock, _ = self._socket.accept()
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
                return sock
        return None


async def _serve_socket(sock: socket.socket, handler: Handler) -> None:
    try:
        transport = await wrap_socket(sock)
    except TransportBroken:
        return  # The client left between connecting and here.
    try:
        await handler(transport)
    finally:
        await transport.aclose()


async def open_tcp_listeners(host: str | None, port: int, *, backlog: int = BACKLOG) -> Sequence[Listener]:
    """Listen on every address that a host stands for.

    Args:
        host: An address, a name, or `None` for every interface. `localhost` is 127.0.0.1 and ::1, as far as
            the machine has them, whatever its resolver says: a client may take it for either.
        port: 0 takes a free one, the same for every address.
        backlog: Connections that the system holds ready to be accepted.

    Returns:
        One listener for each address, at least one. The system takes connections at once; they are served
        when `Listener.serve` runs.

    Raises:
        OSError: The host is unknown, or the port is taken or not to be had; the text names both.
    """
    attempts_left = BIND_ATTEMPTS if port == 0 else 1
    try:
        targets = _loopback(port) if _is_localhost(host) else await _resolve(host, port)
        while True:
            attempts_left -= 1
            try:
                return [Listener(sock) for sock in _bind_all(targets, backlog)]
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not attempts_left:
                    raise
    except OSError as error:
        raise _explain(f"cannot listen on {_join(host or '*', port)}", [error]) from error


def _bind_all(targets: Sequence[_Target], backlog: int) -> list[socket.socket]:
    """Bind every address whose family the machine has, all to the same port, or none."""
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in targets:
            port = bound[0].getsockname()[1] if bound else address[1]
            try:
                bound.append(_bind(family, (address[0], port, *address[2:]), backlog))
            except OSError as error:
                if error.errno not in _FAMILY_MISSING:
                    raise
                missing = error
    except BaseException:
        for sock in bound:
            sock.close()
        raise
    if missing is not None and not bound:
        raise missing
    return bound


def _bind(family: socket.AddressFamily, address: _SocketAddress, backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if sys.platform == "win32":
            # SO_REUSEADDR would let another process take the port over; here it is not needed to bind anew.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a listener of its own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


async def connect_tcp(host: str, port: int) -> Transport:
    """Connect to a server; give it a time limit with `anyio.fail_after`.

    The host's addresses are tried in the resolver's order, each with a head start on the next; the first that
    answers is taken (RFC 8305, "Happy Eyeballs").

    Raises:
        OSError: No address answered; the text names host, port and the reason.
    """
    what = f"cannot connect to {_join(host, port)}"
    connected: list[socket.socket] = []
    errors: list[OSError] = []

    async def attempt(target: _Target, ended: anyio.Event) -> None:
        try:
            connected.append(await _connect(*target))
            attempts.cancel_scope.cancel()
        except OSError as error:
            errors.append(error)
        finally:
            ended.set()

    try:
        targets = await _resolve(host, port)
        async with anyio.create_task_group() as attempts:
            for target in targets:
                ended = anyio.Event()
                attempts.start_soon(attempt, target, ended)
                with anyio.move_on_after(CONNECT_HEAD_START):
                    await ended.wait()
        if connected:
            return await wrap_socket(connected.pop(0))
    except socket.gaierror as error:
        raise _explain(what, [error]) from error
    finally:
        for sock in connected:
            sock.close()
    raise _explain(what, errors) from errors[0]


async def _connect(family: socket.AddressFamily, address: _SocketAddress) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        status = sock.connect_ex(address)
        if status in _CONNECTING:
            await anyio.wait_writable(sock)
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, os.strerror(status))  # noqa: TRY301  (as `connect` would raise it)
    except BaseException:
        sock.close()
        raise
    return sock


async def wrap_socket(sock: socket.socket) -> Transport:
    """Put the running loop's transport on a connected stream socket (TCP or Unix).

    Args:
        sock: Belongs to the transport from now on, and is closed if none can be made.

    Raises:
        TransportBroken: The socket is not connected, or no longer.
        ValueError: It is no stream socket.
    """
    if sock.type != socket.SOCK_STREAM:
        sock.close()
        raise ValueError(f"sock: expected a stream socket, got {sock.type.name}")
    try:
        sock.setblocking(False)
        try:
            peer = _name(sock.getpeername())
            if sock.family in {socket.AF_INET, socket.AF_INET6}:
                # A chunk of a stream must not wait for the acknowledgement of the one before.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if _runs_on_asyncio():
                from foundry_runtime.transport import _asyncio  # noqa: PLC0415  (not imported under trio)

                return await _asyncio.wrap_socket(sock, peer)
        except OSError as error:  # The peer is gone.
            raise TransportBroken(BROKEN) from error
        return StreamTransport(SocketStream(sock), peer=peer)
    except BaseException:
        sock.close()
        raise


def _is_localhost(host: str | None) -> bool:
    return host is not None and host.casefold() == "localhost"


def _loopback(port: int) -> list[_Target]:
    """Both addresses of this machine for itself (RFC 6761, section 6.3)."""
    _check(port)
    return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]


def _check(port: int) -> None:
    if not 0 <= port <= 65535:
        raise ValueError(f"port: expected 0 to 65535, got {port}")


async def _resolve(host: str | None, port: int) -> list[_Target]:
    """All addresses of a host, in the resolver's order, without a thread for a numeric one."""
    _check(port)
    passive, numeric = socket.AI_PASSIVE, socket.AI_NUMERICHOST
    try:
        found: list[_Target] = [
            (family, address)
            for family, *_, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=passive | numeric
            )
        ]
    except (socket.gaierror, UnicodeError):
        try:
            found = [
                (family, address)
                for family, *_, address in await anyio.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, flags=passive
                )
            ]
        except UnicodeError as error:
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    return list(dict.fromkeys(target for target in found if target[0] in {socket.AF_INET, socket.AF_INET6}))


def _runs_on_asyncio() -> bool:
    # Tells the loops apart without importing either; asyncio's class lives in `asyncio.exceptions`.
    return anyio.get_cancelled_exc_class().__module__.startswith("asyncio")


def _name(address: _SocketAddress | str) -> str | None:
    """The address of an internet peer; a Unix socket's peer has none that says who it is."""
    return _join(str(address[0]), address[1]) if isinstance(address, tuple) else None


def _join(host: str, port: object) -> str:
    """Both, as a URL takes them (RFC 3986, section 3.2.2: an IPv6 address stands in brackets)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _explain(what: str, errors: Sequence[OSError]) -> OSError:
    """One error that says what was wanted and every reason why it failed."""
    reasons = "; ".join(dict.fromkeys(error.strerror or str(error) for error in errors))
    kind = socket.gaierror if isinstance(errors[0], socket.gaierror) else OSError
    return kind(errors[0].errno, f"{what}: {reasons}")
