"""Which models stay in memory: a machine for all of them, with time as an argument.

Knows: when a model is to be loaded and unloaded, who gets it, and how long it stays when nobody uses it.
Refuses to know: clocks, tasks and engines; what a lease is for; which models there are.

A running request holds a lease. The owner performs the actions that an input gives, in their order, and says
when a load or an unload that it was asked for is over. The laws:

- Of a model there is one instance at most: a `Load` comes only when no other load, and no instance, is left.
- An instance is not unloaded while a lease on it is held; `close` alone is so rude.
- Each lease is granted or refused in the end, unless it is released before; loads and unloads need only end.
- A load belongs to no lease: it goes on when those that waited for it have left.

Source: the REST reference page, "GET /openai/load/{name}" and "GET /openai/unload/{name}".

Choice: the time to live counts from the last use: from the end of the last lease or, where there was none,
from the end of the load. Who loads a model states its terms anew; a request that names a time to live changes
that alone, and ends no pin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from attrs import define, field, frozen

from foundry_proto.errors import LocalProtocolError

__all__ = ["DEFAULT_TTL", "Action", "Grant", "Lease", "Lifecycle", "Load", "Refuse", "State", "Unload"]

DEFAULT_TTL: Final = 600.0
"""Seconds that a model stays without being used, where nobody says how long."""


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


class _Input(Enum):
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
class _Model:
    """What is known of one model, as long as it isn't absent or somebody waits for it."""

    id: str
    ttl: float
    state: State = State.ABSENT
    pinned: bool = False
    provider: str | None = None
    """Where the instance runs, while there is one."""
    unwanted: bool = False
    """It was unloaded by force while it was being loaded."""
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


@frozen(kw_only=True)
class _Circumstances:
    """What an effect may look at besides the model."""

    now: float
    default_ttl: float
    provider: str | None = None
    reason: str = ""


_Effect = Callable[[_Model, _Circumstances], list[Action]]


def _nothing(_model: _Model, _: _Circumstances) -> list[Action]:
    return []


def _begin(model: _Model, _: _Circumstances) -> list[Action]:
    """Load the model, on the terms of those that wait."""
    for lease in model.waiting:
        model.agree(lease)
    provider = next((lease.provider for lease in model.waiting if lease.provider is not None), None)
    return [Load(model=model.id, provider=provider)]


def _join(model: _Model, _: _Circumstances) -> list[Action]:
    """Wait for a load that is under way; the last to come counts, as in the order of a model in memory."""
    model.agree(list(model.waiting)[-1])
    model.unwanted = False
    return []


def _admit(model: _Model, at: _Circumstances) -> list[Action]:
    """Give the model to all that wait for it."""
    admitted = list(model.waiting)
    model.waiting.clear()
    model.held.update(admitted)
    model.idle_since = at.now
    return [Grant(lease=lease) for lease in admitted]


def _welcome(model: _Model, at: _Circumstances) -> list[Action]:
    """Give a model that is there to the one who has come."""
    _join(model, at)
    return _admit(model, at)


def _arrive(model: _Model, at: _Circumstances) -> list[Action]:
    """The load is over; who waited agreed on terms when they came."""
    model.provider = at.provider
    return _admit(model, at)


def _rest(model: _Model, at: _Circumstances) -> list[Action]:
    model.idle_since = at.now
    return []


def _disown(model: _Model, _: _Circumstances) -> list[Action]:
    """A load can't be stopped: what comes of it leaves when those have left that waited for it."""
    model.unwanted = True
    return []


def _turn_away(model: _Model, at: _Circumstances) -> list[Action]:
    refused = list(model.waiting)
    model.waiting.clear()
    return [Refuse(lease=lease, reason=at.reason) for lease in refused]


def _leave(model: _Model, at: _Circumstances) -> list[Action]:
    """Unload the model: whoever loads it next begins with terms that nobody has changed."""
    model.ttl, model.pinned, model.unwanted = at.default_ttl, False, False
    return [Unload(model=model.id)]


def _move(model: _Model, _: _Circumstances) -> list[Action]:
    """Unload the model to load it elsewhere: its terms stay."""
    return [Unload(model=model.id)]


def _abandon(model: _Model, at: _Circumstances) -> list[Action]:
    """Unload the model whoever uses it."""
    return [*_turn_away(model, at), *_leave(model, at)]


def _give_up(model: _Model, at: _Circumstances) -> list[Action]:
    return [*_turn_away(model, at), *_disown(model, at)]


_TABLE: Final[Mapping[tuple[State, _Input], tuple[_Effect, State]]] = {
    (State.ABSENT, _Input.ASKED): (_begin, State.LOADING),
    (State.LOADING, _Input.ASKED): (_join, State.LOADING),
    (State.LOADING, _Input.FORCED): (_disown, State.LOADING),
    (State.LOADING, _Input.LOADED): (_arrive, State.READY),
    (State.LOADING, _Input.LOAD_FAILED): (_turn_away, State.ABSENT),
    (State.LOADING, _Input.CLOSED): (_give_up, State.LOADING),
    (State.READY, _Input.ASKED): (_welcome, State.READY),
    (State.READY, _Input.UNSUITABLE): (_move, State.UNLOADING),
    (State.READY, _Input.IDLE): (_rest, State.READY),
    (State.READY, _Input.EXPIRED): (_leave, State.UNLOADING),
    (State.READY, _Input.FORCED): (_nothing, State.DRAINING),
    (State.READY, _Input.CLOSED): (_abandon, State.UNLOADING),
    (State.DRAINING, _Input.ASKED): (_nothing, State.DRAINING),
    (State.DRAINING, _Input.IDLE): (_leave, State.UNLOADING),
    (State.DRAINING, _Input.FORCED): (_nothing, State.DRAINING),
    (State.DRAINING, _Input.CLOSED): (_abandon, State.UNLOADING),
    (State.UNLOADING, _Input.ASKED): (_nothing, State.UNLOADING),
    (State.UNLOADING, _Input.FORCED): (_nothing, State.UNLOADING),
    (State.UNLOADING, _Input.IDLE): (_nothing, State.UNLOADING),  # a lease that `close` left behind
    (State.UNLOADING, _Input.UNLOADED): (_nothing, State.ABSENT),
    (State.UNLOADING, _Input.CLOSED): (_turn_away, State.UNLOADING),
}
"""What each input does in each state, and where it leads; a pair that is not here is its owner's mistake."""


def _next_input(model: _Model) -> _Input | None:
    """What follows by itself from the state that was just reached."""
    match model.state:
        case State.READY if model.unwanted:
            return _Input.FORCED
        case State.DRAINING if not model.held:
            return _Input.IDLE
        case State.ABSENT if model.waiting:
            return _Input.ASKED
        case _:
            return None


class Lifecycle:
    """Decides what is loaded and unloaded.

    Args:
        default_ttl: Seconds that a model stays without being used, where nobody says how long.

    Every method that takes `now` takes seconds of a clock that never goes back, always the same one.
    """

    def __init__(self, default_ttl: float = DEFAULT_TTL) -> None:
        self._default_ttl = default_ttl
        self._models: dict[str, _Model] = {}
        self._closed: str | None = None

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do if nothing happens before; `None` for never."""
        deadlines = [model.deadline for model in self._models.values()]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def ready(self) -> list[str]:
        """The models that are in memory and may be used, in the order in which they were asked for."""
        return [model.id for model in self._models.values() if model.state is State.READY]

    def state(self, model: str) -> State:
        """Where a model is."""
        return self._models[model].state if model in self._models else State.ABSENT

    def acquire(self, lease: Lease, now: float) -> list[Action]:
        """Ask for a model; it is loaded if it isn't there.

        A model that is idle moves to the provider that the lease asks for; one that is in use, or on its way,
        stays where it is, and the lease is granted all the same.

        Returns:
            What is to be done; `Grant` or `Refuse` comes here or from a later input.
        """
        if self._closed is not None:
            return [Refuse(lease=lease, reason=self._closed)]
        model = self._models.setdefault(lease.model, _Model(lease.model, self._default_ttl))
        model.waiting[lease] = None
        fits = lease.provider in {None, model.provider}
        idle = model.state is State.READY and not model.held
        return self._step(model, _Input.UNSUITABLE if idle and not fits else _Input.ASKED, now)

    def release(self, lease: Lease, now: float) -> list[Action]:
        """Give a lease back, whether it was granted or still waits.

        One that was refused, or given back before, does nothing: this belongs into a `finally`.
        """
        model = self._models.get(lease.model)
        if model is None:
            return []
        model.waiting.pop(lease, None)
        if lease not in model.held:
            return []
        model.held.remove(lease)
        return [] if model.held else self._step(model, _Input.IDLE, now)

    def unload(self, model_id: str, now: float, *, force: bool = False) -> list[Action]:
        """Ask for a model to leave.

        Args:
            model_id: The model; nothing happens when it is not there.
            now: The time.
            force: Whether it leaves the list of those that are ready at once, pinned or not, and the memory
                with its last lease. Otherwise only a model leaves whose time to live is over.
        """
        model = self._models.get(model_id)
        if model is None:
            return []
        return self._step(model, _Input.FORCED, now) if force else self._expire(model, now)

    def tick(self, now: float) -> list[Action]:
        """Let go of what nobody has used for long enough; to be called at `deadline`."""
        return [action for model in list(self._models.values()) for action in self._expire(model, now)]

    def loaded(self, model_id: str, now: float, *, provider: str | None = None) -> list[Action]:
        """A `Load` is over, and has brought the model.

        Args:
            model_id: The model.
            now: The time.
            provider: Where it runs.

        Raises:
            LocalProtocolError: It was not being loaded.
        """
        return self._report(model_id, _Input.LOADED, now, provider=provider)

    def load_failed(self, model_id: str, now: float, *, reason: str) -> list[Action]:
        """A `Load` is over, and nothing is left of it; the next who asks for the model has it tried again.

        Raises:
            LocalProtocolError: It was not being loaded.
        """
        return self._report(model_id, _Input.LOAD_FAILED, now, reason=reason)

    def unloaded(self, model_id: str, now: float) -> list[Action]:
        """An `Unload` is over; if somebody waits for the model, it is loaded again.

        Raises:
            LocalProtocolError: It was not being unloaded.
        """
        return self._report(model_id, _Input.UNLOADED, now)

    def close(self, now: float, *, reason: str) -> list[Action]:
        """Unload everything, whoever uses it; a load that is under way is followed by an unload.

        Args:
            now: The time.
            reason: Why those that wait, and all that come later, are refused.
        """
        self._closed = reason
        models = list(self._models.values())
        return [action for model in models for action in self._step(model, _Input.CLOSED, now, reason=reason)]

    def _expire(self, model: _Model, now: float) -> list[Action]:
        over = model.deadline is not None and model.deadline <= now
        return self._step(model, _Input.EXPIRED, now) if over else []

    def _report(
        self, model_id: str, what: _Input, now: float, *, provider: str | None = None, reason: str = ""
    ) -> list[Action]:
        model = self._models.get(model_id)
        state = State.ABSENT if model is None else model.state
        if model is None or (state, what) not in _TABLE:
            raise LocalProtocolError(f"{model_id}: cannot be {what.value} while it is {state.value}")
        return self._step(model, what, now, provider=provider, reason=reason)

    def _step(
        self, model: _Model, what: _Input | None, now: float, *, provider: str | None = None, reason: str = ""
    ) -> list[Action]:
        at = _Circumstances(now=now, default_ttl=self._default_ttl, provider=provider, reason=reason)
        actions: list[Action] = []
        while what is not None:
            effect, state = _TABLE[model.state, what]
            actions += effect(model, at)
            model.state = state
            what = _next_input(model)
        if model.state is State.ABSENT:
            del self._models[model.id]
        return actions
