"""Which tokens a delta has: those whose text begins to leave with it, each with its logprobs."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.text_stream import TextStream
from foundry_runtime.engine.api import Job, Sampling
from foundry_runtime.engine.driver import Delivery, Delta, Done, Driver
from foundry_runtime.engine.scripted import ScriptedEngine

TABLE = [b"", b"a", b"S", b"ST", b"aS", b"TO", b"OP", b"P", b"x y", "é".encode(), b"\xc3", b"\xa9", b"TOS"]


def deliveries(
    script: Sequence[int], stops: Sequence[str], *, logprobs: int | None = None, max_tokens: int = 99
) -> list[Delivery]:
    inbox: list[Delivery] = []
    driver = Driver(ScriptedEngine(lambda _: script, vocabulary=len(TABLE)))
    job = Job(prompt=[1], max_tokens=max_tokens, sampling=Sampling(), logprobs=logprobs)
    driver.submit(job, TextStream(TABLE, stops), inbox.append)
    while driver.busy:
        driver.step()
    return inbox


def deltas(script: Sequence[int], stops: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
    return [(one.text, one.tokens) for one in deliveries(script, stops) if isinstance(one, Delta)]


def test_a_token_whose_text_waits_comes_with_its_text() -> None:
    # "S", "TO", "S", "TO", "a": the second "S" is still held when the first one's text leaves.
    assert deltas([2, 5, 2, 5, 1], ["STOP"]) == [("STO", (2, 5)), ("STOa", (2, 5, 1))]


def test_a_token_that_a_stop_sequence_swallowed_whole_never_comes() -> None:
    assert deltas([1, 4, 5, 7], ["STOP"]) == [("a", (1,)), ("a", (4,))]
    assert deltas([1, 2, 5, 7], ["STOP"]) == [("a", (1,))]
    assert deltas([2, 5, 2, 5, 7], ["STOP"]) == [("STO", (2, 5))]


def test_an_answer_that_is_cut_shows_all_its_tokens() -> None:
    assert deltas([1, 2, 5], ["STOP"]) == [("a", (1,)), ("STO", (2, 5))]


def test_a_character_that_the_cut_completes_may_complete_a_stop_sequence() -> None:
    assert deltas([1, 2, 10], ["S\ufffd"]) == [("a", (1,))]
    assert deltas([1, 2, 10], ["S\ufffd\ufffd"]) == [("a", (1,)), ("S\ufffd", (2, 10))]


@settings(deadline=None, max_examples=200)
@given(
    script=st.lists(st.integers(0, len(TABLE) - 1), max_size=12),
    stops=st.lists(st.sampled_from(["S", "STOP", "SaS", "é", "OPS", "y"]), max_size=2, unique=True),
    logprobs=st.sampled_from([None, 0, 2]),
    max_tokens=st.integers(1, 12),
)
def test_a_delta_has_the_tokens_whose_text_has_begun_with_it(
    script: list[int], stops: list[str], logprobs: int | None, max_tokens: int
) -> None:
    inbox = deliveries(script, stops, logprobs=logprobs, max_tokens=max_tokens)
    *given_deltas, done = inbox
    assert isinstance(done, Done)
    said = script[: done.completion_tokens]
    # Where each token's text begins: after the whole characters that all tokens before it bring.
    plain = TextStream(TABLE)
    begins = [0]
    for token in said:
        begins.append(begins[-1] + len(plain.push(token)))
    shown: list[int] = []
    length = 0
    for delta in given_deltas:
        assert isinstance(delta, Delta)
        shown += delta.tokens
        length += len(delta.text)
        assert len(delta.logprobs) == (0 if logprobs is None else len(delta.tokens))
        for told in delta.logprobs:
            assert len(told.top) == logprobs
        if delta is not given_deltas[-1]:
            assert shown == [token for token, begin in zip(said, begins, strict=False) if begin < length]
    assert shown == said[: len(shown)]
    assert all(begin >= length for begin in begins[len(shown) : len(said)])


def test_logprobs_stay_with_their_tokens() -> None:
    inbox = deliveries([2, 5, 2, 3, 1], ["STOP"], logprobs=1)
    pairs = [
        (token, told.top[0][0])
        for delta in inbox
        if isinstance(delta, Delta)
        for token, told in zip(delta.tokens, delta.logprobs, strict=True)
    ]
    assert pairs == [(token, token) for token in (2, 5, 2, 3, 1)]
