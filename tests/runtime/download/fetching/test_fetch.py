"""Files over HTTP: whatever line and server do, each byte comes to its place, or the reason is told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from foundry_proto.transfer import WantedFile
from foundry_runtime.download.fetching import Limits, RemoteFile, fetch_folder
from foundry_runtime.download.http import open_client
from foundry_runtime.download.sources.api import DownloadFailed, Place
from tests.support.origin import Fault, Origin, origin

pytestmark = pytest.mark.anyio

KIB = 1024


@pytest.fixture
def server() -> Iterator[Origin]:
    with origin() as one:
        yield one


@pytest.fixture
def place(tmp_path: Path) -> Place:
    around = tmp_path / "ein Ort mit Ä"
    return Place(folder=around / "model", scratch=around / "scratch")


def content(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


def remote(server: Origin, path: str, *, hashed: bool = True) -> RemoteFile:
    data = server.files[f"/{path}"]
    sha256 = hashlib.sha256(data).hexdigest() if hashed else None
    return RemoteFile(WantedFile(path=path, size=len(data), sha256=sha256), f"{server.url}/{path}")


SMALL = Limits(connections=4, range_size=64 * KIB, save_every=64 * KIB, unflushed=256 * KIB)


async def fetch(files: Sequence[RemoteFile], place: Place, limits: Limits = SMALL) -> list[tuple[str, float]]:
    told: list[tuple[str, float]] = []

    async def listing() -> Sequence[RemoteFile]:
        return files

    async with open_client() as client:
        await fetch_folder(listing, place, lambda *news: told.append(news), client=client, limits=limits)
    return told


def found(place: Place) -> dict[str, bytes]:
    return {
        f"/{path.relative_to(place.folder).as_posix()}": path.read_bytes()
        for path in place.folder.rglob("*")
        if path.is_file()
    }


async def test_files_come_whole_in_parallel_ranges_and_nothing_twice(server: Origin, place: Place) -> None:
    server.files = {
        "/model.onnx": content(1_000_000),
        "/a/b/config.json": content(100, 1),
        "/empty": b"",
        "/model.onnx.data": content(300_001, 2),
    }
    files = [remote(server, path[1:], hashed="a" in path) for path in server.files]
    told = await fetch(files, place)
    assert found(place) == server.files
    assert server.sent == sum(map(len, server.files.values()))
    assert told[-1][1] == 1.0
    assert server.count("/model.onnx") == 16
    again = await fetch(files, place)
    assert (again, server.sent) == ([], sum(map(len, server.files.values())))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut=0),
        Fault(cut=10_000),
        Fault(status=503),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(shift=1),
        Fault(headers={"Content-Length": "7"}),
        Fault(longer=5),
    ],
    ids=str,
)
async def test_what_fails_in_passing_is_asked_for_again(server: Origin, place: Place, fault: Fault) -> None:
    server.files = {"/model.onnx": content(300_000)}
    server.faults = {"/model.onnx": [Fault(), fault]}
    await fetch([remote(server, "model.onnx", hashed=False)], place)
    assert found(place) == server.files


async def test_a_refusal_for_good_is_told(server: Origin, place: Place) -> None:
    server.files = {"/model.onnx": content(1000)}
    server.faults = {"/model.onnx": [Fault(status=404)]}
    with pytest.raises(DownloadFailed, match=rf"^model.onnx: 404 Not Found \({server.url}/model.onnx\)$"):
        await fetch([remote(server, "model.onnx")], place)
