"""Which headers this side may send, and which end the connection.

Knows: the grammar of a header's name and value (RFC 9110, sections 5.1 and 5.5), and that the headers of
framing are nobody else's to write.
Refuses to know: what any other header means.
"""

from __future__ import annotations

import re
from typing import Final

from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Headers

__all__ = ["check_headers", "wants_close"]

_NAME: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff]+(?:[ \t]+[!-~\x80-\xff]+)*)?")
_FRAMING: Final = (b"content-length", b"transfer-encoding")


def check_headers(headers: Headers) -> None:
    """Make sure that no header can end its line, begin another, or contradict the framing.

    Raises:
        LocalProtocolError: Naming the header.
    """
    for name, value in headers:
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)) or name in _FRAMING:
            raise LocalProtocolError(f"cannot send the header {name!r} with the value {value!r}")


def wants_close(headers: Headers) -> bool:
    """Whether `Connection: close` is among the headers (RFC 9110, section 7.6.1)."""
    for name, value in headers:
        if name == b"connection" and b"close" in [option.strip() for option in value.lower().split(b",")]:
            return True
    return False
