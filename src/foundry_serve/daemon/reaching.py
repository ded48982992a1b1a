"""How the commands reach the home's service, which may ask for a key, speak TLS, or have no address.

Knows: what a client needs for each kind of endpoint, and that the service's state has a key for its owner.
Refuses to know: what is asked, and whether the service is the one that it should be.
"""

from __future__ import annotations

import ssl

from foundry_runtime.calling import DEFAULT_TIMEOUT
from foundry_runtime.client import Client
from foundry_serve.daemon.state import ServiceState
from foundry_serve.listening import UNIX

__all__ = ["client_of"]


def client_of(state: ServiceState, *, timeout: float = DEFAULT_TIMEOUT) -> Client:
    """A client of a service that listens.

    Args:
        state: What the service has published.
        timeout: Seconds that it may be silent.

    Raises:
        OSError: Its certificate cannot be read.
    """
    (url, *_) = state.endpoints
    unix = url.removeprefix(UNIX) if url.startswith(UNIX) else None
    tls = _trusting(state.options.tls_cert) if url.startswith("https:") else None
    base_url = url if unix is None else "http://localhost"
    return Client(base_url, unix=unix, tls=tls, api_key=state.key, timeout=timeout)


def _trusting(certificate: str | None) -> ssl.SSLContext:
    """A context that trusts the service's own certificate, whoever has signed it and for whatever name."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
