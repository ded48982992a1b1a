"""Texts that a request is about, in one of four forms: one or several, as text or as token ids.

Knows: how many token ids a text may have, and how an error names each of several texts.
Refuses to know: which ids a model has; who has loaded it looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from foundry_proto.wire import Items

__all__ = ["MAX_TOKENS", "TokenIds", "each_of"]

MAX_TOKENS: Final = 1024 * 1024
"""Most token ids of one text: more than any model's context, and few enough to read without a pause."""

TokenIds = Annotated[tuple[int, ...], Items(least=1, most=MAX_TOKENS)]
"""One text's token ids."""


def each_of(
    field: str, given: str | tuple[str, ...] | tuple[int, ...] | tuple[tuple[int, ...], ...]
) -> Sequence[tuple[str, str | tuple[int, ...]]]:
    """Give the texts of a field one by one.

    Args:
        field: The field's name.
        given: Its value.

    Returns:
        Each text, or its token ids, behind the name by which an error calls it.
    """
    if isinstance(given, str) or isinstance(given[0], int):
        return [(field, _one(given))]
    return [(f"{field}[{index}]", _one(one)) for index, one in enumerate(given)]


def _one(text: Any) -> str | tuple[int, ...]:
    return text if isinstance(text, str) else tuple(text)
