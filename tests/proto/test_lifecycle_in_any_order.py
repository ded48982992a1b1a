"""The lifecycle's laws in any order of inputs, against an owner who sees its actions alone."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from foundry_proto.lifecycle import Action, Grant, Lease, Lifecycle, Load, Refuse, State, Unload

Terms = tuple[float, bool]
FRESH: Terms = (10.0, False)


def agreed(terms: Terms, lease: Lease) -> Terms:
    ttl, pin = terms
    return (ttl if lease.ttl is None else lease.ttl, pin if lease.pin is None else lease.pin)


class AnyOrder(RuleBasedStateMachine):
    """Any inputs in any order, and an owner who sees the actions alone."""

    NAMES: ClassVar = ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.machine = Lifecycle(default_ttl=10)
        self.now = 0.0
        self.closed = False
        self.waiting: list[Lease] = []
        self.held: list[Lease] = []
        self.loading: set[str] = set()
        self.there: dict[str, str | None] = {}
        """The instances that may be used, and where they run."""
        self.unloading: set[str] = set()
        self.last_use: dict[str, float] = {}
        self.terms = dict.fromkeys(self.NAMES, FRESH)
        self.moving = False
        self.wanted: dict[str, str | None] = {}

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Load(model=name, provider=provider):
                    assert name not in self.loading | self.unloading | set(self.there)
                    assert not self.closed
                    self.loading.add(name)
                    self.wanted[name] = provider
                    for lease in self.waiting:
                        if lease.model == name:
                            self.terms[name] = agreed(self.terms[name], lease)
                case Unload(model=name):
                    assert name in self.there
                    assert self.closed or name not in {lease.model for lease in self.held}
                    del self.there[name]
                    self.unloading.add(name)
                    self.terms[name] = self.terms[name] if self.moving else FRESH
                case Grant(lease=lease):
                    assert lease.model in self.there
                    self.waiting.remove(lease)
                    self.held.append(lease)
                case Refuse(lease=lease):
                    self.waiting.remove(lease)

    @rule(
        name=st.sampled_from(NAMES),
        ttl=st.sampled_from([None, 1.0, 5.0]),
        pin=st.sampled_from([None, None, True, False]),
        provider=st.sampled_from([None, None, "cpu", "cuda"]),
    )
    def acquire(self, name: str, ttl: float | None, pin: bool | None, provider: str | None) -> None:
        lease = Lease(model=name, ttl=ttl, pin=pin, provider=provider)
        self.waiting.append(lease)
        idle_elsewhere = (
            self.machine.state(name) is State.READY
            and not any(held.model == name for held in self.held)
            and provider not in {None, self.there[name]}
        )
        if name in self.loading or (self.machine.state(name) is State.READY and not idle_elsewhere):
            self.terms[name] = agreed(self.terms[name], lease)
        self.moving = idle_elsewhere
        self.perform(self.machine.acquire(lease, self.now))
        self.moving = False
        if idle_elsewhere:
            assert name in self.unloading

    @precondition(lambda self: self.waiting or self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.waiting + self.held))
        if lease in self.held:
            self.held.remove(lease)
            self.last_use[lease.model] = self.now
        else:
            self.waiting.remove(lease)
        self.perform(self.machine.release(lease, self.now))
        assert self.machine.release(lease, self.now) == []

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), works=st.booleans())
    def end_a_load(self, data: st.DataObject, works: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.loading)))
        self.loading.remove(name)
        if not works:
            self.terms[name] = FRESH
            self.perform(self.machine.load_failed(name, self.now, reason="torn"))
            return
        provider = self.wanted[name] or "cpu"
        self.there[name] = provider
        self.last_use[name] = self.now
        self.perform(self.machine.loaded(name, self.now, provider=provider))

    @precondition(lambda self: self.unloading)
    @rule(data=st.data())
    def end_an_unload(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.unloading)))
        self.unloading.remove(name)
        self.perform(self.machine.unloaded(name, self.now))

    @rule(name=st.sampled_from(NAMES), force=st.booleans())
    def unload(self, name: str, force: bool) -> None:
        before = self.machine.state(name)
        if force and name in self.loading | self.unloading:
            self.terms[name] = FRESH
        deadline = self.machine.deadline
        self.perform(self.machine.unload(name, self.now, force=force))
        if force:
            assert name not in self.machine.ready
        elif deadline is None or deadline > self.now:
            assert self.machine.state(name) is before

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        """The owner never sleeps through a deadline, but may notice it late."""
        self.now += seconds
        self.perform(self.machine.tick(self.now))
        deadline = self.machine.deadline
        assert deadline is None or deadline > self.now

    @rule()
    @precondition(lambda self: not self.closed)
    def close(self) -> None:
        if self.now > 30:
            self.closed = True
            self.perform(self.machine.close(self.now, reason="closing"))
            assert self.waiting == []

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Whoever waits, waits for something that is under way."""
        for lease in self.waiting:
            draining = lease.model in self.there and self.machine.state(lease.model) is State.DRAINING
            assert lease.model in self.loading | self.unloading or draining
            if draining:
                assert lease.model in {held.model for held in self.held}

    @invariant()
    def what_is_ready_is_there(self) -> None:
        draining = {name for name in self.there if self.machine.state(name) is State.DRAINING}
        assert set(self.machine.ready) == set(self.there) - draining

    @invariant()
    def the_deadline_is_that_of_the_model_whose_time_is_over_first(self) -> None:
        idle = set(self.machine.ready) - {lease.model for lease in self.held}
        ends = [self.last_use[name] + self.terms[name][0] for name in idle if not self.terms[name][1]]
        assert self.machine.deadline == min(ends, default=None)

    def teardown(self) -> None:
        """When all leases, loads and unloads have ended, nobody waits, and all but pinned models go."""
        while self.waiting or self.held or self.loading or self.unloading:
            for lease in list(self.held):
                self.held.remove(lease)
                self.last_use[lease.model] = self.now
                self.perform(self.machine.release(lease, self.now))
            for name in sorted(self.loading):
                self.loading.remove(name)
                self.there[name] = self.wanted[name] or "cpu"
                self.last_use[name] = self.now
                self.perform(self.machine.loaded(name, self.now, provider=self.there[name]))
            for name in sorted(self.unloading):
                self.unloading.remove(name)
                self.perform(self.machine.unloaded(name, self.now))
        assert set(self.there) == set(self.machine.ready)
        for name in list(self.there):
            self.perform(self.machine.unload(name, self.now, force=True))
        assert self.there == {}
        assert self.machine.deadline is None


AnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
