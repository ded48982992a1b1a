"""What a case is: a requirement, how much it binds, whom it concerns, and a script that tries it.

Knows: levels, profiles, groups, and what a case needs of a server to be tried at all.
Refuses to know: the cases (`cases/`), and how one is judged (`judging.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from attrs import define, field, frozen

from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = [
    "ALL_PROFILES",
    "GROUPS",
    "PROFILES",
    "Case",
    "Group",
    "Level",
    "Need",
    "Order",
    "Profile",
    "ProfileName",
    "Section",
]

Level: TypeAlias = Literal["MUST", "SHOULD", "INFO"]
"""As RFC 2119 has them; INFO says how a server behaves where the documents leave it free."""

ProfileName: TypeAlias = Literal["documented", "sdk-0.5", "core", "openai", "extra"]
Order: TypeAlias = Literal["any", "alone", "last"]
"""Whether a case may run beside others; the last ones end the server."""

Group: TypeAlias = Literal[
    "http",
    "chat",
    "catalog",
    "models",
    "service",
    "memory",
    "devices",
    "downloads",
    "tokens",
    "core-service",
    "core-memory",
    "completions",
    "embeddings",
    "responses",
    "audio",
    "websocket",
    "extra",
]

GROUPS: Final[Mapping[Group, tuple[str, str]]] = {
    "completions": ("POST", "/v1/completions"),
    "embeddings": ("POST", "/v1/embeddings"),
    "responses": ("POST", "/v1/responses"),
    "audio": ("POST", "/v1/audio/transcriptions"),
    "websocket": ("GET", "/foundry/watch"),
}
"""The groups that a server may leave out, each with the request that shows whether it is there."""


@frozen(kw_only=True)
class Profile:
    """Whom a server serves."""

    summary: str
    requires: frozenset[Group]
    """The groups that it must offer; of all others an absence is no failure."""


PROFILES: Final[Mapping[ProfileName, Profile]] = {
    "documented": Profile(
        summary="who follows the REST reference page",
        requires=frozenset(
            {"http", "chat", "service", "catalog", "memory", "devices", "downloads", "tokens"}
        ),
    ),
    "sdk-0.5": Profile(
        summary="the official clients of the 0.5 series",
        requires=frozenset({"http", "chat", "service", "catalog", "memory", "downloads"}),
    ),
    "core": Profile(
        summary="clients of the newer service",
        requires=frozenset({"http", "chat", "models", "core-service", "core-memory"}),
    ),
    "openai": Profile(
        summary="clients of OpenAI's API",
        requires=frozenset({"http", "chat", "models"}),
    ),
    "extra": Profile(summary="who uses what no document has", requires=frozenset()),
}
"""What each profile asks for."""

ALL_PROFILES: Final[tuple[ProfileName, ...]] = ("documented", "sdk-0.5", "core", "openai")
"""The profiles that documents or clients stand behind."""

Need: TypeAlias = Literal["model", "unload", "uncached", "embedder", "download", "shutdown", "loader"]
"""Something that a case cannot be tried without; `Target.lacks` says whether it is there."""


@frozen(kw_only=True, eq=False)
class Case:
    """One requirement."""

    id: str
    """By section: `chat.stream.role`."""
    requirement: str
    """What is required, in a sentence."""
    source: str
    """Where that stands."""
    level: Level
    profiles: tuple[ProfileName, ...]
    group: Group
    script: Callable[[Target], Script[Any]]
    """Tries it; raises `Unmet` or `Untestable`."""
    needs: tuple[Need, ...] = ()
    order: Order = "any"


@define
class Section:
    """Collects cases that have much in common."""

    name: str
    """The beginning of their ids."""
    group: Group
    profiles: tuple[ProfileName, ...]
    source: str
    needs: tuple[Need, ...] = ()
    order: Order = "any"
    cases: list[Case] = field(init=False, factory=list)

    def case(
        self, name: str, requirement: str, *, level: Level = "MUST", **more: Any
    ) -> Callable[[Callable[[Target], Script[Any]]], Callable[[Target], Script[Any]]]:
        """Make a function's script a case, as its decorator; see `add`."""

        def add(script: Callable[[Target], Script[Any]]) -> Callable[[Target], Script[Any]]:
            self.add(name, requirement, script, level=level, **more)
            return script

        return add

    def add(
        self,
        name: str,
        requirement: str,
        script: Callable[[Target], Script[Any]],
        *,
        level: Level = "MUST",
        **more: Any,
    ) -> None:
        """Add a case.

        Args:
            name: What follows the section's name in its id.
            requirement: What is required, in a sentence.
            script: Tries it.
            level: How much it binds.
            more: Fields of `Case` that are not as in the section's other cases.
        """
        fields = {
            "source": self.source,
            "profiles": self.profiles,
            "group": self.group,
            "needs": self.needs,
            "order": self.order,
            **more,
        }
        case = Case(id=f"{self.name}.{name}", requirement=requirement, level=level, script=script, **fields)
        self.cases.append(case)
