"""The download's wire format, as each client of the older service reads it; and one of these clients."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from foundry_runtime.download.sources.api import DownloadFailed, Source
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.app import make_application
from tests.support.scripted_model import ScriptedModels, scripted_server
from tests.support.scripted_source import ScriptedSource
from tests.support.serving import Served
from tests.support.transcripts import TRANSCRIPTS

pytestmark = pytest.mark.anyio

NEWS = (
    ("genai_config.json", 0.01),
    ("genai_config.json", 0.2),
    ("model.onnx.data", 0.5),
    ("model.onnx.data", 0.78),
)
MINE = {"Name": "mine:1", "Uri": "test:mine", "ProviderType": "Test", "Publisher": "", "PromptTemplate": None}


@pytest.fixture
def home(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path)


async def reads(server: Served, request: bytes) -> list[tuple[float, bytes]]:
    """What each single read of a client gives of the reply's body, and when."""
    transport = await server.connect()
    await transport.send(request)
    found: list[tuple[float, bytes]] = []
    begun = anyio.current_time()
    while not found or not found[-1][1].endswith(b"}\n"):
        piece = await transport.receive()
        assert piece, "the server hung up"
        if not found:
            piece = piece.partition(b"\r\n\r\n")[2]
        chunks = re.findall(rb"(?s)[0-9a-f]+\r\n(.*?)\r\n(?=[0-9a-f]+\r\n|\Z)", piece)
        found.append((anyio.current_time() - begun, b"".join(chunks)))
    return found


async def test_the_stream_is_what_each_client_of_the_older_service_reads(home: ModelDirectory) -> None:
    # The reference page's own example, sent verbatim: its source says what the page shows.
    (example,) = [one.request for one in TRANSCRIPTS if str(one) == "download_model/documented"]
    source = ScriptedSource(prefix="azureml:", news=NEWS, pause=0.12)
    async with scripted_server(home, sources=[source]) as (server, _):
        pieces = await reads(server, example)
    assert [entry.id for entry in home.entries()] == ["Phi-4-mini-instruct-generic-cpu:4"]
    texts = [text for _, text in pieces]
    # One reads by lines: updates, a marker, and then an object that begins in the first column.
    lines = b"".join(texts).decode().splitlines()
    assert lines[0] == '("", 0)'
    totals = [
        float(found[1]) for line in lines if (found := re.fullmatch(r"Total (\S+)% Downloading .*", line))
    ]
    assert totals == sorted(totals)
    assert totals[-1] == 100
    shown = [f'("{file}", {fraction})' for file, fraction in NEWS]
    assert [line for line in dict.fromkeys(lines) if line in shown] == shown
    assert "Total 78% Downloading model.onnx.data" in lines
    assert lines.index("[DONE] All Completed!") == len(lines) - 2
    assert json.loads(lines[-1]) == {
        "success": True, "errorMessage": None, "error": None, "Success": True, "ErrorMessage": None,
    }  # fmt: skip
    # Another takes each read as a whole: the result must begin one of its own.
    percents = []
    for text in texts[:-1]:
        assert not text.startswith(b"{")
        if percent := re.search(rb"(\d+(?:\.\d+)?)%", text):
            percents.append(float(percent[1]))
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert texts[-1].startswith(b"{")
    assert pieces[-1][0] - pieces[-2][0] >= 0.15
    # And one takes the last brace and what follows for the result.
    body = b"".join(texts)
    assert json.loads(body[body.rindex(b"{") :])["success"] is True


@asynccontextmanager
async def over_tcp(home: ModelDirectory, *sources: Source) -> AsyncIterator[str]:
    async with anyio.create_task_group() as group:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        application = make_application(home, ScriptedModels(group), sources=sources)
        await group.start(partial(serve, application, [listener]))
        yield f"http://127.0.0.1:{listener.port}"
        group.cancel_scope.cancel()


@pytest.mark.client
async def test_the_official_python_client_downloads_and_is_told_why_not(home: ModelDirectory) -> None:
    sdk = pytest.importorskip("foundry_local.client")
    body = {"model": MINE, "token": None, "IgnorePipeReport": True}

    async def post(uri: str) -> dict[str, Any]:
        client = sdk.HttpxClient(uri)
        reply: dict[str, Any] = await anyio.to_thread.run_sync(
            client.post_with_progress, "/openai/download", body
        )
        client._client.close()
        return reply

    source = ScriptedSource(failure=DownloadFailed("disk full"))
    async with over_tcp(home, source) as uri:
        failed = await post(uri)
        assert (failed["success"], failed["errorMessage"]) == (False, "disk full")
        source.failure = None
        assert (await post(uri))["success"] is True
        assert [entry.id for entry in home.entries()] == ["mine:1"]
        assert (await post(uri))["success"] is True
        body["model"] = {**MINE, "Name": "other:1", "Uri": "azureml://x"}
        refused = await post(uri)
        assert refused["success"] is False
        assert "nothing here can fetch azureml://x" in refused["errorMessage"]
