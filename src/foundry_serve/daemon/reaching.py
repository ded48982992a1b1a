"""How the commands reach the home's service, which may ask for a key, speak TLS, or have no address.

Knows: what a client needs for each kind of endpoint, and that the service's state has a key for its owner.
Refuses to know: what is asked, and whether the service is the one that it should be.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from foundry_runtime.calling import DEFAULT_TIMEOUT
from foundry_runtime.client import Client
from foundry_runtime.transport import Transport, connect_tcp, connect_unix
from foundry_serve.daemon.state import ServiceState
from foundry_serve.listening import UNIX

__all__ = ["client_of"]

_HTTPS_PORT: Final = 443


def client_of(state: ServiceState, *, timeout: float = DEFAULT_TIMEOUT) -> Client:
    """A client of a service that listens.

    Args:
        state: What the service has published.
        timeout: Seconds that it may be silent.

    Raises:
        OSError: Its certificate cannot be read.
    """
    (url, *_) = state.endpoints
    headers = () if state.key is None else ((b"authorization", b"Bearer " + state.key.encode()),)
    if url.startswith(UNIX):
        path = Path(url.removeprefix(UNIX))

        async def connect() -> Transport:
            return await connect_unix(path)

        return Client("http://localhost", connect=connect, timeout=timeout, headers=headers)
    parts = urlsplit(url)
    if parts.scheme != "https":
        return Client(url, timeout=timeout, headers=headers)
    context = _trusting(state.options.tls_cert)
    host, port = parts.hostname or "", parts.port or _HTTPS_PORT

    async def connect_securely() -> Transport:
        return await connect_tcp(host, port, tls=context)

    return Client(f"http://{parts.netloc}", connect=connect_securely, timeout=timeout, headers=headers)


def _trusting(certificate: str | None) -> ssl.SSLContext:
    """A context that trusts the service's own certificate, whoever has signed it and for whatever name."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
