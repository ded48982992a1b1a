"""Laws of what stays in memory: one instance, none unloaded under a lease, nobody forgotten, in time."""

from __future__ import annotations

from typing import Any

import pytest

from foundry_proto.errors import LocalProtocolError
from foundry_proto.lifecycle import (
    DEFAULT_TTL,
    Grant,
    Lease,
    Lifecycle,
    Load,
    Refuse,
    State,
    Unload,
)

M = "m:1"


def ready(machine: Lifecycle, *leases: Lease, now: float = 0.0, provider: str = "cpu") -> None:
    """Load the model for these leases, and give them back."""
    for lease in leases or (Lease(model=M),):
        machine.acquire(lease, now)
    machine.loaded(M, now, provider=provider)
    for lease in leases:
        machine.release(lease, now)


def used(machine: Lifecycle, now: float, **terms: Any) -> Lease:
    """A lease that is held."""
    lease = Lease(model=M, **terms)
    assert machine.acquire(lease, now) == [Grant(lease=lease)]
    return lease


def idle(machine: Lifecycle | None = None, now: float = 0.0, **terms: Any) -> Lifecycle:
    """A machine whose model is there and not used."""
    machine = machine or Lifecycle()
    ready(machine, Lease(model=M, **terms), now=now)
    return machine


def test_the_first_lease_loads_and_all_that_wait_get_the_one_instance() -> None:
    machine = Lifecycle()
    one, two = Lease(model=M), Lease(model=M)
    assert machine.acquire(one, 0) == [Load(model=M, provider=None)]
    assert machine.acquire(two, 1) == []
    assert machine.ready == []
    assert machine.loaded(M, 2) == [Grant(lease=one), Grant(lease=two)]
    assert machine.ready == [M]


def test_a_failed_load_is_told_to_all_that_wait_and_the_next_lease_tries_again() -> None:
    machine = Lifecycle()
    one, two, three = Lease(model=M), Lease(model=M), Lease(model=M)
    machine.acquire(one, 0)
    machine.acquire(two, 0)
    assert machine.load_failed(M, 1, reason="torn") == [
        Refuse(lease=one, reason="torn"),
        Refuse(lease=two, reason="torn"),
    ]
    assert machine.deadline is None
    assert machine.release(one, 2) == []
    assert machine.acquire(three, 3) == [Load(model=M, provider=None)]


def test_a_load_goes_on_when_all_that_waited_have_left() -> None:
    machine = Lifecycle()
    lease = Lease(model=M, ttl=5)
    machine.acquire(lease, 0)
    assert machine.release(lease, 1) == []
    assert machine.state(M) is State.LOADING
    assert machine.loaded(M, 10) == []
    assert (machine.ready, machine.deadline) == ([M], 15)


def test_the_time_to_live_counts_from_the_last_release() -> None:
    machine = idle(now=100)
    assert machine.deadline == 100 + DEFAULT_TTL
    one, two = used(machine, 200), used(machine, 250)
    assert not machine.deadline
    assert machine.release(one, 300) == []
    assert not machine.deadline
    assert machine.release(two, 400) == []
    assert machine.deadline == 400 + DEFAULT_TTL
    assert machine.tick(999.9) == []
    assert machine.tick(1000) == [Unload(model=M)]
    assert machine.ready == []
    assert machine.state(M) is State.UNLOADING
    assert machine.unloaded(M, 1001) == []
    assert machine.state(M) is State.ABSENT
    assert not machine.deadline


def test_a_model_is_not_unloaded_while_it_is_used_however_long() -> None:
    machine = idle(ttl=1)
    lease = used(machine, 0.5)
    assert machine.tick(1e9) == []
    assert machine.release(lease, 1e9) == []
    assert machine.deadline == 1e9 + 1


def test_a_lease_changes_the_time_to_live_until_another_does() -> None:
    machine = idle()
    machine.release(used(machine, 10, ttl=3), 20)
    assert machine.deadline == 23
    machine.release(used(machine, 21), 22)
    assert machine.deadline == 25
    machine.release(used(machine, 22, ttl=60), 23)
    assert machine.deadline == 83


def test_a_model_that_is_loaded_again_has_forgotten_its_terms() -> None:
    machine = idle(ttl=1, pin=True)
    machine.unload(M, 1, force=True)
    machine.unloaded(M, 1)
    assert idle(machine, now=2).deadline == 2 + DEFAULT_TTL


def test_a_pinned_model_stays_until_it_is_loaded_on_other_terms_or_forced_out() -> None:
    machine = idle(pin=True)
    assert not machine.deadline
    machine.release(used(machine, 1, ttl=5), 1)
    assert not machine.deadline
    assert machine.tick(1e9) == machine.unload(M, 1e9) == []
    machine.release(used(machine, 2, ttl=5, pin=False), 2)
    assert machine.deadline == 7


def test_plain_unload_lets_a_model_stay_that_is_used_pinned_or_not_idle_for_long() -> None:
    machine = idle(now=0)
    assert machine.unload(M, DEFAULT_TTL - 1) == []
    lease = used(machine, 10)
    assert machine.unload(M, 1e9) == []
    machine.release(lease, 20)
    assert machine.ready == [M]
    assert machine.unload(M, 20 + DEFAULT_TTL) == [Unload(model=M)]


@pytest.mark.parametrize("terms", [{}, {"pin": True}, {"ttl": 3600}])
def test_force_ignores_time_to_live_and_pin(terms: dict[str, Any]) -> None:
    machine = idle(**terms)
    assert machine.unload(M, 1, force=True) == [Unload(model=M)]
    assert machine.ready == []


def test_force_takes_a_model_from_the_list_and_lets_running_leases_end() -> None:
    machine = idle()
    one, two = used(machine, 1), used(machine, 1)
    assert machine.unload(M, 2, force=True) == []
    assert (machine.state(M), machine.ready) == (State.DRAINING, [])
    assert machine.release(one, 3) == []
    assert machine.unload(M, 3, force=True) == []
    assert machine.release(two, 4) == [Unload(model=M)]
    assert machine.unload(M, 5, force=True) == []
    assert machine.unloaded(M, 6) == []


def test_who_comes_while_a_model_leaves_has_it_loaded_again() -> None:
    machine = idle()
    running = used(machine, 1)
    machine.unload(M, 2, force=True)
    while_draining, while_unloading = Lease(model=M, ttl=9), Lease(model=M)
    assert machine.acquire(while_draining, 3) == []
    assert machine.release(running, 4) == [Unload(model=M)]
    assert machine.acquire(while_unloading, 5) == []
    assert machine.unloaded(M, 6) == [Load(model=M, provider=None)]
    assert machine.loaded(M, 7) == [Grant(lease=while_draining), Grant(lease=while_unloading)]
    machine.release(while_draining, 8)
    machine.release(while_unloading, 8)
    assert machine.deadline == 17


def test_who_comes_while_a_model_leaves_and_goes_again_loads_nothing() -> None:
    machine = idle()
    machine.unload(M, 1, force=True)
    lease = Lease(model=M)
    machine.acquire(lease, 2)
    assert machine.release(lease, 3) == []
    assert machine.unloaded(M, 4) == []


def test_force_while_a_model_loads_serves_who_waits_and_then_lets_it_go() -> None:
    machine = Lifecycle()
    lease = Lease(model=M)
    machine.acquire(lease, 0)
    assert machine.unload(M, 1, force=True) == []
    assert machine.loaded(M, 2) == [Grant(lease=lease)]
    assert machine.ready == []
    assert machine.release(lease, 3) == [Unload(model=M)]


def test_force_while_a_model_loads_for_nobody_unloads_what_comes() -> None:
    machine = Lifecycle()
    lease = Lease(model=M)
    machine.acquire(lease, 0)
    machine.release(lease, 0)
    machine.unload(M, 1, force=True)
    assert machine.loaded(M, 2) == [Unload(model=M)]


def test_who_asks_after_force_wants_the_load_that_is_under_way_on_their_own_terms() -> None:
    machine = Lifecycle()
    first, second = Lease(model=M, pin=True), Lease(model=M, ttl=5)
    machine.acquire(first, 0)
    machine.unload(M, 1, force=True)
    machine.acquire(second, 2)
    machine.loaded(M, 3)
    machine.release(first, 4)
    machine.release(second, 4)
    assert (machine.ready, machine.deadline) == ([M], 9)


def test_an_idle_model_moves_to_the_provider_that_is_asked_for_and_keeps_its_terms() -> None:
    machine = idle(pin=True)
    lease = Lease(model=M, provider="cuda")
    assert machine.acquire(lease, 1) == [Unload(model=M)]
    assert machine.unloaded(M, 2) == [Load(model=M, provider="cuda")]
    assert machine.loaded(M, 3, provider="cuda") == [Grant(lease=lease)]
    machine.release(lease, 4)
    assert (machine.ready, machine.deadline) == ([M], None)


def test_a_move_goes_on_when_who_asked_for_it_has_left() -> None:
    machine = idle(pin=True)
    lease = Lease(model=M, provider="cuda")
    machine.acquire(lease, 1)
    machine.release(lease, 2)
    assert machine.unloaded(M, 3) == [Load(model=M, provider="cuda")]
    assert machine.loaded(M, 4, provider="cuda") == []
    assert (machine.ready, machine.deadline) == ([M], None)


def test_force_ends_a_move_and_who_waits_has_the_model_loaded_afresh() -> None:
    machine = idle(pin=True)
    lease = Lease(model=M, provider="cuda")
    machine.acquire(lease, 1)
    machine.unload(M, 2, force=True)
    machine.release(lease, 2)
    assert machine.unloaded(M, 3) == []
    machine = idle(pin=True)
    machine.acquire(lease, 1)
    machine.unload(M, 2, force=True)
    assert machine.unloaded(M, 3) == [Load(model=M, provider="cuda")]
    machine.loaded(M, 4, provider="cuda")
    machine.release(lease, 5)
    assert machine.deadline == 5 + DEFAULT_TTL


@pytest.mark.parametrize("provider", [None, "cpu"])
def test_a_lease_that_fits_moves_nothing(provider: str | None) -> None:
    used(idle(), 1, provider=provider)


def test_a_model_in_use_or_on_its_way_stays_where_it_is() -> None:
    machine = Lifecycle()
    first, second = Lease(model=M), Lease(model=M, provider="cuda")
    machine.acquire(first, 0)
    assert machine.acquire(second, 0) == []
    assert machine.loaded(M, 1, provider="cpu") == [Grant(lease=first), Grant(lease=second)]
    used(machine, 2, provider="dml")


def test_the_first_that_names_a_provider_says_where_a_model_is_loaded() -> None:
    machine = idle()
    machine.unload(M, 1, force=True)
    for provider in (None, "qnn", "cuda"):
        machine.acquire(Lease(model=M, provider=provider), 2)
    assert machine.unloaded(M, 3) == [Load(model=M, provider="qnn")]


def test_each_model_has_a_life_of_its_own() -> None:
    machine = Lifecycle(default_ttl=10)
    for name, now in (("a:1", 1), ("b:1", 2)):
        lease = Lease(model=name)
        machine.acquire(lease, now)
        machine.loaded(name, now)
        machine.release(lease, now)
    assert (machine.ready, machine.deadline) == (["a:1", "b:1"], 11)
    assert machine.tick(11.5) == [Unload(model="a:1")]
    assert (machine.ready, machine.deadline) == (["b:1"], 12)
    assert machine.unload("b:1", 11.5) == []
    assert machine.unload("nobody's", 11.5, force=True) == []


def test_closing_refuses_who_waits_and_unloads_what_is_there_whoever_uses_it() -> None:
    machine = Lifecycle()
    names = ("idle", "used", "draining", "loading", "unloading")
    leases = {name: Lease(model=name) for name in names}
    for name in names:
        machine.acquire(leases[name], 0)
        if name != "loading":
            machine.loaded(name, 0)
    for name in ("idle", "unloading"):
        machine.release(leases[name], 0)
    for name in ("draining", "unloading"):
        machine.unload(name, 0, force=True)
    late = {name: Lease(model=name) for name in ("draining", "unloading")}
    for lease in late.values():
        machine.acquire(lease, 0)
    refusals = {lease: Refuse(lease=lease, reason="closing") for lease in (*leases.values(), *late.values())}
    assert machine.close(1, reason="closing") == [
        Unload(model="idle"),
        Unload(model="used"),
        refusals[late["draining"]],
        Unload(model="draining"),
        refusals[leases["loading"]],
        refusals[late["unloading"]],
    ]
    assert machine.ready == []
    afterwards = Lease(model="idle")
    assert machine.acquire(afterwards, 2) == [Refuse(lease=afterwards, reason="closing")]
    assert machine.release(leases["used"], 2) == []
    for name in ("idle", "used", "draining", "unloading"):
        assert machine.unloaded(name, 3) == []
    assert machine.release(leases["draining"], 4) == []
    assert machine.loaded("loading", 5) == [Unload(model="loading")]


def test_what_was_not_asked_for_cannot_be_over() -> None:
    machine = idle()
    with pytest.raises(LocalProtocolError, match=r"^m:1: cannot be loaded while it is ready$"):
        machine.loaded(M, 1)
    with pytest.raises(LocalProtocolError, match=r"^m:1: cannot be unloaded while it is ready$"):
        machine.unloaded(M, 1)
    with pytest.raises(LocalProtocolError, match=r"^other: cannot be not loaded while it is absent$"):
        machine.load_failed("other", 1, reason="")


def test_states_are_those_of_models_that_are_not_absent() -> None:
    machine = Lifecycle()
    assert machine.states == {}
    machine.acquire(Lease(model=M), 0)
    assert machine.states == {M: State.LOADING}
    machine.loaded(M, 0)
    machine.acquire(Lease(model="other:1"), 0)
    assert machine.states == {M: State.READY, "other:1": State.LOADING}
    machine.load_failed("other:1", 0, reason="no")
    assert machine.states == {M: State.READY}
