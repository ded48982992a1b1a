"""The table: one row per endpoint, from which routing, client, server and documents derive.

Knows: which operations there are; their rows stand in modules by topic.
Refuses to know: what a row is made of (`table.py`).
"""

from __future__ import annotations

from typing import Final

from foundry_proto.operations.chat import CHAT_COMPLETIONS
from foundry_proto.operations.table import MAX_REQUEST_BODY, Match, Operation, Operations, Profile

__all__ = [
    "CHAT_COMPLETIONS",
    "DOCUMENTED",
    "MAX_REQUEST_BODY",
    "Match",
    "Operation",
    "Operations",
    "Profile",
]

DOCUMENTED: Final = Operations([CHAT_COMPLETIONS])
"""The operations of the REST reference page that this package speaks."""
