"""Who may ask: what a gate is told of a request, and what it may decide.

Knows: the moment, which is before a byte of the body is read, and before it is said whether there is such a
route.
Refuses to know: any rule; a gate is a function that its owner gives (`foundry_serve.security` is one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from foundry_proto.events import Failure, Headers, Response
from foundry_proto.operations import Operation

__all__ = ["Asked", "Gate"]


@frozen(kw_only=True)
class Asked:
    """A request's head as it stands on the wire."""

    method: str
    authority: str | None
    """The host of a target in absolute form: it counts instead of `Host` (RFC 9112, section 3.2.2)."""
    headers: Headers
    """Names in lower case."""
    client: str | None
    """The peer's address; `None` where it has none, or none that is known."""
    operation: Operation[Any, Any, Any] | None
    """What is asked for; `None` where there is nothing of that path and method."""
    allow: tuple[str, ...]
    """The methods that the path answers; empty where there is no such path."""


Gate = Callable[[Asked], "Headers | Failure | Response[None]"]
"""Decides on a request: headers, which every answer then has, let it in; otherwise the answer itself."""
