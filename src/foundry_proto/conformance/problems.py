"""How a case ends that does not pass: the server did something else, or the case could not be tried.

Knows: the aspects that are judged. Refuses to know: what is expected of them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Aspect", "Unmet", "Untestable"]

Aspect: TypeAlias = Literal[
    "connection", "framing", "status", "headers", "body", "stream", "progress", "state", "time"
]
"""What of an answer was not as it should be; `state` is what an answer leaves behind in the server."""


class Unmet(Exception):
    """The requirement is not met.

    Args:
        aspect: Where it shows.
        message: What was expected, and what came.
    """

    def __init__(self, aspect: Aspect, message: str) -> None:
        super().__init__(message)
        self.aspect = aspect


class Untestable(Exception):
    """The case cannot be tried on this server, with the reason."""
