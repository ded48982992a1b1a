"""The kinds of error, never mixed.

Knows: that misuse of this library and a peer's broken framing are exceptions, and that wrong *content*
is no exception at all: a machine reports it as a `Failure` event, because the connection stays usable.
Refuses to know: any status code's meaning, any wire format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foundry_proto.events import Failure

__all__ = ["LocalProtocolError", "ProtocolError", "RemoteProtocolError"]


class ProtocolError(Exception):
    """The base of everything this library raises about the protocol; any other exception is a bug."""


class LocalProtocolError(ProtocolError):
    """You called a machine in an order, or with a value, that the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the framing: nothing further on this stream can be trusted.

    Args:
        message: What was expected and what came instead.
        failure: The reply to send before closing; `None` where no reply is possible (a client's side, or a
            decoder that stands alone).
    """

    def __init__(self, message: str, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.failure = failure
