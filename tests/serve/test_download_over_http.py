"""`POST /openai/download` of a model that comes over HTTP: what is told, who hangs up, and why it fails."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from foundry_proto.codec import structure
from foundry_proto.messages.downloads import DownloadRequest
from foundry_proto.operations.downloads import DOWNLOAD_MODEL
from foundry_proto.operations.service import HEALTH
from foundry_proto.streams import PROGRESS
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.download.fetching import Limits
from foundry_runtime.download.fetching.disk import OpenFile
from foundry_runtime.models.directory import ModelDirectory
from tests.support.origin import Fault, Origin, origin
from tests.support.remote_source import LIST, RemoteSource, model_files
from tests.support.scripted_model import scripted_server
from tests.support.serving import Served, until

pytestmark = pytest.mark.anyio

DATA = "/onnx/model.onnx.data"
SMALL = Limits(range_size=64 * 1024, save_every=64 * 1024, unrecorded=256 * 1024)


@pytest.fixture
def home(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "Zuhause mit Ä")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(PROGRESS), "final_pause", 0.0)
    monkeypatch.setattr("foundry_proto.transfer._file._FIRST_DELAY", 0.01)


@asynccontextmanager
async def serving(home: ModelDirectory, rate: float | None = None) -> AsyncIterator[tuple[Served, Origin]]:
    with origin(files=model_files(1_000_000), rate=rate) as remote:
        async with scripted_server(home, sources=[RemoteSource(SMALL)]) as (server, _):
            yield server, remote


def request(remote: Origin) -> dict[str, object]:
    return {"model": {"Name": "mine:1", "Uri": remote.url, "ProviderType": "Test"}}


async def told(client: Client, remote: Origin) -> list[float]:
    async with client.stream(DOWNLOAD_MODEL, structure(DownloadRequest, request(remote))) as stream:
        return [progress.fraction async for progress in stream]


def bytes_of_files(remote: Origin) -> int:
    return sum(asked.sent for asked in remote.asked if asked.path != LIST)


class Lateness:
    """How long this loop was kept from its work, by a machine that has other things to do."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def measure(self) -> None:
        while True:
            due = anyio.current_time() + 0.02
            await anyio.sleep_until(due)
            late = anyio.current_time() - due
            self.seconds += late if late > 0.02 else 0.0


async def test_progress_is_told_between_once_and_ten_times_a_second_and_never_falls_back(
    home: ModelDirectory,
) -> None:
    told, lateness = [], Lateness()
    async with (
        serving(home, rate=90_000) as (server, remote),
        server.client() as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(lateness.measure)
        # Something is lost on the way, and comes again.
        remote.faults = {DATA: [Fault(corrupt=True, cut=30_000), Fault(stall=10_000)]}
        body = structure(DownloadRequest, request(remote))
        begun = anyio.current_time()
        async with client.stream(DOWNLOAD_MODEL, body) as stream:
            async for progress in stream:
                told.append((anyio.current_time(), progress.fraction, progress.file))
                if len(told) == 3:
                    remote.rate = None
                    remote.stopping.set()
        tasks.cancel_scope.cancel()
    assert [entry.id for entry in home.entries()] == ["mine:1"]
    times = [begun, *(time for time, _, _ in told)]
    assert all(later - earlier <= 1.2 + lateness.seconds for earlier, later in pairwise(times))
    # The first comes at once. A reader that was late reads two at a time, so all are looked at together.
    assert len(told) <= 2 + 10 * (times[-1] - begun)
    fractions = [fraction for _, fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1
    assert {file for _, _, file in told} - {""} <= {path[1:] for path in remote.files}


async def begin(server: Served, remote: Origin) -> None:
    """Ask for the model, wait for half of it, and hang up."""
    transport = await server.connect()
    data = json.dumps(request(remote)).encode()
    await transport.send(
        b"POST /openai/download HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    )
    await until(lambda: bytes_of_files(remote) > 500_000)
    await transport.aclose()
    await until(lambda: server.ended)


async def test_who_hangs_up_leaves_what_has_come_for_the_next(home: ModelDirectory) -> None:
    async with serving(home, rate=200_000) as (server, remote), server.client() as client:
        await begin(server, remote)
        assert home.entries() == []
        remote.rate = None
        fractions = await told(client, remote)
        assert [entry.id for entry in home.entries()] == ["mine:1"]
        assert fractions == sorted(fractions)
        # What was in the line is lost, and nothing else.
        assert bytes_of_files(remote) <= 1_000_200 + 8 * 64 * 1024


async def test_a_disk_that_gets_full_ends_it_with_the_reason_and_the_server_goes_on(
    home: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = OpenFile.write

    def fill(file: OpenFile, where: Path, pieces: list[bytes], position: int) -> None:
        if where.name.startswith("model.onnx.data") and position > 400_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file, where, pieces, position)

    async with serving(home) as (server, remote), server.client() as client:
        monkeypatch.setattr(OpenFile, "write", fill)
        expected = (
            r"^onnx/model\.onnx\.data: the disk is full: No space left on device; \d+ bytes are free for"
        )
        for _ in range(2):
            with pytest.raises(ServerFailure, match=f"{expected} .* make room, then ask again$"):
                await told(client, remote)
            assert home.entries() == []
            assert (await client.call(HEALTH)).status == "ready"
        monkeypatch.setattr(OpenFile, "write", write)  # There is room again.
        await told(client, remote)
        assert [entry.id for entry in home.entries()] == ["mine:1"]


def covers(ranges: str | None, position: int = 524_288) -> bool:
    """Whether a range that is asked for has this byte: what has come before decides where ranges begin."""
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", ranges or "")
    return found is not None and int(found[1]) <= position <= int(found[2])


async def test_a_failure_ends_with_its_reason_and_what_came_is_kept(home: ModelDirectory) -> None:
    async with serving(home) as (server, remote), server.client() as client:
        remote.always = lambda path, ranges: Fault(status=404) if path == DATA and covers(ranges) else None
        expected = rf"^onnx/model.onnx.data: 404 Not Found \({remote.url}{DATA}\)$"
        for _ in range(2):
            with pytest.raises(ServerFailure, match=expected):
                await told(client, remote)
            assert home.entries() == []
        remote.always = lambda path, ranges: None
        before = bytes_of_files(remote)
        await told(client, remote)
        assert [entry.id for entry in home.entries()] == ["mine:1"]
        assert bytes_of_files(remote) - before < 600_000
