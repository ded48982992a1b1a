"""The contract of a source of models as a test: whoever writes one calls `check_source` with its factory.

Knows: what `api.py` promises, law by law. Refuses to know: any test framework, and where models come from.

A law that is broken raises `AssertionError` with a sentence about what was expected and what came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import anyio
from attrs import define, evolve, field

from foundry_runtime.download.sources.api import Place, Source, WantedModel
from foundry_runtime.models.folder import CONFIG_FILE

__all__ = ["check_source"]

_NOWHERE: Final = "nowhere-at-all:model"
_SETTLE: Final = 0.05
"""Seconds in which work that was cancelled, but goes on, would show."""


async def check_source(factory: Callable[[], Source], model: WantedModel, folder: Path) -> None:
    """Hold a source to its contract.

    Args:
        factory: Makes the source; called once a law.
        model: A small model that it has.
        folder: An empty directory for what is fetched.

    Raises:
        AssertionError: A law is broken.
    """
    _check_offers(factory(), model)
    whole = await _check_fetch(factory(), model, folder / "Ein Ort mit Ä")
    await _check_interruptions(factory, model, folder / "interrupted", whole)


def _check_offers(source: Source, model: WantedModel) -> None:
    _expect(source.expects, "a source says what it expects, got nothing")
    _expect(source.publisher, "a source says whose its models are, got nothing")
    _expect(source.offers(model), f"a source offers the model that it has, {model.uri}")
    elsewhere = evolve(model, uri=_NOWHERE)
    _expect(not source.offers(elsewhere), f"a source offers no model of an unknown place, {_NOWHERE}")


async def _check_fetch(source: Source, model: WantedModel, around: Path) -> _Fetched:
    place = Place(folder=around / "place" / "model", scratch=around / "place" / "scratch")
    beside = around / "beside"
    beside.mkdir(parents=True)
    first = await _fetch(source, model, place)
    strays = _names(around) - {"beside", "place"} | _names(beside)
    _expect(not strays, f"nothing is written outside of the place, got {sorted(strays)}")
    again = await _fetch(source, model, place)
    _expect(again.files == first.files, "a second call for a place leaves the same files")
    return first


async def _check_interruptions(
    factory: Callable[[], Source], model: WantedModel, around: Path, whole: _Fetched
) -> None:
    for moment in sorted({1, max(1, len(whole.reports) * 2 // 3)}):
        place = Place(folder=around / f"{moment}" / "model", scratch=around / f"{moment}" / "scratch")
        reports = _Reports(stop_at=moment)
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(_cancel, reports, scope)
                await factory().fetch(model, place, reports)
            reports.over = True
        told = len(reports.told)
        await anyio.sleep(_SETTLE)
        _expect(len(reports.told) == told, "a call that was cancelled has ended all work when it raises")
        completed = await _fetch(factory(), model, place)
        _expect(
            completed.files == whole.files,
            f"a call after one that was cancelled at report {moment} brings the whole model",
        )


@define
class _Fetched:
    files: Mapping[str, str]
    """Name to hash."""
    reports: list[tuple[str, float]]


@define
class _Reports:
    """Takes what a source reports, in whatever thread."""

    stop_at: int = -1
    told: list[tuple[str, float]] = field(factory=list)
    over: bool = False

    def __call__(self, what: str, fraction: float) -> None:
        self.told.append((what, fraction))

    @property
    def reached(self) -> bool:
        return 0 <= self.stop_at <= len(self.told)


async def _cancel(reports: _Reports, scope: anyio.CancelScope) -> None:
    while not reports.reached and not reports.over:  # noqa: ASYNC110 - a thread tells nobody
        await anyio.sleep(0.001)
    scope.cancel()


async def _fetch(source: Source, model: WantedModel, place: Place) -> _Fetched:
    reports = _Reports()
    await source.fetch(model, place, reports)
    _expect((place.folder / CONFIG_FILE).is_file(), f"a model's folder has a {CONFIG_FILE} at its top")
    for what, fraction in reports.told:
        _expect(0 <= fraction <= 1, f"a fraction is from 0 to 1, got {fraction} for {what}")
    files = {
        path.relative_to(place.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.folder.rglob("*")
        if path.is_file()
    }
    return _Fetched(files, reports.told)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _expect(condition: object, law: str) -> None:
    if not condition:
        raise AssertionError(f"expected: {law}")
