"""Where a server is: what a URL says, and a plain connection to it.

Knows: `http` and `https` URLs. Refuses to know: what is said there.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final, Self
from urllib.parse import urlsplit

from attrs import frozen

__all__ = ["Place"]

_PORTS: Final = {"http": 80, "https": 443}


@frozen(kw_only=True)
class Place:
    """Where a server is."""

    host: str
    port: int
    tls: bool = False
    prefix: str = ""
    """What stands before each path."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Read a URL such as `http://127.0.0.1:5272`.

        Raises:
            ValueError: It is none of http or https, or names no host.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(f"url: expected http://HOST:PORT or https://HOST:PORT, got {url!r}")
        try:
            port = parts.port or _PORTS[parts.scheme]
        except ValueError as error:
            raise ValueError(f"url: expected a port from 0 to 65535, got {url!r}") from error
        return cls(host=parts.hostname, port=port, tls=parts.scheme == "https", prefix=parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """What a request says in `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def connect(self, timeout: float) -> socket.socket:
        """Open a connection.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            OSError: The server cannot be reached, or its certificate is not trusted.
        """
        connection = socket.create_connection((self.host, self.port), timeout=timeout)
        # Requests are sent in small pieces on purpose; none shall wait for another.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.tls:
            return connection
        return ssl.create_default_context().wrap_socket(connection, server_hostname=self.host)
