"""Where files are written: nowhere else than into the folder, and what is said when they cannot be."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from foundry_runtime.download.fetching.disk import OpenFile
from foundry_runtime.download.sources.api import DownloadFailed, Place
from tests.runtime.download.fetching.remotes import content, fetch, found, remotes
from tests.support.origin import Origin

pytestmark = pytest.mark.anyio


class Usage(NamedTuple):
    total: int
    used: int
    free: int


async def test_a_full_disk_is_told_before_anything_is_fetched(
    server: Origin, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"/a": content(10_000), "/b": content(5_000)}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 14_999, 14_999))
    expected = (
        rf"^{place.folder}: expected 15000 bytes of free disk space for what is missing, got 14999\."
        r" What is here is kept: make room, then ask again$"
    )
    with pytest.raises(DownloadFailed, match=expected):
        await fetch(remotes(server), place)
    assert server.asked == []
    # What is there takes no more room.
    (place.folder / "a").write_bytes(server.files["/a"])
    await fetch(remotes(server), place)
    assert found(place) == server.files


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
async def test_a_disk_that_gets_full_in_the_middle_is_told_and_gone_on_with(
    server: Origin, place: Place, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    server.files = {"/a": content(10_000), "/model.onnx": content(1_000_000)}
    write, written = OpenFile.write, 0

    def fill(file: OpenFile, where: Path, pieces: list[bytes], position: int) -> None:
        nonlocal written
        if where.name.startswith("model.onnx"):
            written += sum(map(len, pieces))
        if written > 500_000 and where.name.startswith("model.onnx"):
            raise OSError(number, os.strerror(number))
        write(file, where, pieces, position)

    monkeypatch.setattr(OpenFile, "write", fill)
    expected = (
        rf"^model\.onnx: the disk is full: {os.strerror(number)}; \d+ bytes are free for {place.folder}\."
        r" What is here is kept: make room, then ask again$"
    )
    with pytest.raises(DownloadFailed, match=expected):
        await fetch(remotes(server), place)
    monkeypatch.undo()
    told = await fetch(remotes(server), place)
    assert told[0][1] > 0.3
    assert found(place) == server.files


async def test_a_disk_that_fails_is_told_with_the_files_name(
    server: Origin, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"/model.onnx": content(1000)}

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(OpenFile, "write", fail)
    with pytest.raises(OSError, match=rf"Input/output error: '{place.folder / 'model.onnx'}'$"):
        await fetch(remotes(server), place)


CHILD = """
import os, resource, sys
from functools import partial
from pathlib import Path
from typing import NamedTuple
import anyio, httpx, trio
from foundry_proto.transfer import WantedFile
from foundry_runtime.download.fetching import RemoteFile, fetch_folder
from foundry_runtime.download.http import open_client
from foundry_runtime.download.sources.api import Place

async def main(url, folder, sizes):
    async def listing():
        return [RemoteFile(WantedFile(path=name, size=size), f"{url}/{name}") for name, size in sizes]
    async with open_client() as client:
        if os.environ["LIMIT"] == "size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        elif os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        try:
            await fetch_folder(listing, Place(folder=folder, scratch=folder), lambda *_: None, client=client)
        except OSError as error:
            print(error)

url, folder, backend, *sizes = sys.argv[1:]
anyio.run(main, url, Path(folder), [(s.split("=")[0], int(s.split("=")[1])) for s in sizes], backend=backend)
"""


def run(server: Origin, folder: Path, backend: str, limit: str) -> str:
    sizes = [f"{path[1:]}={len(data)}" for path, data in server.files.items()]
    return subprocess.run(
        [sys.executable, "-c", CHILD, server.url, str(folder), backend, *sizes],
        env={**os.environ, "LIMIT": limit},
        check=True,
        text=True,
        capture_output=True,
    ).stdout.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="there, files have no such limit")
async def test_a_limit_on_the_size_of_files_is_told_and_the_rest_is_kept(
    server: Origin, place: Place, anyio_backend_name: str
) -> None:
    server.files = {"/config.json": content(1000), "/model.onnx": content(1_000_000)}
    said = run(server, place.folder, anyio_backend_name, "size")
    assert said.startswith("model.onnx: the disk is full: File too large; ")
    await fetch(remotes(server, hashed=False), place)
    assert found(place) == server.files
    assert server.count("/config.json") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there, access rights are another matter")
async def test_a_folder_that_may_not_be_written_to_is_told(
    server: Origin, place: Place, anyio_backend_name: str
) -> None:
    server.files = {"/config.json": content(1000)}
    place.folder.mkdir(parents=True)
    place.folder.chmod(0o555)
    try:
        said = run(server, place.folder, anyio_backend_name, "rights")
    finally:
        place.folder.chmod(0o755)
    assert "Permission denied: '" in said
    assert server.asked == []


async def test_what_is_in_the_way_of_the_folder_is_told(server: Origin, place: Place) -> None:
    server.files = {"/config.json": content(1000)}
    place.folder.parent.parent.mkdir(exist_ok=True)
    place.folder.parent.touch()
    with pytest.raises(OSError, match=f"'{place.folder}'$"):
        await fetch(remotes(server), place)
    assert server.asked == []


async def test_links_lead_nowhere_and_what_does_not_belong_there_goes(
    server: Origin, place: Place, tmp_path: Path
) -> None:
    server.files = {"/model.onnx": content(1000), "/a/b": content(10), "/c/d/e": content(20)}
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    precious = outside / "precious"
    precious.write_bytes(b"x" * 1000)
    place.folder.parent.mkdir(parents=True)
    place.folder.symlink_to(outside)
    await fetch(remotes(server), place)
    assert (found(place), place.folder.is_symlink()) == (server.files, False)
    shutil.rmtree(place.folder)
    place.folder.mkdir()
    (place.folder / "model.onnx").symlink_to(precious)
    (place.folder / "a").symlink_to(outside)
    (place.folder / "c").mkdir()
    (place.folder / "c" / "d").symlink_to(outside / "d")
    (place.folder / "download.tmp").symlink_to(precious)
    (place.folder / "old" / "model.onnx").mkdir(parents=True)
    (place.folder / "old" / "stray").touch()
    (place.folder / "stray").touch()
    await fetch(remotes(server), place)
    assert found(place) == server.files
    assert {path.name for path in place.folder.iterdir()} == {"model.onnx", "a", "c"}
    assert precious.read_bytes() == b"x" * 1000
    assert {path.name for path in outside.rglob("*")} == {"precious", "d"}


async def test_a_file_in_place_of_a_folder_makes_way_and_so_does_a_folder_in_place_of_a_file(
    server: Origin, place: Place
) -> None:
    server.files = {"/a/b": content(10), "/c": content(20)}
    place.folder.mkdir(parents=True)
    (place.folder / "a").touch()
    (place.folder / "c").mkdir()
    await fetch(remotes(server), place)
    assert found(place) == server.files


@pytest.mark.parametrize("path", ["download.tmp", "Download.TMP", "download.tmp/x"])
async def test_a_file_named_as_the_record_is_refused(server: Origin, place: Place, path: str) -> None:
    server.files = {f"/{path}": content(10)}
    expected = rf"^{path}: expected another name, this one is used for what is unfinished$"
    with pytest.raises(DownloadFailed, match=expected):
        await fetch(remotes(server), place)
