"""The row of the WebSocket, for programs that watch rather than poll.

Source: this project's own.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, Final, cast

from foundry_proto.messages.watch import ClientMessage, ServerMessage
from foundry_proto.operations.table import Operation

__all__ = ["WATCH"]

WATCH: Final[Operation[ClientMessage, None, ServerMessage]] = Operation(
    name="watch",
    methods=("GET",),
    path="/foundry/watch",
    summary="Opens a WebSocket, which tells what happens here and answers chats.",
    request=cast("type[Any]", ClientMessage),
    response=NoneType,
    item=cast("type[Any]", ServerMessage),
    upgrade=True,
    errors="compatible",
    profile="extra",
    heading="this project's own",
)
