"""How h11 is fed, and how its complaints are told.

Knows: that h11 compares an unfinished part (a head, a size line, trailers) with its limit only when it has
looked at all that it was given: given much at once, a part may pass that would not have passed in pieces.
Refuses to know: what the bytes mean.
"""

from __future__ import annotations

import h11

__all__ = ["feed", "in_words"]


def feed(http: h11.Connection, source: bytearray, limit: int) -> bytes:
    """Move bytes to h11, which has just asked for them: never so many that its limit could be overstepped.

    Args:
        http: The connection, with `limit` as its `max_incomplete_event_size`.
        source: Where the bytes are taken from, not empty.
        limit: Most bytes of an unfinished part.

    Returns:
        What was moved.
    """
    room = limit + 1 - len(http.trailing_data[0])
    part = bytes(source[:room])
    del source[: len(part)]
    http.receive_data(part)
    return part


def in_words(error: h11.ProtocolError) -> str:
    """Tell what h11 found wrong, without the bytes that it quotes: they may be many."""
    text, _, _ = str(error).partition(": bytearray(")
    return text[0].lower() + text[1:]
