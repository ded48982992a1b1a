"""The rows of models of other servers.

Knows: how a model of another server is registered, and taken back. Refuses to know: how it is reached.

Source: the older REST reference, "POST /openai/register". It has no way to take a registration back: that
route is this project's own.
"""

from __future__ import annotations

from types import NoneType
from typing import Final

from foundry_proto.messages.registration import RegisteredWords, RegisterRequest
from foundry_proto.operations.table import Operation

__all__ = ["REGISTER_MODEL", "UNREGISTER_MODEL"]

REGISTER_MODEL: Final[Operation[RegisterRequest, None, None]] = Operation(
    name="register_model",
    methods=("POST",),
    path="/openai/register",
    summary="Lists a model of another server, to which requests for it are relayed.",
    request=RegisterRequest,
    response=NoneType,
    item=NoneType,
    local=True,
    errors="compatible",
    failures=(409, 500),
    profile="extra",
    heading="POST /openai/register, of the older REST reference",
)

UNREGISTER_MODEL: Final[Operation[None, None, None]] = Operation(
    name="unregister_model",
    methods=("DELETE",),
    path="/openai/register/{name}",
    summary="Takes such a registration back.",
    request=NoneType,
    response=NoneType,
    item=NoneType,
    query=RegisteredWords,
    local=True,
    errors="compatible",
    failures=(404, 500),
    profile="extra",
    heading="this project's own",
)
