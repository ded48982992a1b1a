"""The index of kept blocks, against a plain model of it: what is found, what is shared, what is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from foundry_runtime.engine.batched.prefixes import Block, PrefixIndex

LENGTH = 2

tokens = st.lists(st.integers(0, 2), max_size=10)


def keep(index: PrefixIndex, sequence: list[int], *, exact: bool = True) -> list[Block]:
    """Keep as many of a sequence's whole blocks as there is room for."""
    kept: list[Block] = []
    for begin in range(0, len(sequence) - LENGTH + 1, LENGTH):
        parent = kept[-1] if kept else None
        own = tuple(sequence[begin : begin + LENGTH])
        block = index.find(parent, own) or index.insert(parent, own, exact=exact)
        if block is None:
            break
        index.touch(block)
        kept.append(block)
    return kept


def found(index: PrefixIndex, sequence: list[int], most: int | None = None) -> list[int]:
    """The tokens of the blocks that match a sequence, joined."""
    path = index.match(sequence, most=len(sequence) if most is None else most)
    return [token for block in path for token in block.tokens]


def test_a_prompt_finds_the_longest_beginning_that_is_kept() -> None:
    index = PrefixIndex(10, length=LENGTH)
    keep(index, [1, 2, 3, 4, 5, 6])
    assert found(index, [1, 2, 3, 4, 9, 9]) == [1, 2, 3, 4]
    assert found(index, [1, 2, 3]) == [1, 2]
    assert found(index, [3, 4, 5, 6]) == []  # the same tokens, but behind others


def test_no_more_is_taken_than_may_be() -> None:
    index = PrefixIndex(10, length=LENGTH)
    keep(index, [1, 2, 3, 4])
    assert [len(found(index, [1, 2, 3, 4], most)) for most in (-1, 0, 1, 2, 3, 4)] == [0, 0, 0, 2, 2, 4]


def test_beginnings_that_are_the_same_are_kept_once() -> None:
    index = PrefixIndex(10, length=LENGTH)
    first, second = keep(index, [1, 2, 3, 4]), keep(index, [1, 2, 5, 6])
    assert first[0] is second[0]
    assert len(index) == 3


def test_what_was_used_longest_ago_is_given_up() -> None:
    index = PrefixIndex(3, length=LENGTH)
    for sequence in ([1, 1], [2, 2], [3, 3]):
        keep(index, sequence)
    found(index, [1, 1])
    (block,) = keep(index, [4, 4])
    assert [found(index, [n, n]) for n in (1, 2, 3, 4)] == [[1, 1], [], [3, 3], [4, 4]]
    assert index.is_kept(block)


def test_a_path_is_given_up_from_its_end() -> None:
    index = PrefixIndex(3, length=LENGTH)
    kept = keep(index, [1, 1, 2, 2, 3, 3])
    keep(index, [4, 4])
    assert [index.is_kept(block) for block in kept] == [True, True, False]


def test_a_path_never_gives_up_what_it_stands_on() -> None:
    index = PrefixIndex(2, length=LENGTH)
    assert len(keep(index, [1, 1, 2, 2, 3, 3])) == 2
    assert found(index, [1, 1, 2, 2, 3, 3]) == [1, 1, 2, 2]
    assert keep(PrefixIndex(0, length=LENGTH), [1, 1]) == []


def test_behind_what_decode_computed_nothing_is_exact() -> None:
    index = PrefixIndex(9, length=LENGTH)
    first = index.insert(None, (1, 1), exact=False)
    assert first is not None
    second = index.insert(first, (2, 2), exact=True)
    third = index.insert(None, (3, 3), exact=True)
    assert second is not None
    assert third is not None
    assert [block.exact for block in (first, second, third)] == [False, False, True]


def test_nothing_is_found_once_all_is_forgotten() -> None:
    index = PrefixIndex(3, length=LENGTH)
    (block,) = keep(index, [1, 1])
    index.clear()
    assert found(index, [1, 1]) == []
    assert not index.is_kept(block)
    assert len(index) == 0
    assert len(keep(index, [1, 1, 2, 2, 3, 3])) == 3


@given(st.integers(0, 5), st.lists(st.tuples(st.booleans(), tokens), max_size=40))
def test_whatever_comes_only_true_beginnings_are_found_and_no_slot_is_given_twice(
    capacity: int, steps: list[tuple[bool, list[int]]]
) -> None:
    index = PrefixIndex(capacity, length=LENGTH)
    held: dict[int, list[int]] = {}
    """What a memory of slots would hold: the tokens up to and with each block's."""
    for keeps, sequence in steps:
        if keeps:
            for number, block in enumerate(keep(index, sequence)):
                if index.is_kept(block):
                    held[block.slot] = sequence[: (number + 1) * LENGTH]
        for number, block in enumerate(index.match(sequence, most=len(sequence))):
            assert held[block.slot] == sequence[: (number + 1) * LENGTH]
        assert len(index) <= capacity
        assert all(0 <= slot < capacity for slot in held)
