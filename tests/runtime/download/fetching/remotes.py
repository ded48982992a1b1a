"""How tests fetch from an origin, and look at what has come."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random

from foundry_proto.transfer import WantedFile
from foundry_runtime.download.fetching import Limits, Listing, RemoteFile, fetch_folder
from foundry_runtime.download.http import open_client
from foundry_runtime.download.sources.api import Place
from foundry_runtime.download.work import Progress
from tests.support.origin import Origin

__all__ = ["KIB", "SMALL", "content", "fetch", "found", "remote", "remotes"]

KIB = 1024
SMALL = Limits(connections=4, range_size=64 * KIB, save_every=64 * KIB, unrecorded=256 * KIB)


def content(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


def remote(server: Origin, path: str, *, hashed: bool = True, query: str = "") -> RemoteFile:
    """A file of an origin, as its source lists it."""
    data = server.files[f"/{path}"]
    sha256 = hashlib.sha256(data).hexdigest() if hashed else None
    return RemoteFile(WantedFile(path=path, size=len(data), sha256=sha256), f"{server.url}/{path}{query}")


def remotes(server: Origin, *, hashed: bool = True) -> list[RemoteFile]:
    return [remote(server, path.removeprefix("/"), hashed=hashed) for path in server.files]


async def fetch(
    files: Sequence[RemoteFile] | Listing,
    place: Place,
    *,
    limits: Limits = SMALL,
    progress: Progress | None = None,
) -> list[tuple[str, float]]:
    """Fetch files; gives what was told of it."""
    told: list[tuple[str, float]] = []

    async def listing() -> Sequence[RemoteFile]:
        return await files() if callable(files) else files

    def tell(what: str, fraction: float) -> None:
        told.append((what, fraction))
        if progress is not None:
            progress(what, fraction)

    async with open_client() as client:
        await fetch_folder(listing, place, tell, client=client, limits=limits)
    return told


def found(place: Place) -> dict[str, bytes]:
    """All files that are in a place's folder, as an origin has them."""
    return {
        f"/{path.relative_to(place.folder).as_posix()}": path.read_bytes()
        for path in place.folder.rglob("*")
        if path.is_file()
    }
