"""Cases that try a server against the protocol: as data and as scripts, without a socket and without a clock.

Knows: which cases there are. `steps` says what a case does to a server, `case` what it is, `target` what it
is tried on, `judging` how cases become a report; runners that move the bytes are elsewhere.

A program that moves bytes by itself drives the same scripts with `drive`, and performs seven kinds of steps:

    report = drive(run_script(Target(model="phi-4-mini"), ["openai"]), perform)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from foundry_proto.conformance.case import (
    ALL_PROFILES,
    GROUPS,
    PROFILES,
    Case,
    Level,
    Profile,
    ProfileName,
    Section,
)
from foundry_proto.conformance.cases import (
    catalog,
    chat,
    chat_accepted,
    chat_refused,
    chat_stream,
    core_memory,
    downloads,
    framing,
    framing_refused,
    memory,
    responses,
    semantics,
    service,
    sse,
    texts,
    tokens,
    tools,
    watching,
)
from foundry_proto.conformance.derived import derive
from foundry_proto.conformance.judging import Outcome, Report, Verdict, judge, judge_all, selected, with_known
from foundry_proto.conformance.looking import look
from foundry_proto.conformance.problems import Unmet, Untestable
from foundry_proto.conformance.steps import (
    Call,
    Close,
    Happened,
    Open,
    Receive,
    Script,
    Send,
    Sleep,
    Step,
    Together,
    drive,
)
from foundry_proto.conformance.target import Permission, Target
from foundry_proto.operations import ALL

__all__ = [
    "ALL_PROFILES",
    "CASES",
    "GROUPS",
    "HAND_WRITTEN",
    "PROFILES",
    "Call",
    "Case",
    "Close",
    "Happened",
    "Level",
    "Open",
    "Outcome",
    "Permission",
    "Profile",
    "ProfileName",
    "Receive",
    "Report",
    "Script",
    "Section",
    "Send",
    "Sleep",
    "Step",
    "Target",
    "Together",
    "Unmet",
    "Untestable",
    "Verdict",
    "derive",
    "drive",
    "judge",
    "judge_all",
    "look",
    "run_script",
    "selected",
    "with_known",
]

HAND_WRITTEN: Final[tuple[Case, ...]] = (
    *framing.CASES,
    *framing_refused.CASES,
    *semantics.CASES,
    *service.CASES,
    *catalog.CASES,
    *chat.CASES,
    *chat_accepted.CASES,
    *chat_refused.CASES,
    *chat_stream.CASES,
    *sse.CASES,
    *tools.CASES,
    *tokens.CASES,
    *texts.CASES,
    *responses.CASES,
    *watching.CASES,
    *memory.CASES,
    *core_memory.CASES,
    *downloads.CASES,
)
"""The cases of which each was thought of by itself."""

CASES: Final[tuple[Case, ...]] = (*HAND_WRITTEN, *derive(ALL))
"""All cases."""


def run_script(
    target: Target,
    profiles: Collection[ProfileName] = ALL_PROFILES,
    *,
    cases: Sequence[Case] = CASES,
    known: Mapping[str, str] | None = None,
    limit: float = 600.0,
    tell: Callable[[Verdict], None] = lambda _: None,
) -> Script[Report]:
    """Look at a server, and try all cases that concern it.

    Args:
        target: How the server is reached, and what may be done to it.
        profiles: Whom it serves.
        cases: Of these those that concern it.
        known: Deviations that are known: a case's id, and the reason.
        limit: Seconds after which no further case is begun.
        tell: Called with each verdict as it comes.

    Raises:
        Unmet: The server cannot be reached.
    """
    found = yield from look(target)
    return (
        yield from judge_all(selected(cases, profiles), found, profiles, known=known, limit=limit, tell=tell)
    )
