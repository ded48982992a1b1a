"""Token ids as clients send them instead of text.

Knows: how many there may be. Refuses to know: which ids a model has; who has loaded it looks.
"""

from __future__ import annotations

from typing import Annotated, Final

from foundry_proto.wire import Items

__all__ = ["MAX_TOKENS", "TokenIds"]

MAX_TOKENS: Final = 1024 * 1024
"""Most token ids of one text: more than any model's context, and few enough to read without a pause."""

TokenIds = Annotated[tuple[int, ...], Items(least=1, most=MAX_TOKENS)]
"""One text's token ids."""
