"""What is to be fetched, and how patiently.

Knows: a file's address, which may be a secret. Refuses to know: how addresses are found.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from attrs import field, frozen

from foundry_proto.transfer import WantedFile

__all__ = ["Limits", "Listing", "RemoteFile"]

_MIB: Final = 1024 * 1024


@frozen
class RemoteFile:
    """A file at a source, and where it is now."""

    wanted: WantedFile
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    """Sent with each request for it, and never to another host, wherever a redirect leads."""


Listing = Callable[[], Awaitable[Sequence[RemoteFile]]]
"""Says which files there are: asked at the beginning, and again when addresses have expired."""


@frozen(kw_only=True)
class Limits:
    """How much at a time, and how patiently.

    Raises:
        ValueError: Nothing would ever be recorded.
    """

    connections: int = 8
    """The most connections at a time."""
    range_size: int = 16 * _MIB
    """The most bytes of a request's answer."""
    save_every: int = 4 * _MIB
    """How many bytes come before they are flushed, and then before that is recorded."""
    unrecorded: int = 16 * _MIB
    """The most bytes that are written and not recorded, which a crash may cost."""
    silence: float = 30.0
    """Seconds in which `least` bytes must come."""
    least: int = 1024
    """Bytes."""
    attempts: int = 8
    """How often in a row a file may fail."""

    def __attrs_post_init__(self) -> None:
        if self.unrecorded < self.save_every:  # nothing would be recorded, and all wait for it
            raise ValueError(f"unrecorded: expected at least {self.save_every} bytes, got {self.unrecorded}")
