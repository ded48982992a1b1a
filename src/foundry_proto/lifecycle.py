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

from typing import Final

from foundry_proto._transitions import (
    TABLE,
    Action,
    Circumstances,
    Grant,
    Input,
    Lease,
    Load,
    Model,
    Refuse,
    State,
    Unload,
    next_input,
)
from foundry_proto.errors import LocalProtocolError

__all__ = ["DEFAULT_TTL", "Action", "Grant", "Lease", "Lifecycle", "Load", "Refuse", "State", "Unload"]

DEFAULT_TTL: Final = 600.0
"""Seconds that a model stays without being used, where nobody says how long."""


class Lifecycle:
    """Decides what is loaded and unloaded.

    Args:
        default_ttl: Seconds that a model stays without being used, where nobody says how long.

    Every method that takes `now` takes seconds of a clock that never goes back, always the same one.
    """

    def __init__(self, default_ttl: float = DEFAULT_TTL) -> None:
        self._default_ttl = default_ttl
        self._models: dict[str, Model] = {}
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

    @property
    def states(self) -> dict[str, State]:
        """Where each model is that is not absent."""
        return {model.id: model.state for model in self._models.values()}

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
        model = self._models.setdefault(lease.model, Model(lease.model, self._default_ttl))
        model.waiting[lease] = None
        fits = lease.provider in {None, model.provider}
        idle = model.state is State.READY and not model.held
        return self._step(model, Input.UNSUITABLE if idle and not fits else Input.ASKED, now)

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
        return [] if model.held else self._step(model, Input.IDLE, now)

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
        return self._step(model, Input.FORCED, now) if force else self._expire(model, now)

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
        return self._report(model_id, Input.LOADED, now, provider=provider)

    def load_failed(self, model_id: str, now: float, *, reason: str) -> list[Action]:
        """A `Load` is over, and nothing is left of it; the next who asks for the model has it tried again.

        Raises:
            LocalProtocolError: It was not being loaded.
        """
        return self._report(model_id, Input.LOAD_FAILED, now, reason=reason)

    def unloaded(self, model_id: str, now: float) -> list[Action]:
        """An `Unload` is over; if somebody waits for the model, it is loaded again.

        Raises:
            LocalProtocolError: It was not being unloaded.
        """
        return self._report(model_id, Input.UNLOADED, now)

    def close(self, now: float, *, reason: str) -> list[Action]:
        """Unload everything, whoever uses it; a load that is under way is followed by an unload.

        Args:
            now: The time.
            reason: Why those that wait, and all that come later, are refused.
        """
        self._closed = reason
        models = list(self._models.values())
        return [action for model in models for action in self._step(model, Input.CLOSED, now, reason=reason)]

    def _expire(self, model: Model, now: float) -> list[Action]:
        over = model.deadline is not None and model.deadline <= now
        return self._step(model, Input.EXPIRED, now) if over else []

    def _report(
        self, model_id: str, what: Input, now: float, *, provider: str | None = None, reason: str = ""
    ) -> list[Action]:
        model = self._models.get(model_id)
        state = State.ABSENT if model is None else model.state
        if model is None or (state, what) not in TABLE:
            raise LocalProtocolError(f"{model_id}: cannot be {what.value} while it is {state.value}")
        return self._step(model, what, now, provider=provider, reason=reason)

    def _step(
        self, model: Model, what: Input | None, now: float, *, provider: str | None = None, reason: str = ""
    ) -> list[Action]:
        at = Circumstances(now=now, default_ttl=self._default_ttl, provider=provider, reason=reason)
        actions: list[Action] = []
        while what is not None:
            effect, state = TABLE[model.state, what]
            actions += effect(model, at)
            model.state = state
            what = next_input(model)
        if model.state is State.ABSENT:
            del self._models[model.id]
        return actions
