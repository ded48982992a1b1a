"""Downloads of a server: one for all who want a model, told at an even pace, ended when nobody waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing

from foundry_proto.progress import Progress
from foundry_runtime.download.delivery import Delivery
from foundry_runtime.download.manager import Conflict, Downloads, NoSource, TooMany
from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.directory import ModelDirectory
from tests.support.scripted_source import ScriptedSource, wanted
from tests.support.serving import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path)


@asynccontextmanager
async def downloading(source: ScriptedSource) -> AsyncIterator[Downloads]:
    async with anyio.create_task_group() as group:
        yield Downloads([source], group)
        group.cancel_scope.cancel()


def delivery(directory: ModelDirectory, source: ScriptedSource, **more: Any) -> Delivery:
    return Delivery(model=wanted(**more), source=source, directory=directory)


async def told(downloads: Downloads, wanted: Delivery) -> list[Progress]:
    async with downloads.joined(wanted) as transfer:
        return [progress async for progress in transfer]


async def test_all_who_want_a_model_share_one_fetch(directory: ModelDirectory) -> None:
    source = ScriptedSource()
    heard: list[list[Progress]] = []

    async def want(downloads: Downloads) -> None:
        heard.append(await told(downloads, delivery(directory, source)))

    async with downloading(source) as downloads:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(want, downloads)
        assert {progress.fraction for progress in await told(downloads, delivery(directory, source))} == {0}
    assert [bool(news) for news in heard] == [True] * 5
    assert len(source.fetched) == 1
    assert [entry.id for entry in directory.entries()] == ["mine:1"]


async def test_a_failure_is_told_to_all_and_the_next_request_tries_again(directory: ModelDirectory) -> None:
    source = ScriptedSource(failure=DownloadFailed("disk full"))
    failures = []

    async def want(downloads: Downloads) -> None:
        with pytest.raises(DownloadFailed, match=r"^disk full$") as caught:
            await told(downloads, delivery(directory, source))
        failures.append(caught.value)

    async with downloading(source) as downloads:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(want, downloads)
        assert len(set(failures)) == 3
        source.failure = None
        await told(downloads, delivery(directory, source))
    assert len(source.fetched) == 2


async def test_what_goes_wrong_inside_is_logged_and_not_told(
    directory: ModelDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    source = ScriptedSource(failure=KeyError("a secret"))
    async with downloading(source) as downloads:
        with pytest.raises(DownloadFailed, match=r"^the server failed on this download$"):
            await told(downloads, delivery(directory, source))
    assert "a secret" in caplog.text


async def test_who_leaves_takes_nothing_from_the_others_and_the_last_ends_it(
    directory: ModelDirectory,
) -> None:
    source = ScriptedSource(hangs=True)
    async with downloading(source) as downloads:
        async with downloads.joined(delivery(directory, source)) as first:
            await anext(first)
            async with downloads.joined(delivery(directory, source)) as second:
                await anext(second)
                await until(lambda: source.fetched)
            await anyio.sleep(0.02)
            assert source.stopped == 0
            source.hangs = False  # for who comes next
        await until(lambda: source.stopped)
        # What it began is there for the next one, who need not wait for anything but its end.
        assert (directory.unfinished("mine:1") / "scratch" / "begun").exists()
        await told(downloads, delivery(directory, source))
    assert (len(source.fetched), source.stopped) == (2, 1)


async def test_who_comes_while_one_is_being_ended_begins_anew(directory: ModelDirectory) -> None:
    source = ScriptedSource(hangs=True)
    async with downloading(source) as downloads:
        async with downloads.joined(delivery(directory, source)) as transfer:
            await anext(transfer)
            await until(lambda: source.fetched)
            source.hangs = False
        # Cancelled, and not over yet: no checkpoint lies between.
        assert source.stopped == 0
        await told(downloads, delivery(directory, source))
    assert (len(source.fetched), source.stopped) == (2, 1)


async def test_a_model_of_the_same_id_from_elsewhere_is_a_conflict(directory: ModelDirectory) -> None:
    source = ScriptedSource(hangs=True)
    async with downloading(source) as downloads, downloads.joined(delivery(directory, source)):
        for other in ({"uri": "test:other"}, {"model_id": "MINE:1", "uri": "test:other"}):
            with pytest.raises(Conflict, match=r":1 is being downloaded from test:mine$"):
                await told(downloads, delivery(directory, source, **other))
        other_directory = ModelDirectory(directory.home, directory.home / "elsewhere")
        source.hangs = False
        await told(downloads, delivery(other_directory, source, uri="test:other"))


async def test_a_server_that_stops_ends_downloads(directory: ModelDirectory) -> None:
    source = ScriptedSource(hangs=True)
    async with downloading(source) as downloads:
        # The context is left by the task group's cancellation alone.
        await downloads._join(delivery(directory, source))
        await until(lambda: source.fetched)
    assert source.stopped == 1


async def test_a_model_that_no_source_has_is_refused_with_what_there_is() -> None:
    async with downloading(ScriptedSource()) as downloads:
        assert downloads.source_of(wanted()).publisher == "tester"
        with pytest.raises(NoSource, match=r"^nothing here can fetch hf://x: expected test:NAME$"):
            downloads.source_of(wanted(uri="hf://x"))


@pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})], ids=["virtual"]
)
async def test_news_come_at_least_each_second_and_at_most_ten_times(directory: ModelDirectory) -> None:
    # A thousand a second for two seconds, and then silence for eight.
    burst = [(f"file-{number // 1000}", number / 2000) for number in range(2000)]
    source = ScriptedSource(news=burst, pause=0.001, quiet=8.0)
    async with downloading(source) as downloads, downloads.joined(delivery(directory, source)) as transfer:
        begun = anyio.current_time()
        told = [(anyio.current_time() - begun, progress) async for progress in transfer]
    times = [time for time, _ in told]
    assert times[0] == 0
    assert all(0.099 <= later - earlier <= 1.01 for earlier, later in pairwise(times))
    fractions = [progress.fraction for _, progress in told]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) >= 10
    assert fractions.count(fractions[-1]) >= 8


async def test_one_download_too_many_is_told_so_and_who_joins_one_is_not(directory: ModelDirectory) -> None:
    source = ScriptedSource(hangs=True)
    wanted_by_two = delivery(directory, source)
    async with anyio.create_task_group() as group:
        downloads = Downloads([source], group, most=1)
        async with downloads.joined(wanted_by_two), downloads.joined(wanted_by_two):
            with pytest.raises(TooMany, match=r"^downloads: expected at most 1 at a time: try again later$"):
                await told(downloads, delivery(directory, source, model_id="other:1"))
        group.cancel_scope.cancel()
