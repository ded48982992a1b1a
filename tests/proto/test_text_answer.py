"""Laws of a text completion in the making: both forms say the same, and the best are the likeliest."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.chat_stream import Identity
from foundry_proto.chat.text_choices import shape_of
from foundry_proto.chat.text_completion import TextAnswer, text_answer_to
from foundry_proto.codec import decode, encode, structure
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Response, StreamEnd
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.completions import TokenLogprob, TopLogprob, Usage
from foundry_proto.messages.text_completions import TextCompletion, TextCompletionRequest, TextLogprobs

WHO = Identity(id="cmpl-1", created=1700000000, model='a "model"')
PIECES = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=4)


def request(**more: object) -> TextCompletionRequest:
    return structure(TextCompletionRequest, {"model": WHO.model, "prompt": "x", **more})


def begin(asked: TextCompletionRequest, *prompts: str) -> TextAnswer:
    return text_answer_to(asked, shape_of(asked), WHO, prompts=prompts)


def entry(text: bytes, logprob: float, *tops: tuple[bytes, float]) -> TokenLogprob:
    others = tuple(TopLogprob(token="?", logprob=other, bytes=tuple(data)) for data, other in tops)
    return TokenLogprob(token="?", logprob=logprob, bytes=tuple(text), top_logprobs=others)


def play(answer: TextAnswer, texts: list[list[str]], *, of_each: int = 1) -> list[Any]:
    """Write all pieces of each choice, then finish them; of each prompt there are some choices."""
    events: list[Any] = []
    for index, pieces in enumerate(texts):
        for piece in pieces:
            events += answer.text(index, piece)
    for index, pieces in enumerate(texts):
        prompt = index // of_each
        counts = {"prompt_tokens": 10 + prompt, "completion_tokens": len(pieces), "cached_tokens": 2 + index}
        events += answer.finish(index, "length" if index else "stop", **counts)
    return events


def whole(events: list[Any]) -> TextCompletion:
    (event,) = events
    assert isinstance(event, Response)
    assert isinstance(event.value, TextCompletion)
    return event.value


def streamed(events: list[Any]) -> list[TextCompletion]:
    assert isinstance(events[-1], StreamEnd)
    values = [event.value for event in events[:-1]]
    return [decode(TextCompletion, value if isinstance(value, bytes) else encode(value)) for value in values]


@settings(deadline=None)
@given(st.lists(PIECES, min_size=4, max_size=4), st.booleans())
def test_a_streams_pieces_are_what_is_given_whole(texts: list[list[str]], echo: bool) -> None:
    asked = {"prompt": ["first ", "sécond "], "n": 2, "echo": echo, "stream_options": {"include_usage": True}}
    completion = whole(play(begin(request(**asked), "first ", "sécond "), texts, of_each=2))
    *events, last = streamed(
        play(begin(request(**asked, stream=True), "first ", "sécond "), texts, of_each=2)
    )
    assert {(event.id, event.object, event.created, event.model) for event in (*events, last)} == {
        ("cmpl-1", "text_completion", 1700000000, WHO.model)
    }
    for choice in completion.choices:
        parts = [part for event in events for part in event.choices if part.index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert [part.finish_reason for part in parts] == [None] * (len(parts) - 1) + [choice.finish_reason]
        assert all(part.text for part in parts[:-1])
    before = ["first ", "first ", "sécond ", "sécond "] if echo else [""] * 4
    assert [choice.text for choice in completion.choices] == [
        prompt + "".join(pieces) for prompt, pieces in zip(before, texts, strict=True)
    ]
    assert (last.choices, last.usage) == ((), completion.usage)
    assert isinstance(completion.usage, Usage)
    assert completion.usage.prompt_tokens == 10 + 11
    assert completion.usage.completion_tokens == sum(map(len, texts))
    assert encode(completion.usage.prompt_tokens_details) == b'{"cached_tokens":6}'  # 2 and 4, the first ones


def test_only_a_stream_that_was_asked_for_it_tells_the_usage() -> None:
    events = streamed(play(begin(request(stream=True)), [["a"]]))
    assert [b'"usage"' in encode(event) for event in events] == [False, False]


def test_an_event_is_written_as_the_codec_would() -> None:
    piece, last, end = play(begin(request(stream=True)), [['"é\n']])
    assert piece.value == encode(decode(TextCompletion, piece.value))
    assert piece.value.decode() == (
        '{"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"a \\"model\\"",'
        '"choices":[{"text":"\\"é\\n","index":0,"logprobs":null,"finish_reason":null}],"system_fingerprint":null}'
    )
    assert encode(last.value).endswith(
        b'"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}],"system_fingerprint":null}'
    )
    assert end == StreamEnd()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("count", [0, 2])
def test_tokens_are_told_one_by_one_with_the_place_of_their_text(stream: bool, count: int) -> None:
    answer = begin(request(stream=stream, logprobs=count))
    letter = entry(b"A", -0.5, (b"A", -0.5), (b"B", -1.5))
    pieces = [
        ("Aé", [letter, entry(b"\xc3", -1.0, (b"\xc3", -1.0)), entry(b"\xa9", 0.0)]),
        ("", [entry(b"<|end|>", -2.0)]),
        ("!", [entry(b"!", -3.0, (b"?", -0.1))]),
    ]
    events: list[Any] = []
    for text, entries in pieces:
        events += answer.text(0, text, tokens=len(entries), logprobs=entries)
    events += answer.finish(0, "stop", prompt_tokens=1, completion_tokens=5)
    told = (
        [event.choices[0].logprobs for event in streamed(events)]
        if stream
        else [whole(events).choices[0].logprobs]
    )
    found = [one for one in told if isinstance(one, TextLogprobs)]
    assert sum((one.tokens for one in found), ()) == ("A", "bytes:\\xc3", "bytes:\\xa9", "<|end|>", "!")
    assert sum((one.token_logprobs for one in found), ()) == (-0.5, -1.0, 0.0, -2.0, -3.0)
    assert sum((one.text_offset for one in found), ()) == (0, 1, 1, 2, 3)
    tops: tuple[object, ...] = sum((one.top_logprobs or () for one in found), ())
    with_tops = (
        {"A": -0.5, "B": -1.5},
        {"bytes:\\xc3": -1.0},
        {"bytes:\\xa9": 0.0},
        {"<|end|>": -2.0},
        {"?": -0.1, "!": -3.0},
    )
    assert tops == (with_tops if count else ())
    assert told[-1:] == ([None] if stream else found)


def test_a_text_without_tokens_has_empty_arrays() -> None:
    answer = begin(request(logprobs=1))
    completion = whole([*answer.finish(0, "stop", prompt_tokens=1, completion_tokens=0)])
    assert completion.choices[0].logprobs == TextLogprobs(
        tokens=(), token_logprobs=(), top_logprobs=(), text_offset=()
    )


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-50, 0), max_size=3), min_size=6, max_size=6))
def test_the_best_are_those_with_the_likeliest_tokens(logprobs: list[list[float]]) -> None:
    asked = request(prompt=["a", "b"], n=2, best_of=3)
    answer = begin(asked)
    for index, numbers in enumerate(logprobs):
        answer.text(index, str(index), logprobs=[entry(b"x", one) for one in numbers])
    events: list[Any] = []
    for index in range(6):
        events += answer.finish(index, "stop", prompt_tokens=1, completion_tokens=1)
    completion = whole(events)
    means = [sum(one) / len(one) if one else -math.inf for one in logprobs]
    for prompt in (0, 1):
        ranked = sorted(range(3 * prompt, 3 * prompt + 3), key=lambda index: (-means[index], index))
        chosen = [int(choice.text) for choice in completion.choices[2 * prompt : 2 * prompt + 2]]
        assert chosen == ranked[:2]
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
    # What was computed was computed, and what nobody asked for is not told.
    assert isinstance(completion.usage, Usage)
    assert completion.usage.completion_tokens == 6
    assert {choice.logprobs for choice in completion.choices} == {None}


@pytest.mark.parametrize(
    ("more", "prompts", "given", "generated"),
    [
        ({}, 1, 1, 1),
        ({"prompt": [5, 6]}, 1, 1, 1),
        ({"prompt": [[5], [6, 7]], "n": 3}, 2, 3, 3),
        ({"prompt": ["a", "b"], "best_of": 4}, 2, 1, 4),
        ({"prompt": ["a"] * 64, "n": 2, "best_of": None}, 64, 2, 2),
    ],
)
def test_choices_are_counted_over_all_prompts(
    more: dict[str, Any], prompts: int, given: int, generated: int
) -> None:
    shape = shape_of(request(**more))
    assert (shape.prompts, shape.given, shape.generated) == (prompts, given, generated)
    assert shape.chooses is (generated > given)
    assert shape.logprobs is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"n": 3, "best_of": 2}, "best_of: expected at least n, which is 3, got 2"),
        (
            {"n": 2, "best_of": 3, "stream": True},
            "best_of: expected n, which is 2, got 3: which is the best shows too late for a stream",
        ),
        (
            {"prompt": ["a"] * 65, "n": 2},
            "n: expected at most 128 texts to generate, got 2 for each of 65 prompts",
        ),
        (
            {"prompt": ["a", "b"], "best_of": 65},
            "best_of: expected at most 128 texts to generate, got 65 for each of 2 prompts",
        ),
        ({"echo": True, "logprobs": 0}, "logprobs: expected none beside echo, got 0"),
    ],
)
def test_what_does_not_go_together_is_named(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ContentError) as caught:
        shape_of(request(**more))
    assert str(caught.value) == message


@pytest.mark.parametrize("stream", [False, True])
def test_a_choice_that_is_none_or_has_ended_takes_nothing(stream: bool) -> None:
    answer = begin(request(stream=stream, n=2))
    for index in (-1, 2):
        with pytest.raises(
            LocalProtocolError, match=rf"^choice: expected an index from 0 to 1, got {index}$"
        ):
            answer.text(index, "x")
    assert answer.text(0, "") == ()
    answer.finish(0, "stop", prompt_tokens=1, completion_tokens=0)
    with pytest.raises(LocalProtocolError, match=r"^choice 0 has finished$"):
        answer.text(0, "x")
    with pytest.raises(LocalProtocolError, match=r"^choice 0 has finished$"):
        answer.finish(0, "stop", prompt_tokens=1, completion_tokens=0)
