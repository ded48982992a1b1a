"""The slices of prompts, and the speed that they are cut by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_runtime.engine.prefill import PrefillSpeed, slice_length


@given(prompt=st.integers(1, 2000), wanted=st.lists(st.floats(0, 1e9), min_size=1, max_size=50))
def test_slices_end_at_multiples_of_16_and_none_is_a_single_token(prompt: int, wanted: list[float]) -> None:
    computed, number = 0, 0
    while computed < prompt:
        size = slice_length(prompt - computed, wanted[number % len(wanted)])
        number += 1
        assert computed % 16 == 0
        assert size >= min(prompt, 16)
        assert size <= 128 + 15
        computed += size
    assert computed == prompt


@pytest.mark.parametrize(("remaining", "size"), [(17, 17), (16, 16), (31, 31), (32, 16), (33, 16), (1, 1)])
def test_what_would_be_less_than_a_unit_joins_the_slice_before_it(remaining: int, size: int) -> None:
    assert slice_length(remaining, 16) == size


def test_one_disturbed_slice_does_not_decide_the_speed() -> None:
    speed = PrefillSpeed()
    assert speed.tokens_per_second == 0
    speed.measured(100, 0.1)
    assert speed.tokens_per_second == 1000
    speed.measured(16, 1.6)
    assert 600 < speed.tokens_per_second < 800
    for _ in range(50):
        speed.measured(16, 0.0)
    assert speed.tokens_per_second > 1_000_000  # what takes no time at all
