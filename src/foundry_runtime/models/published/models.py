"""The published models: a list that is there at once, however old, and made new in the background.

Knows: how old a list may be, when the catalogue is asked again, that nobody ever waits for that who only
wants to know what there is, and what to tell of a list that is old.
Refuses to know: what is asked (`asking.py`), and how the list is kept (`kept.py`).

A source of the catalogue of all models (`foundry_runtime.models.catalog`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from threading import Lock
from typing import Final, NoReturn

import anyio
import anyio.to_thread
from attrs import evolve, fields

from foundry_proto.jsontext import ContentError
from foundry_runtime.download.work import alone
from foundry_runtime.models.description import CatalogModel, ModelFacts
from foundry_runtime.models.published.address import CatalogAddress
from foundry_runtime.models.published.asking import ASKED, ask_catalog
from foundry_runtime.models.published.kept import KEPT_FILE, KeptList, read_kept, write_kept

__all__ = ["FRESH", "OLD", "Ask", "PublishedModels"]

logger = logging.getLogger(__name__)

FRESH: Final = 4 * 60 * 60
"""Seconds in which a list counts as new; behind them it is asked for again."""
OLD: Final = 24 * 60 * 60
"""Seconds behind which a list is called old."""
_WITHIN: Final = 120.0
"""Seconds that the catalogue has to answer all questions."""
_FIRST_PAUSE: Final = 60.0
_LONGEST_PAUSE: Final = 60.0 * 60
"""Seconds between two attempts while it does not answer: twice as many each time."""
_LOOK: Final = 15.0 * 60
"""Seconds between two looks at the clock: a machine that slept has another time than its sleeping tasks."""

Ask = Callable[[CatalogAddress, Sequence[str]], Awaitable[Sequence[ModelFacts]]]
"""Asks a catalogue for the models of some execution providers."""


def _ignore(_what: str, _fraction: float) -> None:
    pass


_off_the_loop: Final = anyio.to_thread.run_sync


async def _processor() -> Sequence[str]:
    return ("cpu",)


class PublishedModels:
    """The models of the public catalogue, or of a mirror of it.

    Args:
        home: The folder that holds all that belongs to the service.
        address: Where the catalogue is.
        providers: Says on which execution providers models can run here; only those are asked for.
        ask: Asks.
        clock: The time, in seconds since 1970.
    """

    def __init__(
        self,
        home: Path,
        address: CatalogAddress,
        *,
        providers: Callable[[], Awaitable[Sequence[str]]] = _processor,
        ask: Ask = ask_catalog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address = address
        self._path = home / "cache" / KEPT_FILE
        self._providers = providers
        self._ask = ask
        self._clock = clock
        self._reading = Lock()
        self._seen: object = None
        self._kept = KeptList(catalog=address.base)
        self._models: tuple[CatalogModel, ...] = ()
        self._flight = anyio.Lock()
        self._rounds = 0
        """How often the catalogue was asked."""
        self._told = False
        """Whether it was said that the catalogue does not answer."""
        self._unwritten = False
        """Whether it was said that its list cannot be written."""

    def models(self) -> Sequence[CatalogModel]:
        """Those of the list that is kept, whatever its age; blocks for a look at a file."""
        self._read()
        return self._models

    def kept(self) -> KeptList:
        """The list that is kept; an empty one where there is none."""
        return self._read()

    def age(self) -> float | None:
        """Seconds since the catalogue has answered; `None` if it never has."""
        saved_at = self._read().saved_at
        return max(0.0, self._clock() - saved_at) if saved_at else None

    def since_tried(self) -> float | None:
        """Seconds since it was asked, in vain or not; `None` if it never was."""
        tried_at = self._read().tried_at
        return max(0.0, self._clock() - tried_at) if tried_at else None

    @property
    def is_fresh(self) -> bool:
        """Whether there is no need to ask."""
        age = self.age()
        return age is not None and age < FRESH

    def notice(self) -> str | None:
        """What a user should know about the list: that it is old, or why there is none; in one line."""
        kept, age = self._read(), self.age()
        if kept.problem is not None:
            left = "only what is on this machine is known" if age is None else f"its list is {_ago(age)} old"
            return f"the catalogue could not be reached, {left}: {kept.problem}"
        if age is None:
            return f"the catalogue at {self.address.base} has not been read yet"
        return f"the list of the catalogue at {self.address.base} is {_ago(age)} old" if age >= OLD else None

    async def refresh(self, *, within: float = _WITHIN) -> str | None:
        """Ask the catalogue, and keep what it answers; if it does not, what is kept stays.

        Of several calls, in whatever processes, one asks and the others wait for it.

        Args:
            within: Seconds that it has.

        Returns:
            Why there is no answer; `None` if there is one.
        """
        rounds = self._rounds
        async with self._flight:
            if self._rounds == rounds:
                await self._refresh(within)
                self._rounds += 1
            return (await _off_the_loop(self.kept)).problem

    async def keep_fresh(self) -> NoReturn:
        """Ask the catalogue whenever the list is no longer new; to be cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                if (wait := await _off_the_loop(self._due_in, pause)) > 0:
                    await anyio.sleep(min(wait, _LOOK))
                    continue
                problem = await self.refresh()
            except Exception:  # a bug, or a thread that cannot be started; the server goes on without it
                logger.exception("asking the catalogue failed")
                problem = "a bug"
                await anyio.sleep(pause)
            pause = _FIRST_PAUSE if problem is None else min(2 * pause, _LONGEST_PAUSE)

    def _due_in(self, pause: float) -> float:
        kept, now = self._read(), self._clock()
        if kept.tried_at > now:
            return 0.0  # it was written by a clock that went wrong
        due = min(kept.saved_at, now) + FRESH
        return (due if kept.problem is None else max(due, kept.tried_at + pause)) - now

    async def _refresh(self, within: float) -> None:
        before = self._signature()
        async with AsyncExitStack() as stack:
            with anyio.move_on_after(within) as scope:
                with suppress(OSError):  # models can be served from where nothing can be written
                    await stack.enter_async_context(alone(self._path.with_suffix(".lock"), _ignore))
                if self._signature() != before:
                    return  # another process has asked meanwhile
                problem = await self._ask_and_keep()
            if scope.cancelled_caught:
                problem = f"{self.address.base}: no answer within {within:g} seconds"
            if problem is not None:
                await _off_the_loop(self._failed, problem)

    async def _ask_and_keep(self) -> str | None:
        """Ask; gives why there is no answer."""
        try:
            facts = await self._ask(self.address, await self._providers())
        except (OSError, ContentError, ImportError) as error:
            return str(error).removeprefix(f"{ASKED}: ") or type(error).__name__
        if self._told:
            logger.info("the catalogue at %s answers again", self.address.base)
        self._told = False
        now = int(self._clock())
        kept = KeptList(catalog=self.address.base, saved_at=now, tried_at=now, models=tuple(facts))
        await _off_the_loop(self._keep, kept)
        return None

    def _failed(self, problem: str) -> None:
        problem = " ".join(problem.split())
        self._keep(evolve(self._read(), tried_at=int(self._clock()), problem=problem))
        if not self._told:
            logger.warning("%s", self.notice())
        self._told = True

    def _keep(self, kept: KeptList) -> None:
        with self._reading:
            try:
                write_kept(self._path, kept)
            except OSError as error:  # a full disk, or a home that is only read
                if not self._unwritten:
                    logger.warning("%s: the catalogue's list is not kept: %s", self._path, error)
                self._unwritten = True
            else:
                self._unwritten = False
            self._take(kept)
            self._seen = self._signature()

    def _read(self) -> KeptList:
        with self._reading:
            seen = self._signature()
            if seen != self._seen:
                found = None if seen is None else read_kept(self._path, self.address.base)
                # What this process knows is worth more than a file that is gone or cannot be used.
                if found is not None:
                    self._take(found)
                self._seen = seen
            return self._kept

    def _take(self, kept: KeptList) -> None:
        self._kept = kept
        names = [one.name for one in fields(ModelFacts)]
        self._models = tuple(
            CatalogModel(**{name: getattr(facts, name) for name in names}) for facts in kept.models
        )

    def _signature(self) -> object:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _ago(seconds: float) -> str:
    """A time as people say it."""
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if (count := int(seconds // size)) >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
