"""From a case to a verdict, and from many to a report: all of a run but its input and output.

Knows: which cases concern a server, in which order and how many at a time they are tried, what a known
deviation changes, and that a run ends in time.
Refuses to know: what the cases do, and who performs their steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias

from attrs import evolve, field, frozen

from foundry_proto.conformance.case import GROUPS, PROFILES, Case, ProfileName
from foundry_proto.conformance.problems import Unmet, Untestable
from foundry_proto.conformance.steps import Happened, Script, Sleep, Together, closing
from foundry_proto.conformance.target import Target

__all__ = ["AT_ONCE", "Outcome", "Report", "Verdict", "judge", "judge_all", "selected", "with_known"]

Outcome: TypeAlias = Literal["passed", "failed", "known", "unexpected pass", "untested", "not offered"]
"""`known` failed as the file of known deviations says; `unexpected pass` did not."""

AT_ONCE: Final = 8
"""How many cases are tried at the same time."""


@frozen(kw_only=True)
class Verdict:
    """What came of a case."""

    case: Case
    outcome: Outcome
    aspect: str = ""
    """Of a failure: what was not as it should be."""
    message: str = ""
    """Of a failure what was expected and what came; otherwise why the case was not tried."""
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether a server with this verdict does not conform."""
        return self.case.level != "INFO" and self.outcome in ("failed", "unexpected pass")


@frozen(kw_only=True)
class Report:
    """What came of a run."""

    target: Target
    verdicts: tuple[Verdict, ...]
    seconds: float = 0.0

    def count(self, outcome: Outcome) -> int:
        """How many cases came to this.

        Args:
            outcome: Such as `passed`.
        """
        return sum(verdict.outcome == outcome for verdict in self.verdicts)

    @property
    def conforms(self) -> bool:
        """Whether every MUST and SHOULD that was tried is met, but for what is known."""
        return not any(verdict.bad for verdict in self.verdicts)


def selected(cases: Iterable[Case], profiles: Collection[ProfileName]) -> list[Case]:
    """The cases that concern a server of these profiles.

    Args:
        cases: Of these.
        profiles: Whom the server serves.
    """
    return [case for case in cases if not set(case.profiles).isdisjoint(profiles)]


def judge(case: Case, target: Target, profiles: Collection[ProfileName]) -> Script[Verdict]:
    """Try one case.

    Args:
        case: What is required, and the script that tries it.
        target: The server, as `look` has found it.
        profiles: Whom the server serves: of a group that none of them requires, an absence is no failure.

    Returns:
        The script, which returns the verdict; what a case raises beside `Unmet` and `Untestable` is a bug of
        the kit's, and raised.
    """
    began: Happened = yield Sleep(0)
    if case.group in target.absent and not any(case.group in PROFILES[name].requires for name in profiles):
        method, path = GROUPS[case.group]
        return Verdict(case=case, outcome="not offered", message=f"{method} {path} is not there")
    for need in case.needs:
        if (lack := target.lacks(need)) is not None:
            return Verdict(case=case, outcome="untested", message=lack)
    try:
        yield from closing(case.script(target))
    except Unmet as unmet:
        outcome: Outcome = "failed"
        aspect: str = unmet.aspect
        message = str(unmet)
    except Untestable as untestable:
        outcome, aspect, message = "untested", "", str(untestable)
    else:
        outcome, aspect, message = "passed", "", ""
    ended: Happened = yield Sleep(0)
    return Verdict(case=case, outcome=outcome, aspect=aspect, message=message, seconds=ended.at - began.at)


@frozen(kw_only=True)
class _Run:
    """One run under way."""

    target: Target
    profiles: Collection[ProfileName]
    known: Mapping[str, str]
    until: float
    tell: Callable[[Verdict], None]
    verdicts: list[Verdict] = field(factory=list)

    def work(self, waiting: Iterator[Case]) -> Script[None]:
        """Judge one case after the other, until none waits; several may take from the same."""
        for case in waiting:
            now: Happened = yield Sleep(0)
            if now.at >= self.until:
                verdict = Verdict(case=case, outcome="untested", message="the time for the run was over")
            else:
                verdict = yield from judge(case, self.target, self.profiles)
            verdict = with_known(verdict, self.known)
            self.verdicts.append(verdict)
            self.tell(verdict)


_IF_KNOWN: Final[Mapping[Outcome, Outcome]] = {"failed": "known", "passed": "unexpected pass"}


def with_known(verdict: Verdict, known: Mapping[str, str]) -> Verdict:
    """Give the verdict as it is where deviations are known.

    Args:
        verdict: What a case came to.
        known: A case's id, and the reason why it fails: it fails as `known`, and to pass is then a failure.
    """
    reason = known.get(verdict.case.id)
    if reason is None or verdict.outcome not in _IF_KNOWN:
        return verdict
    failed = verdict.outcome == "failed"
    message = f"{verdict.message} (known: {reason})" if failed else f"expected to fail: {reason}"
    return evolve(verdict, outcome=_IF_KNOWN[verdict.outcome], message=message)


def _nothing(_: Verdict) -> None:
    """Tell nobody."""


def judge_all(
    cases: Sequence[Case],
    target: Target,
    profiles: Collection[ProfileName],
    *,
    known: Mapping[str, str] | None = None,
    limit: float = 600.0,
    tell: Callable[[Verdict], None] = _nothing,
) -> Script[Report]:
    """Try cases: those that can be tried side by side first, then the others one by one.

    Args:
        cases: Which.
        target: The server, as `look` found it.
        profiles: Whom it serves.
        known: Deviations that are known: a case's id, and the reason.
        limit: Seconds after which no further case is begun.
        tell: Called with each verdict as it comes.
    """
    began: Happened = yield Sleep(0)
    run = _Run(target=target, profiles=profiles, known=known or {}, until=began.at + limit, tell=tell)
    beside = iter([case for case in cases if case.order == "any"])
    yield Together(tuple(run.work(beside) for _ in range(AT_ONCE)))
    for order in ("alone", "last"):
        yield from run.work(iter([case for case in cases if case.order == order]))
    ended: Happened = yield Sleep(0)
    places = {case.id: place for place, case in enumerate(cases)}
    return Report(
        target=target,
        verdicts=tuple(sorted(run.verdicts, key=lambda verdict: places[verdict.case.id])),
        seconds=ended.at - began.at,
    )
