"""How many connections there are, and from where: who may still come in.

Knows: the count of all and of each address, and what a connection too many is told.
Refuses to know: sockets, and what the connections are for.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Final

from attrs import define, field, frozen

from foundry_proto.codec import encode
from foundry_proto.events import Failure
from foundry_proto.messages.errors import error_body, status_phrase

__all__ = ["Crowd", "CrowdLimits"]

RETRY_AFTER: Final = 5
"""Seconds after which a client that was turned away may try again."""


@frozen(kw_only=True)
class CrowdLimits:
    """How many connections there may be at a time."""

    total: int = 512
    """From everywhere."""
    per_address: int = 256
    """From one address; of IPv6, from one network of 64 bits, since one machine has all of its addresses."""


@define
class Crowd:
    """The connections of a server.

    Args:
        limits: How many there may be.
    """

    _limits: CrowdLimits = field(factory=CrowdLimits)
    _total: int = field(init=False, default=0)
    _from: Counter[str] = field(init=False, factory=Counter)

    def __len__(self) -> int:
        return self._total

    def enter(self, host: str | None) -> bytes | None:
        """Count a connection in, unless there are too many.

        Args:
            host: Its peer's address; `None` where it has none, as on a Unix socket.

        Returns:
            What to answer to one that is not let in; `None` if it is.
        """
        if self._total >= self._limits.total:
            return _TOO_MANY
        if host is not None:
            place = _place(host)
            if self._from[place] >= self._limits.per_address:
                return _TOO_MANY_FROM_THERE
            self._from[place] += 1
        self._total += 1
        return None

    def leave(self, host: str | None) -> None:
        """Count one out that was let in."""
        self._total -= 1
        if host is not None:
            place = _place(host)
            self._from[place] -= 1
            if not self._from[place]:
                del self._from[place]


def _place(host: str) -> str:
    """Where an address belongs to, as far as one client can choose it."""
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def _refusal(*, status: int, code: str, message: str) -> bytes:
    failure = Failure(status=status, message=message, code=code)
    body = encode(error_body(failure, "openai"))
    head = (
        f"HTTP/1.1 {status} {status_phrase(status)}\r\nretry-after: {RETRY_AFTER}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


_TOO_MANY: Final = _refusal(
    status=503,
    code="too_many_connections",
    message="the server has as many connections as it may have: try again later",
)
_TOO_MANY_FROM_THERE: Final = _refusal(
    status=429,
    code="too_many_from_there",
    message="there are as many connections from this address as there may be: try again later",
)
