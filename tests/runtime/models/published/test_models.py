"""The list of published models: there at once, new again in the background, and never lost by a failure."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing
from attrs import define, field

from foundry_runtime.download.sources.api import DownloadFailed
from foundry_runtime.models.description import ModelFacts
from foundry_runtime.models.published.address import CatalogAddress
from foundry_runtime.models.published.entries import read_entry
from foundry_runtime.models.published.kept import KEPT_FILE
from foundry_runtime.models.published.models import FRESH, OLD, PublishedModels
from tests.support.fake_catalog import entry, fake_catalog

pytestmark = pytest.mark.anyio

MIRROR = CatalogAddress(base="http://mirror/x")
PHI = read_entry(entry())
BEGIN = 1_700_000_000


@define
class Asked:
    """A catalogue that does what it is told to, and its clock."""

    models: Sequence[ModelFacts] = (PHI,)
    failure: Exception | None = None
    takes: float = 0.0
    times: list[float] = field(factory=list)
    now: float = BEGIN
    begun: float | None = None
    """When its clock began to run with the loop's; until then it stands still."""

    async def __call__(self, _address: CatalogAddress, _providers: Sequence[str]) -> Sequence[ModelFacts]:
        self.times.append(self.clock())
        await anyio.sleep(self.takes)
        if self.failure is not None:
            raise self.failure
        return self.models

    def clock(self) -> float:
        return self.now if self.begun is None else self.now + anyio.current_time() - self.begun

    def published(self, home: Path, address: CatalogAddress = MIRROR) -> PublishedModels:
        return PublishedModels(home, address, ask=self, clock=self.clock)


def ids(published: PublishedModels) -> list[str]:
    return [model.id for model in published.models()]


async def test_a_list_is_there_for_every_later_process(tmp_path: Path) -> None:
    asked = Asked()
    first = asked.published(tmp_path / "Zuhause ☕")
    assert ids(first) == []
    assert first.notice() == "the catalogue at http://mirror/x has not been read yet"
    assert await first.refresh() is None
    other = asked.published(tmp_path / "Zuhause ☕")
    for one in (first, other):
        (model,) = one.models()
        assert (model.facts, model.cached, model.path) == (PHI, False, None)
        assert (one.age(), one.is_fresh, one.notice()) == (0.0, True, None)
    # What another process learns counts at once.
    asked.models = ()
    await first.refresh()
    assert ids(other) == []


@pytest.mark.parametrize(
    ("passed", "fresh", "notice"),
    [
        (FRESH - 1, True, None),
        (FRESH, False, None),
        (OLD, False, "the list of the catalogue at http://mirror/x is 1 day old"),
        (3.5 * OLD, False, "the list of the catalogue at http://mirror/x is 3 days old"),
    ],
)
async def test_a_list_has_an_age(tmp_path: Path, passed: float, fresh: bool, notice: str | None) -> None:
    asked = Asked()
    published = asked.published(tmp_path)
    await published.refresh()
    asked.now += passed
    assert (published.is_fresh, published.notice()) == (fresh, notice)
    assert ids(published) == [PHI.id]


async def test_a_failure_keeps_the_list_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Asked()
    published = asked.published(tmp_path)
    await published.refresh()
    caplog.set_level(logging.INFO)
    asked.failure = DownloadFailed("http://mirror/x: cannot\nconnect")
    asked.now += 7200
    for _ in range(2):
        assert await published.refresh() == "http://mirror/x: cannot connect"
    notice = "the catalogue could not be reached, its list is 2 hours old: http://mirror/x: cannot connect"
    assert ids(published) == [PHI.id]
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [("WARNING", notice)]
    # Another process knows why, too.
    assert asked.published(tmp_path).notice() == notice
    asked.failure = None
    assert await published.refresh() is None
    assert published.notice() is None
    assert caplog.messages[1:] == ["the catalogue at http://mirror/x answers again"]


async def test_a_machine_that_never_was_on_a_network_is_told_so(tmp_path: Path) -> None:
    published = Asked(failure=DownloadFailed("no route")).published(tmp_path)
    await published.refresh()
    assert published.notice() == (
        "the catalogue could not be reached, only what is on this machine is known: no route"
    )


async def test_several_who_ask_at_once_ask_once(tmp_path: Path) -> None:
    asked = Asked(takes=0.05)
    here, other_process = asked.published(tmp_path), asked.published(tmp_path)
    async with anyio.create_task_group() as group:
        for published in (here, here, other_process, here):
            group.start_soon(published.refresh)
    assert len(asked.times) == 1
    assert ids(other_process) == [PHI.id]
    await here.refresh()
    assert len(asked.times) == 2


async def test_who_is_silent_is_not_waited_for(tmp_path: Path) -> None:
    published = Asked(takes=3600).published(tmp_path)
    assert await published.refresh(within=0.02) == "http://mirror/x: no answer within 0.02 seconds"
    with fake_catalog() as silent:
        silent.hangs = True
        real = PublishedModels(tmp_path, CatalogAddress(base=silent.url))
        assert await real.refresh(within=0.2) == f"{silent.url}: no answer within 0.2 seconds"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"version":1,', '"version":2,'),
        lambda text: text.replace("http://mirror/x", "http://other"),
        lambda text: text.replace('"fileSizeMb":2861', '"fileSizeMb":"big"'),
        lambda text: "[]",
        lambda text: "",
    ],
    ids=["torn", "version", "catalogue", "field", "array", "empty"],
)
async def test_a_file_that_cannot_be_used_is_made_anew(tmp_path: Path, spoil: Any) -> None:
    asked = Asked()
    await asked.published(tmp_path).refresh()
    path = tmp_path / "cache" / KEPT_FILE
    written = path.read_text("utf-8")
    assert json.loads(written)["version"] == 1
    assert spoil(written) != written
    path.write_text(spoil(written), "utf-8")
    published = asked.published(tmp_path)
    assert (ids(published), published.is_fresh) == ([], False)
    await published.refresh()
    assert path.read_text("utf-8") == written
    assert ids(published) == [PHI.id]


async def test_a_home_that_cannot_be_written_to_is_no_hindrance(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").touch()  # a file, where a folder would have to be
    published = Asked().published(tmp_path)
    for _ in range(2):
        assert await published.refresh() is None
    assert ids(published) == [PHI.id]
    (told,) = caplog.messages
    assert re.search("the catalogue's list is not kept", told)


async def test_who_cannot_be_asked_in_a_thread_is_asked_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, failures = Asked(), [RuntimeError("can't start new thread")]

    async def start(function: Any, *args: Any) -> Any:
        if failures:
            raise failures.pop()
        return function(*args)

    monkeypatch.setattr("foundry_runtime.models.published.models._off_the_loop", start)
    monkeypatch.setattr("foundry_runtime.models.published.models._FIRST_PAUSE", 0.01)
    published = asked.published(tmp_path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(published.keep_fresh)
        while not asked.times:  # noqa: ASYNC110 - there is no event to wait for
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()


async def inline(function: Any, *args: Any) -> Any:
    """In place of a thread, which virtual time does not wait for."""
    return function(*args)


@pytest.mark.parametrize(
    "anyio_backend", [("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})], ids=["virtual"]
)
async def test_the_list_is_asked_for_when_it_is_no_longer_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundry_runtime.models.published.models._off_the_loop", inline)
    asked = Asked(begun=anyio.current_time())
    published = asked.published(tmp_path)
    hours = 3600.0
    async with anyio.create_task_group() as group:
        group.start_soon(published.keep_fresh)
        await anyio.sleep(9 * hours)
        assert asked.times == [pytest.approx(BEGIN + n * FRESH, abs=2) for n in range(3)]
        # While it does not answer it is asked again, less and less often.
        asked.failure = DownloadFailed("no route")
        await anyio.sleep(8 * hours)
        waits = [later - earlier for earlier, later in zip(asked.times[3:], asked.times[4:], strict=False)]
        assert waits[:6] == [pytest.approx(60 * 2**n, abs=2) for n in range(1, 6)] + [
            pytest.approx(3600, abs=2)
        ]
        assert waits[6:] == [pytest.approx(3600, abs=2)] * len(waits[6:])
        asked.failure = ValueError("a bug")
        await anyio.sleep(3 * hours)
        asked.failure = None
        before = len(asked.times)
        await anyio.sleep(6 * hours)
        assert len(asked.times) == before + 2
        assert published.notice() is None
        group.cancel_scope.cancel()


async def test_a_clock_that_was_wrong_does_not_keep_the_list_for_ever(tmp_path: Path) -> None:
    asked = Asked(now=BEGIN + 10**9)
    await asked.published(tmp_path).refresh()
    asked.now = BEGIN
    published = asked.published(tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(published.keep_fresh)
        with anyio.fail_after(60):
            while published.kept().saved_at != BEGIN:  # noqa: ASYNC110 - there is no event to wait for
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    assert ids(published) == [PHI.id]
