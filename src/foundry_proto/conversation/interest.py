"""What a client that watches is told of: which events belong to its topics, and which downloads are its own.

Knows: that progress tokens are any JSON values, and match when they are equal as JSON values.
Refuses to know: when anything happens, and who tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from foundry_proto.messages.watch import (
    DownloadEnded,
    DownloadProgressed,
    Generated,
    ModelChanged,
    RequestServed,
    ServerEvent,
    Topic,
    WatchRequest,
)

__all__ = ["is_wanted", "same_json"]

_TOPICS: Final[Mapping[type, Topic]] = {
    ModelChanged: "models",
    DownloadProgressed: "downloads",
    DownloadEnded: "downloads",
    RequestServed: "requests",
    Generated: "requests",
}


def is_wanted(event: ServerEvent, wish: WatchRequest) -> bool:
    """Whether a client with this wish is told of this event.

    Args:
        event: What happens.
        wish: The last one that the client has said.
    """
    if _TOPICS[type(event)] not in wish.topics:
        return False
    if not isinstance(event, DownloadProgressed | DownloadEnded):
        return True
    # Absent or null, it names no download, and so leaves none out; an empty list leaves out all.
    tokens = wish.progress_tokens
    return not isinstance(tokens, tuple) or any(same_json(event.progress_token, token) for token in tokens)


def same_json(one: object, other: object) -> bool:
    """Whether two plain values are equal as JSON has it: `1` is `1.0`, and `true` is neither."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and one == other
