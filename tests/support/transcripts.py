"""Golden transcripts: requests and replies as they went over the wire.

A transcript is two files, `NAME.request.http` and `NAME.response.http`, in a directory named like the
operation: the bytes themselves, line ends included, so that there is no format to get wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import field, frozen

__all__ = ["TRANSCRIPTS", "Transcript"]

_ROOT: Final = Path(__file__).parent.parent / "golden" / "transcripts"


@frozen
class Transcript:
    """One request and its reply."""

    operation: str
    name: str
    request: bytes = field(repr=False)
    response: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.operation}/{self.name}"

    @property
    def start_line(self) -> bytes:
        return self.request.partition(b"\r\n")[0]

    @property
    def request_body(self) -> bytes:
        return self.request.partition(b"\r\n\r\n")[2]

    @property
    def text(self) -> str:
        """Request and reply as a page shows them."""
        parts = (part.decode().replace("\r\n", "\n").rstrip() for part in (self.request, self.response))
        return "\n\n".join(parts) + "\n"


def _read(request: Path) -> Transcript:
    name = request.name.removesuffix(".request.http")
    response = request.with_name(f"{name}.response.http")
    return Transcript(request.parent.name, name, request.read_bytes(), response.read_bytes())


TRANSCRIPTS: Final = tuple(_read(path) for path in sorted(_ROOT.glob("*/*.request.http")))
"""All of them."""
