"""From TCP addresses to transports: listening and connecting.

Knows: what a host stands for, how all of its addresses get one port, and which of them is tried first.
Refuses to know: what a connection is for, and how it is accepted (`listener.py`). The sockets are plain and
non-blocking, and both loops wait for them through anyio, so that one way of connecting serves both.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import sys
from collections.abc import Sequence
from typing import Final

import anyio

from foundry_runtime.transport.api import Transport
from foundry_runtime.transport.listener import Listener
from foundry_runtime.transport.sockets import SocketAddress, join_address, wrap_socket
from foundry_runtime.transport.tls import wrap_client_socket

__all__ = ["connect_tcp", "open_tcp_listeners"]

BACKLOG: Final = 512
"""Connections that the system holds ready to be accepted; it may allow fewer."""

BIND_ATTEMPTS: Final = 10
"""How often a free port is asked for, when the one found on the first address is taken on another."""

CONNECT_HEAD_START: Final = 0.25
"""Seconds that one address has before the next is tried beside it (RFC 8305, section 5)."""

_CONNECTING: Final = frozenset(
    {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)} - {0}
)

_FAMILY_MISSING: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
"""What a machine without IPv6 answers for an address that its resolver gave nevertheless."""

_Target = tuple[socket.AddressFamily, SocketAddress]


async def open_tcp_listeners(
    host: str | None, port: int, *, backlog: int = BACKLOG, tls: ssl.SSLContext | None = None
) -> Sequence[Listener]:
    """Listen on every address that a host stands for.

    Args:
        host: An address, a name, or `None` for every interface. `localhost` is 127.0.0.1 and ::1, as far as
            the machine has them, whatever its resolver says: a client may take it for either.
        port: 0 takes a free one, the same for every address.
        backlog: Connections that the system holds ready to be accepted.
        tls: With it, connections are TLS ones.

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
                return [Listener(sock, tls=tls) for sock in _bind_all(targets, backlog)]
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not attempts_left:
                    raise
    except OSError as error:
        raise _explain(f"cannot listen on {join_address(host or '*', port)}", [error]) from error


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


def _bind(family: socket.AddressFamily, address: SocketAddress, backlog: int) -> socket.socket:
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


async def connect_tcp(host: str, port: int, *, tls: ssl.SSLContext | None = None) -> Transport:
    """Connect to a server; give it a time limit with `anyio.fail_after`.

    The host's addresses are tried in the resolver's order, each with a head start on the next; the first that
    answers is taken (RFC 8305, "Happy Eyeballs").

    Args:
        host: A name or an address.
        port: The server's.
        tls: Says which certificates are trusted; without it, nothing is encrypted.

    Raises:
        OSError: No address answered; the text names host, port and the reason.
        TransportBroken: Somebody did, but the handshake of TLS failed.
    """
    what = f"cannot connect to {join_address(host, port)}"
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
            sock = connected.pop(0)
            return await (wrap_socket(sock) if tls is None else wrap_client_socket(sock, tls, host))
    except socket.gaierror as error:
        raise _explain(what, [error]) from error
    finally:
        for sock in connected:
            sock.close()
    raise _explain(what, errors) from errors[0]


async def _connect(family: socket.AddressFamily, address: SocketAddress) -> socket.socket:
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


def _explain(what: str, errors: Sequence[OSError]) -> OSError:
    """One error that says what was wanted and every reason why it failed."""
    reasons = "; ".join(dict.fromkeys(error.strerror or str(error) for error in errors))
    kind = socket.gaierror if isinstance(errors[0], socket.gaierror) else OSError
    return kind(errors[0].errno, f"{what}: {reasons}")
