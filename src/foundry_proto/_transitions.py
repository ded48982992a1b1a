"""What each input does to a model in each state: the table that `lifecycle.py` goes by.

Knows: states, leases, actions, and one model's transitions. Refuses to know: other models, and who calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from attrs import define, field, frozen

__all__ = [
    "TABLE",
    "Action",
    "Circumstances",
    "Grant",
    "Input",
    "Lease",
    "Load",
    "Model",
    "Refuse",
    "State",
    "Unload",
    "next_input",
]


class State(Enum):
    """Where a model is on its way through the memory."""

    ABSENT = "absent"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    """It gets no new leases, and waits for the end of the last."""
    UNLOADING = "unloading"


@frozen(kw_only=True, eq=False)
class Lease:
    """Somebody's wish to use a model, and on which terms; each is a thing of its own."""

    model: str
    """The model's id."""
    ttl: float | None = None
    """Seconds that the model stays in memory after its last use; `None` leaves that as it is."""
    pin: bool | None = None
    """Whether the model stays however long nobody uses it; `None` leaves that as it is."""
    provider: str | None = None
    """The execution provider that it should run on; `None` takes any."""


@frozen(kw_only=True)
class Load:
    """Load a model; then say `loaded` or `load_failed`."""

    model: str
    provider: str | None
    """Where it should run; `None` leaves it to the model."""


@frozen(kw_only=True)
class Unload:
    """Take a model out of the memory; then say `unloaded`."""

    model: str


@frozen(kw_only=True)
class Grant:
    """The lease is held from now on."""

    lease: Lease


@frozen(kw_only=True)
class Refuse:
    """The lease is over without having begun."""

    lease: Lease
    reason: str


Action = Load | Unload | Grant | Refuse


class Input(Enum):
    """What can happen to a model; those in the lower half come of the others."""

    ASKED = "asked for"
    """A lease was added to those that wait."""
    FORCED = "unloaded by force"
    LOADED = "loaded"
    LOAD_FAILED = "not loaded"
    UNLOADED = "unloaded"
    CLOSED = "closed"

    IDLE = "idle"
    """Its last lease has ended."""
    EXPIRED = "expired"
    """It was idle for long enough."""
    UNSUITABLE = "asked for elsewhere"
    """It is idle, and whoever waits wants another provider."""


@define(eq=False)
class Model:
    """What is known of one model, as long as it isn't absent or somebody waits for it."""

    id: str
    ttl: float
    state: State = State.ABSENT
    pinned: bool = False
    provider: str | None = None
    """Where the instance runs, while there is one."""
    unwanted: bool = False
    """It was unloaded by force while it was being loaded."""
    destination: str | None = None
    """Where it is on its way to: whoever asked for that need not wait for it."""
    held: set[Lease] = field(factory=set)
    waiting: dict[Lease, None] = field(factory=dict)
    """In order of arrival."""
    idle_since: float = 0.0

    @property
    def deadline(self) -> float | None:
        """When it is unloaded if nothing happens; `None` for never."""
        if self.state is not State.READY or self.held or self.pinned:
            return None
        return self.idle_since + self.ttl

    def agree(self, lease: Lease) -> None:
        """Take over a lease's terms."""
        self.ttl = self.ttl if lease.ttl is None else lease.ttl
        self.pinned = self.pinned if lease.pin is None else lease.pin

    def forget(self, default_ttl: float) -> None:
        """Be as one of which nothing was ever asked."""
        self.ttl, self.pinned, self.unwanted, self.destination = default_ttl, False, False, None


@frozen(kw_only=True)
class Circumstances:
    """What an effect may look at besides the model."""

    now: float
    default_ttl: float
    provider: str | None = None
    reason: str = ""


_Effect = Callable[[Model, Circumstances], list[Action]]


def _nothing(_model: Model, _: Circumstances) -> list[Action]:
    return []


def _begin(model: Model, _: Circumstances) -> list[Action]:
    """Load the model, on the terms of those that wait."""
    for lease in model.waiting:
        model.agree(lease)
    wanted = (model.destination, *(lease.provider for lease in model.waiting))
    model.destination = None
    return [Load(model=model.id, provider=next((name for name in wanted if name is not None), None))]


def _join(model: Model, _: Circumstances) -> list[Action]:
    """Wait for a load that is under way; the last to come counts, as in the order of a model in memory."""
    model.agree(list(model.waiting)[-1])
    model.unwanted = False
    return []


def _admit(model: Model, at: Circumstances) -> list[Action]:
    """Give the model to all that wait for it."""
    admitted = list(model.waiting)
    model.waiting.clear()
    model.held.update(admitted)
    model.idle_since = at.now
    return [Grant(lease=lease) for lease in admitted]


def _welcome(model: Model, at: Circumstances) -> list[Action]:
    """Give a model that is there to the one who has come."""
    _join(model, at)
    return _admit(model, at)


def _arrive(model: Model, at: Circumstances) -> list[Action]:
    """The load is over; who waited agreed on terms when they came."""
    model.provider = at.provider
    return _admit(model, at)


def _rest(model: Model, at: Circumstances) -> list[Action]:
    model.idle_since = at.now
    return []


def _disown(model: Model, at: Circumstances) -> list[Action]:
    """A load can't be stopped: what comes of it leaves when those have left that waited for it."""
    model.forget(at.default_ttl)
    model.unwanted = True
    return []


def _turn_away(model: Model, at: Circumstances) -> list[Action]:
    refused = list(model.waiting)
    model.waiting.clear()
    return [Refuse(lease=lease, reason=at.reason) for lease in refused]


def _leave(model: Model, at: Circumstances) -> list[Action]:
    """Unload the model: whoever loads it next begins with terms that nobody has changed."""
    model.forget(at.default_ttl)
    return [Unload(model=model.id)]


def _move(model: Model, _: Circumstances) -> list[Action]:
    """Unload the model to load it elsewhere: its terms stay, and it comes back whoever is still there."""
    (lease,) = model.waiting
    model.destination = lease.provider
    return [Unload(model=model.id)]


def _stay_away(model: Model, at: Circumstances) -> list[Action]:
    """Load the model again only for those that wait for it."""
    model.forget(at.default_ttl)
    return []


def _abandon(model: Model, at: Circumstances) -> list[Action]:
    """Unload the model whoever uses it."""
    return [*_turn_away(model, at), *_leave(model, at)]


def _end_journey(model: Model, at: Circumstances) -> list[Action]:
    return [*_turn_away(model, at), *_stay_away(model, at)]


def _give_up(model: Model, at: Circumstances) -> list[Action]:
    return [*_turn_away(model, at), *_disown(model, at)]


TABLE: Final[Mapping[tuple[State, Input], tuple[_Effect, State]]] = {
    (State.ABSENT, Input.ASKED): (_begin, State.LOADING),
    (State.LOADING, Input.ASKED): (_join, State.LOADING),
    (State.LOADING, Input.FORCED): (_disown, State.LOADING),
    (State.LOADING, Input.LOADED): (_arrive, State.READY),
    (State.LOADING, Input.LOAD_FAILED): (_turn_away, State.ABSENT),
    (State.LOADING, Input.CLOSED): (_give_up, State.LOADING),
    (State.READY, Input.ASKED): (_welcome, State.READY),
    (State.READY, Input.UNSUITABLE): (_move, State.UNLOADING),
    (State.READY, Input.IDLE): (_rest, State.READY),
    (State.READY, Input.EXPIRED): (_leave, State.UNLOADING),
    (State.READY, Input.FORCED): (_nothing, State.DRAINING),
    (State.READY, Input.CLOSED): (_abandon, State.UNLOADING),
    (State.DRAINING, Input.ASKED): (_nothing, State.DRAINING),
    (State.DRAINING, Input.IDLE): (_leave, State.UNLOADING),
    (State.DRAINING, Input.FORCED): (_nothing, State.DRAINING),
    (State.DRAINING, Input.CLOSED): (_abandon, State.UNLOADING),
    (State.UNLOADING, Input.ASKED): (_nothing, State.UNLOADING),
    (State.UNLOADING, Input.FORCED): (_stay_away, State.UNLOADING),
    (State.UNLOADING, Input.IDLE): (_nothing, State.UNLOADING),  # a lease that `close` left behind
    (State.UNLOADING, Input.UNLOADED): (_nothing, State.ABSENT),
    (State.UNLOADING, Input.CLOSED): (_end_journey, State.UNLOADING),
}
"""What each input does in each state, and where it leads; a pair that is not here is its owner's mistake."""


def next_input(model: Model) -> Input | None:
    """What follows by itself from the state that was just reached."""
    match model.state:
        case State.READY if model.unwanted:
            return Input.FORCED
        case State.DRAINING if not model.held:
            return Input.IDLE
        case State.ABSENT if model.waiting or model.destination is not None:
            return Input.ASKED
        case _:
            return None
