"""From settings to what a server listens on, and to who may talk there.

Knows: which settings contradict each other, where keys and certificates are read, and by which URLs the
listeners are reached.
Refuses to know: the rules themselves (`security.py`), and what is served.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from foundry_runtime.platform import port_holder
from foundry_runtime.transport import Listener, open_tcp_listeners, open_unix_listener
from foundry_serve.config import DEFAULT_PORT, BadConfig, Config
from foundry_serve.security import Policy, bound_names, is_key

__all__ = ["UNIX", "endpoints_of", "open_listeners", "policy_for", "read_keys"]

logger = logging.getLogger(__name__)

UNIX: Final = "unix:"
"""What stands before the path of a Unix socket, where others have a URL."""


def read_keys(config: Config) -> tuple[str, ...]:
    """The keys, one of which a request needs; none where everybody is let in.

    Raises:
        BadConfig: The file of keys cannot be used. No key is quoted.
    """
    if config.api_keys_file is None:
        return config.api_keys
    path = Path(config.api_keys_file)
    try:
        lines = path.read_text("utf-8").splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"api_keys_file: {path}: {getattr(error, 'strerror', None) or error}") from error
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        logger.warning("api_keys_file: other users can read %s", path)
    found: list[str] = []
    for number, line in enumerate(lines, start=1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if not is_key(key):
            raise BadConfig(
                f"api_keys_file: {path}, line {number}: expected a key of 16 to 512 visible ASCII characters"
            )
        found.append(key)
    if not found:
        raise BadConfig(f"api_keys_file: {path}: expected a key in a line, got none")
    return (*config.api_keys, *found)


async def open_listeners(config: Config, keys: Sequence[str] = ()) -> Sequence[Listener]:
    """Listen wherever the settings say.

    Args:
        config: The settings.
        keys: One of them is needed, if there are any.

    Raises:
        BadConfig: The settings contradict each other, the certificate cannot be used, or other machines would
            be let in without a key and nobody has said that they may.
        OSError: An address cannot be had; the text names it and, where that is known, who has it.
    """
    if not config.tcp and config.unix_socket is None:
        raise BadConfig("tcp: expected true where there is no unix_socket, got false")
    tls = _tls_context(config)
    listeners: list[Listener] = []
    try:
        if config.tcp:
            listeners += await _open_tcp(config, tls)
        if config.unix_socket is not None:
            listeners.append(open_unix_listener(Path(config.unix_socket), config.unix_socket_mode))
        if not keys and not config.without_keys:
            _check_reach(config.host, listeners)
    except BaseException:
        for listener in listeners:
            await listener.aclose()  # does not wait
        raise
    return listeners


async def _open_tcp(config: Config, tls: ssl.SSLContext | None) -> Sequence[Listener]:
    port = DEFAULT_PORT if config.port is None else config.port
    try:
        return await open_tcp_listeners(config.host, port, tls=tls)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        holder = port_holder(port)
        taken = OSError(error.errno, f"{error.strerror}{f' ({holder} has it)' if holder else ''}")
        if config.port is not None:
            raise taken from error
        logger.warning("%s; a free port is taken instead", taken.strerror)
    return await open_tcp_listeners(config.host, 0, tls=tls)


def _tls_context(config: Config) -> ssl.SSLContext | None:
    if config.tls_cert is None:
        if config.tls_key is not None:
            raise BadConfig("tls_key: expected a tls_cert that belongs to it, got none")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key that is encrypted would be asked for on the terminal, which a service has not.
        context.load_cert_chain(config.tls_cert, config.tls_key, password=b"")
    except OSError as error:  # `ssl.SSLError` is one, too
        places = " and ".join(one for one in (config.tls_cert, config.tls_key) if one is not None)
        # OpenSSL names no reason where it finds no PEM, or not all of it.
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        why = f": {reason}" if reason else ""
        raise BadConfig(f"tls_cert: {places}: expected a certificate and its key, in PEM{why}") from error
    return context


def _check_reach(host: str, listeners: Sequence[Listener]) -> None:
    """Refuse to listen where other machines reach us."""
    if all(ipaddress.ip_address(one.host).is_loopback for one in listeners if one.host):
        return
    raise BadConfig(
        f"host: {host} is reached from other machines: expected api_keys or api_keys_file, "
        "or without_keys to let everybody in"
    )


def policy_for(config: Config, listeners: Sequence[Listener], keys: Sequence[str]) -> Policy:
    """Who may talk to the listeners.

    Args:
        config: The settings.
        listeners: What is listened on.
        keys: One of them is needed, if there are any.
    """
    addresses = [listener.host for listener in listeners if listener.host]
    machine = socket.gethostname()
    return Policy(
        names=bound_names(config.host, addresses, (machine, f"{machine}.local"), config.allowed_hosts),
        origins=frozenset(config.cors_origins),
        keys=keys,
    )


def endpoints_of(listeners: Sequence[Listener]) -> Sequence[str]:
    """URLs by which this machine reaches the listeners, IPv4 first: it is what clients look for.

    Choice: an IPv6 loopback that stands alone is called `localhost`, since clients find no IPv6 literal.
    """
    names = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (what others are bound to)
    reached = sorted(
        (names.get(one.host, one.host), one.port, "https" if one.tls else "http")
        for one in listeners
        if one.host
    )
    urls = [
        f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        for host, port, scheme in reached
    ]
    urls.sort(key=lambda url: "[" in url)
    if urls and "[" in urls[0]:
        urls = [url.replace("[::1]", "localhost") for url in urls]
    return [*urls, *(f"{UNIX}{one.address}" for one in listeners if not one.host)]
