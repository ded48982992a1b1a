"""Cases as pytest's tests: what the plugin needs when it is used.

Knows: how a verdict becomes a result of pytest's. Refuses to know: what conforms.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self, cast

import pytest
from attrs import frozen

from foundry_proto.conformance import (
    ALL_PROFILES,
    CASES,
    PROFILES,
    Case,
    Permission,
    ProfileName,
    Target,
    Unmet,
    Verdict,
    judge,
    look,
    selected,
    with_known,
)
from foundry_runtime.conformance.blocking import perform_blocking
from foundry_runtime.conformance.known import read_known
from foundry_runtime.conformance.place import Place

__all__ = ["CaseFailed", "CaseItem", "Server"]

_PERMISSIONS: Final = ("download", "unload", "shutdown")
_ORDERS: Final = ("any", "alone", "last")


class CaseFailed(Exception):
    """A requirement is not met."""


@frozen(kw_only=True)
class Server:
    """The server that is tried."""

    place: Place
    target: Target
    profiles: tuple[ProfileName, ...]
    known: Mapping[str, str]

    @classmethod
    def look(cls, options: Mapping[str, str]) -> Self:
        """Look at the server that the options name.

        Raises:
            ValueError: An option is none, or the server cannot be reached; the message begins with its name.
        """
        place = Place.of(options["url"])
        profiles = _words("profile", options["profile"], PROFILES) or ALL_PROFILES
        allow = frozenset(_words("allow", options["allow"], _PERMISSIONS))
        known_file = options["known"]
        known = read_known(Path(known_file), {case.id for case in CASES}) if known_file else {}
        target = Target(
            host=place.authority,
            prefix=place.prefix,
            key=options["key"] or None,
            model=options["model"],
            allow=cast("frozenset[Permission]", allow),
        )
        try:
            found = perform_blocking(look(target), place)
        except Unmet as error:
            raise ValueError(f"url: {options['url']}: {error}") from None
        return cls(place=place, target=found, profiles=cast("Any", profiles), known=known)

    @property
    def header(self) -> str:
        """What is tried, in a line."""
        return f"foundry: {self.place.authority}, model {self.target.model or 'none'}"

    def judge(self, case: Case) -> Verdict:
        """Try a case."""
        verdict = perform_blocking(judge(case, self.target, self.profiles), self.place)
        return with_known(verdict, self.known)

    def items(self, session: pytest.Session) -> list[pytest.Item]:
        """Give a test for each case that concerns the server, in an order that none disturbs another."""
        cases = sorted(selected(CASES, self.profiles), key=lambda case: _ORDERS.index(case.order))
        return [CaseItem.from_parent(session, name=case.id, case=case, server=self) for case in cases]


def _words(option: str, given: str, known: Any) -> tuple[str, ...]:
    words = tuple(word.strip() for word in given.split(",") if word.strip())
    for word in words:
        if word not in known:
            raise ValueError(f"{option}: expected {', '.join(known)}, got {word}")
    return words


class CaseItem(pytest.Item):
    """A case as a test."""

    def __init__(self, *, case: Case, server: Server, **more: Any) -> None:
        super().__init__(**more)
        self._case = case
        self._server = server

    def runtest(self) -> None:
        """Try the case."""
        verdict = self._server.judge(self._case)
        if verdict.bad:
            raise CaseFailed(self._text(verdict))
        if verdict.outcome == "known":
            pytest.xfail(verdict.message)
        if verdict.outcome != "passed":
            pytest.skip(f"{verdict.outcome}: {verdict.message}")

    def _text(self, verdict: Verdict) -> str:
        case = self._case
        what = f"{verdict.aspect}: {verdict.message}" if verdict.aspect else verdict.message
        return f"{case.level} {case.id}: {case.requirement} ({case.source})\n{what}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Say what was expected and what came, without a traceback of the kit's own."""
        if isinstance(excinfo.value, CaseFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Say where the test stands: nowhere, and what it is called."""
        return self.path, None, self._case.id
