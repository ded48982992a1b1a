"""The opening handshake of a WebSocket, a server's side: which request may go on as one, and what it is told.

Knows: RFC 6455, section 4.2; that a page of another site must not get one, since no browser asks before it
opens it.
Refuses to know: frames, and what is said in them. No extension and no subprotocol is agreed to.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from foundry_proto.events import Failure, Headers, header

__all__ = ["as_handshake", "check_origin", "check_websocket", "websocket_headers"]

_VERSION: Final = b"13"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What the RFC has every server append to the client's key."""

_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""16 bytes in base64."""

_ASKED: Final[Headers] = ((b"upgrade", b"websocket"), (b"connection", b"Upgrade"))


def check_websocket(headers: Headers) -> Failure | None:
    """Say what keeps a request from going on as a WebSocket; `None` if nothing does.

    Args:
        headers: The request's.
    """
    if b"websocket" not in _listed(headers, b"upgrade") or b"upgrade" not in _listed(headers, b"connection"):
        # RFC 9110, section 15.5.22, demands the header.
        return Failure(
            status=426,
            message="upgrade: expected websocket, and upgrade in connection: this route is for WebSockets",
            code="upgrade_required",
            headers=_ASKED,
        )
    version = header(headers, b"sec-websocket-version") or b"nothing"
    if version != _VERSION:
        return Failure(
            status=426,
            message=f"sec-websocket-version: expected 13, got {_show(version)}",
            code="upgrade_required",
            headers=(*_ASKED, (b"sec-websocket-version", _VERSION)),
        )
    key = header(headers, b"sec-websocket-key") or b"nothing"
    if _KEY.fullmatch(key) is None:
        message = f"sec-websocket-key: expected 16 bytes in base64, got {_show(key)}"
        return Failure(status=400, message=message)
    return None


def websocket_headers(headers: Headers) -> Headers:
    """Give the answer's headers for a request that `check_websocket` has let pass."""
    key = header(headers, b"sec-websocket-key") or b""
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return (*_ASKED, (b"sec-websocket-accept", accept))


_REPLACED: Final = (b"upgrade", b"connection", b"sec-websocket-version", b"sec-websocket-key")
_PASSING: Final[Headers] = (
    *_ASKED,
    (b"sec-websocket-version", _VERSION),
    (b"sec-websocket-key", base64.b64encode(bytes(16))),
)


def as_handshake(headers: Headers) -> Headers:
    """Give a request's headers with those of a handshake that passes, where its carrier has seen to that.

    Such a carrier may have kept them to itself, and over HTTP/2 there are none (RFC 8441, section 5). Whoever
    decides on the request finds them here as they stand in any other that asks for a WebSocket.

    Args:
        headers: The request's.
    """
    return (*(one for one in headers if one[0] not in _REPLACED), *_PASSING)


_LOCAL: Final = re.compile(rb"https?://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


def check_origin(headers: Headers) -> Failure | None:
    """Refuse a WebSocket to a page that does not come from this machine; `None` if it may have one.

    A browser sends `Origin` with every WebSocket (RFC 6454), and programs send none.

    Args:
        headers: The request's.
    """
    origin = header(headers, b"origin")
    if origin is None or _LOCAL.fullmatch(origin):
        return None
    message = f"origin: expected a page of this machine, got {_show(origin)}"
    return Failure(status=403, message=message, code="foreign_origin")


def _listed(headers: Headers, name: bytes) -> set[bytes]:
    """The words of all headers of a name that is a list, in lower case."""
    values = (value for key, value in headers if key == name)
    return {word.strip().lower() for value in values for word in value.split(b",")}


def _show(value: bytes) -> str:
    return value[:80].decode("ascii", "replace")
