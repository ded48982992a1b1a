"""Downloads of several processes, and of processes that are killed."""

from __future__ import annotations

from pathlib import Path

from foundry_runtime.models.directory import ModelDirectory
from tests.support.kills import downloading, kill_rounds
from tests.support.origin import origin
from tests.support.remote_source import LIST, model_files


def test_a_download_that_is_killed_is_completed_by_the_next_and_little_comes_twice(tmp_path: Path) -> None:
    size = 128 * 1024
    killed = kill_rounds(
        2, 8_000_000, rate=16e6, seed=1, backend="asyncio", home=tmp_path / "home", range_size=size
    )
    assert len(killed.rounds) == 2
    # What may be unrecorded (four times a range's size), and what each of eight connections has not read.
    assert all(one.sent - one.in_flight <= killed.size + 12 * size for one in killed.rounds)


def test_of_two_processes_that_want_a_model_one_fetches_and_both_succeed(tmp_path: Path) -> None:
    files = model_files(4_000_000)
    size = sum(len(data) for path, data in files.items() if path != LIST)
    with (
        origin(files=files, rate=8e6) as server,
        downloading(tmp_path, server.url, "asyncio") as one,
        downloading(tmp_path, server.url, "trio") as other,
    ):
        assert (one.wait(), other.wait()) == (0, 0)
        assert sum(asked.sent for asked in server.asked if asked.path != LIST) == size
        assert server.count(LIST) == 1
    assert [entry.id for entry in ModelDirectory(tmp_path).entries()] == ["mine:1"]
