"""The policy alone: who comes next, how much of it, and that nobody starves."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from foundry_runtime.engine.batched.schedule import Schedule


@define(eq=False)
class Prompt:
    name: str
    arrived: float
    remaining: int


def schedule(
    *, speed: float = 1000.0, decode: float = 0.0, alone: float = 0.1, beside: float = 0.12
) -> Schedule:
    """A schedule that has measured this speed, in tokens a second, and these seconds for a decode."""
    made = Schedule(alone=alone, beside=beside)
    made.prefilled(int(speed), 1.0)
    if decode:
        made.decoded(decode)
    return made


def order(prompts: Sequence[Prompt]) -> list[str]:
    """In which order prompts that are all there end, when nothing else comes."""
    made, left, names = schedule(), list(prompts), []
    while (first := made.first(left)) is not None:
        first.remaining -= made.slice(first.remaining, running=0)
        if not first.remaining:
            left.remove(first)
            names.append(first.name)
    return names


def test_of_a_burst_the_shortest_comes_first() -> None:
    assert order([Prompt("long", 0, 900), Prompt("short", 0, 20), Prompt("middle", 0, 200)]) == [
        "short",
        "middle",
        "long",
    ]


def test_of_equals_the_first_is_computed_to_its_end_before_the_next() -> None:
    made, prompts = schedule(), [Prompt(str(number), 0, 300) for number in range(3)]
    served = []
    while (first := made.first([one for one in prompts if one.remaining])) is not None:
        served.append(first.name)
        first.remaining -= made.slice(first.remaining, running=0)
    assert served == sorted(served)


def test_a_prompt_is_passed_only_by_what_comes_within_its_own_work() -> None:
    long = Prompt("long", 10.0, 2000)  # two seconds
    made = schedule()
    assert made.first([long, Prompt("soon", 11.9, 20)]) is not long
    assert made.first([long, Prompt("late", 12.1, 20)]) is long


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 3000)), min_size=1, max_size=20))
def test_nobody_waits_longer_than_for_the_work_that_came_within_its_own(
    burst: list[tuple[float, int]],
) -> None:
    """Whatever arrives, a prompt has ended when all that came before it, or within its own work, is done."""
    speed = 1000.0
    made, now, ended = schedule(speed=speed), 0.0, {}
    prompts = [Prompt(str(number), arrived, tokens) for number, (arrived, tokens) in enumerate(burst)]
    work = {one.name: one.remaining / speed for one in prompts}
    while left := [one for one in prompts if one.remaining]:
        first = made.first([one for one in left if one.arrived <= now])
        if first is None:
            now = min(one.arrived for one in left)
            continue
        size = made.slice(first.remaining, running=0)
        now += size / speed
        first.remaining -= size
        if not first.remaining:
            ended[first.name] = now
    for one in prompts:
        before = sum(work[other.name] for other in prompts if other.arrived <= one.arrived + work[one.name])
        # One slice of something else may be under way when it comes.
        assert ended[one.name] <= max(one.arrived, 0) + before + max(work.values()) + 0.3


def test_a_slice_takes_the_time_that_a_cancelled_job_may_wait() -> None:
    assert schedule(speed=640).slice(1000, running=0) == 64
    assert schedule(speed=100).slice(1000, running=0) == 16


def test_beside_streams_slice_and_decode_share_the_gap() -> None:
    made = schedule(speed=1000, decode=0.02, beside=0.12)
    assert made.slice(1000, running=5) == 96
    made = schedule(speed=1000, decode=0.5, beside=0.12)
    assert made.slice(1000, running=5) == 16  # the least: prompts go on however slow the streams are


def test_without_any_measurement_a_slice_is_the_least() -> None:
    assert Schedule().slice(1000, running=0) == 16


def test_one_disturbed_step_does_not_decide_the_next() -> None:
    made = schedule(speed=1000)
    made.prefilled(16, 1.0)
    assert made.slice(1000, running=0) == 64
    for _ in range(20):
        made.prefilled(16, 1.0)
    assert made.slice(1000, running=0) == 16


def test_a_further_prompt_is_computed_in_the_same_step_if_it_ends_in_time() -> None:
    made = schedule(speed=1000, decode=0.02, beside=0.12, alone=0.1)
    assert made.has_time(40, running=0, spent=0.05)
    assert not made.has_time(60, running=0, spent=0.05)
    assert made.has_time(60, running=3, spent=0.03)
    assert not made.has_time(80, running=3, spent=0.03)
    assert not schedule(decode=0.5).has_time(1, running=1, spent=0.0)
