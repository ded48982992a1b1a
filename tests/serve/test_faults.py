"""What breaks around the server costs the requests that it touches one clear error, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_proto.operations.service import HEALTH
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.engine.api import Engine
from foundry_runtime.engine.batched.model import BatchedModel
from foundry_runtime.engine.batched.rows import Rows
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.engines import EngineKind, make_engine
from foundry_runtime.models.folder import ModelFolder
from foundry_serve.daemon.log import LogFile
from foundry_serve.daemon.state import ServiceFiles
from tests.serve.conftest import add_model
from tests.support.product import Product, real_product

pytestmark = pytest.mark.anyio

MODEL = "tiny-random-generic-cpu"


def chat(text: str = "Hello", **more: Any) -> ChatCompletionRequest:
    message = UserMessage(role="user", content=text)
    return ChatCompletionRequest(
        model=MODEL, messages=(message,), temperature=0, max_tokens=more.pop("max_tokens", 12), **more
    )


async def said(client: Client, asked: ChatCompletionRequest | None = None) -> str:
    answer = await client.call(CHAT_COMPLETIONS, asked or chat())
    return str(answer.choices[0].message.content)


async def refused(client: Client, status: int, text: str) -> None:
    with pytest.raises(ServerFailure) as caught:
        await said(client)
    assert (caught.value.failure.status, caught.value.failure.message) == (status, text)


@asynccontextmanager
async def broken_once(
    home: ModelDirectory, monkeypatch: pytest.MonkeyPatch, what: type[Any], name: str, error: Exception
) -> AsyncIterator[tuple[Product, str]]:
    """A server that has answered once, and whose engine breaks at the next call of a function."""
    async with real_product(home) as product:
        expected = await said(product.client)
        errors, genuine = [error], getattr(what, name)

        def maybe(*arguments: Any, **more: Any) -> Any:
            if errors:
                raise errors.pop()
            return genuine(*arguments, **more)

        monkeypatch.setattr(what, name, maybe)
        yield product, expected
        assert not errors
        assert len(product.loaded) == 1


@pytest.mark.parametrize("name", ["compute", "decode"])
async def test_a_step_that_fails_costs_its_answer_alone(
    tiny_home: ModelDirectory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    error = RuntimeError("a kernel failed")
    async with broken_once(tiny_home, monkeypatch, BatchedModel, name, error) as (product, expected):
        await refused(product.client, 500, "generation failed: a kernel failed")
        assert await said(product.client) == expected


async def test_no_memory_for_keys_and_values_costs_its_answer_alone(
    tiny_home: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = MemoryError("no room for a row")
    async with broken_once(tiny_home, monkeypatch, Rows, "begin", error) as (product, expected):
        await refused(product.client, 500, "generation failed: no room for a row")
        assert await said(product.client) == expected


async def test_no_memory_for_a_model_is_told_and_it_is_tried_again(tiny_home: ModelDirectory) -> None:
    failures = [MemoryError("no address space for 10 bytes")]

    def make(folder: ModelFolder, kind: EngineKind, /, **more: Any) -> Engine:
        if failures:
            raise failures.pop()
        return make_engine(folder, kind, **more)

    async with real_product(tiny_home, make=make) as product:
        name = f"{MODEL}:1"
        await refused(
            product.client, 500, f"the model {name} could not be loaded: no address space for 10 bytes"
        )
        assert await said(product.client)


async def test_a_thread_that_cannot_be_started_is_told_and_it_is_tried_again(
    tiny_home: ModelDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def begin(thread: threading.Thread) -> None:
        if failures and thread.name.startswith("engine "):
            raise failures.pop()
        genuine(thread)

    monkeypatch.setattr(threading.Thread, "start", begin)
    async with real_product(tiny_home) as product:
        await refused(
            product.client,
            500,
            f"the model {MODEL}:1 could not be loaded: can't start new thread",
        )
        assert await said(product.client)


async def test_work_for_which_no_thread_can_be_started_costs_its_request_alone(
    tiny_home: ModelDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with real_product(tiny_home) as product:
        expected = await said(product.client)
        genuine, failures = anyio.to_thread.run_sync, [RuntimeError("can't start new thread")]

        async def run(*arguments: Any, **more: Any) -> Any:
            if failures:
                raise failures.pop()
            return await genuine(*arguments, **more)

        monkeypatch.setattr(anyio.to_thread, "run_sync", run)
        await refused(product.client, 500, "the server failed on this request")
        assert caplog.messages == ["chat_completions failed"]
        assert await said(product.client) == expected


async def test_a_loaded_model_answers_when_its_files_are_gone(
    tiny_home: ModelDirectory, tmp_path: Path
) -> None:
    home = ModelDirectory(tmp_path)
    folder = add_model(home, f"{MODEL}:1", tiny_home.models / "Test" / "tiny")
    async with real_product(home) as product:
        expected = await said(product.client)
        for name in ("model.onnx", "model.onnx.data", "tokenizer.json"):
            (folder / name).unlink(missing_ok=True)
        assert await said(product.client) == expected
        shutil.rmtree(folder)
        with pytest.raises(ServerFailure) as caught:
            await said(product.client)
        # What is not on this machine is in no list, loaded or not.
        assert (caught.value.failure.status, caught.value.failure.code) == (404, "model_not_found")
        assert (await product.client.call(HEALTH)).status == "ready"


async def test_no_wall_clock_decides(tiny_home: ModelDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the wall jumps by years, back and forth, at each look: only dates follow it."""
    genuine, jumps = time.time, [-1e9, 1e9]

    def jumping() -> float:
        jumps.reverse()
        return max(0.0, genuine() + jumps[0])

    async with real_product(tiny_home) as product:
        expected = await said(product.client)
        monkeypatch.setattr(time, "time", jumping)
        for _ in range(3):
            with anyio.fail_after(60):
                assert await said(product.client) == expected
                assert (await product.client.call(HEALTH)).status == "ready"
        assert len(product.loaded) == 1


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import logging  # noqa: PLC0415 - as the tests of the log do

    full = OSError(errno.ENOSPC, "No space left on device")

    class Full(LogFile):
        def _become(self, file: int) -> None:
            os.close(file)

    log = Full(tmp_path / "service.log")

    def write(*_: object) -> int:
        raise full

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.emit(logging.LogRecord("a", logging.INFO, "f", 1, "one", (), None))
    log.close()


def test_a_state_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foundry_serve.daemon.state import ServiceState  # noqa: PLC0415

    files = ServiceFiles(tmp_path)
    files.write(ServiceState(phase="running", model_dir_path="/here"))

    def replace(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        files.write(ServiceState(phase="stopping", model_dir_path="/here"))
    found = files.read()
    assert found is not None
    assert found.phase == "running"
    assert [one.name for one in (tmp_path / "run").iterdir()] == ["service.json"]
