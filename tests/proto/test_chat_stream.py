"""Laws of the answer in the making: both forms say the same; the quick writer writes what the codec does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.assemble import ChatAssembler
from foundry_proto.chat.chat_stream import ChatAnswer, Identity, answer_to, content_encoder
from foundry_proto.codec import decode, encode, structure
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Response, StreamEnd, StreamItem
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import (
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    Delta,
)

WHO = Identity(id="chatcmpl-1", created=1700000000, model='a "model"')

unicode_text = st.text(st.characters(codec="utf-8"), max_size=30)


def request(**more: object) -> ChatCompletionRequest:
    plain = {"model": WHO.model, "messages": [{"role": "user", "content": "x"}], **more}
    return structure(ChatCompletionRequest, plain)


def chunk(value: object) -> ChatCompletionChunk:
    return decode(ChatCompletionChunk, value) if isinstance(value, bytes) else value  # type: ignore[return-value]


def play(answer: ChatAnswer, texts: list[str], choices: int = 1) -> list[Any]:
    """Write each text to every choice in turn, then finish them all."""
    events: list[Any] = []
    for text in texts:
        for index in range(choices):
            events += answer.text(index, text)
    for index in range(choices):
        # What an earlier choice has computed serves the later ones, but it is the first that counts.
        counts = {"prompt_tokens": 7, "completion_tokens": len(texts), "cached_tokens": 2 + index}
        events += answer.finish(index, "stop", **counts)
    return events


def assembled(events: list[Any]) -> ChatCompletion:
    assert isinstance(events[-1], StreamEnd)
    client = ChatAssembler()
    for event in events[:-1]:
        assert isinstance(event, StreamItem)
        client.add(chunk(event.value))
    return client.completion()


@given(st.lists(unicode_text, max_size=8), st.integers(1, 3))
@settings(deadline=None)
def test_a_stream_adds_up_to_the_whole_answer(texts: list[str], choices: int) -> None:
    streaming = request(stream=True, stream_options={"include_usage": True})
    stream = play(answer_to(streaming, WHO, choices=choices), texts, choices)
    (whole,) = play(answer_to(request(), WHO, choices=choices), texts, choices)
    assert isinstance(whole, Response)
    assert assembled(stream) == whole.value
    assert [choice.message.content for choice in whole.value.choices] == ["".join(texts)] * choices


@given(unicode_text, st.integers(0, 5), unicode_text)
@settings(deadline=None)
def test_the_quick_writer_writes_what_the_codec_writes(text: str, index: int, model: str) -> None:
    who = Identity(id="i", created=1, model=model)
    choice = ChunkChoice(index=index, delta=Delta(content=text))
    expected = ChatCompletionChunk(id="i", created=1, model=model, choices=(choice,))
    assert content_encoder(who, index)(text) == encode(expected)


def test_a_stream_is_role_content_finish_and_end() -> None:
    events = play(answer_to(request(stream=True), WHO), ["Hi", "", "!"])
    assert isinstance(events.pop(), StreamEnd)
    chunks = [chunk(event.value) for event in events]
    assert [part.choices[0].delta for part in chunks] == [
        Delta(role="assistant", content=""),
        Delta(content="Hi"),
        Delta(content="!"),
        Delta(),
    ]
    assert [part.choices[0].finish_reason for part in chunks] == [None, None, None, "stop"]
    assert {(part.id, part.created, part.model) for part in chunks} == {(WHO.id, WHO.created, WHO.model)}
    assert all(b"usage" not in encode(part) for part in chunks)


@pytest.mark.parametrize("cached", [[2, 7, 7], [7, 2, 7], [0, 7, 7]])
def test_of_several_choices_the_one_that_computed_the_prompt_tells_how_much_was_there(
    cached: list[int],
) -> None:
    answer = answer_to(request(), WHO, choices=3)
    events: list[Any] = []
    for index, tokens in enumerate(cached):
        events += answer.finish(index, "stop", prompt_tokens=7, completion_tokens=1, cached_tokens=tokens)
    assert events[0].value.usage.prompt_tokens_details.cached_tokens == min(cached)


def test_usage_comes_before_the_end_only_when_asked_for() -> None:
    asked = request(stream=True, stream_options={"include_usage": True})
    *_, usage, end = play(answer_to(asked, WHO, choices=2), ["a", "b"], 2)
    assert isinstance(end, StreamEnd)
    assert encode(usage.value) == (
        b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"a \\"model\\"",'
        b'"choices":[],"system_fingerprint":null,"usage":{"prompt_tokens":7,"completion_tokens":4,'
        b'"total_tokens":11,"prompt_tokens_details":{"cached_tokens":2},'
        b'"completion_tokens_details":{"reasoning_tokens":0}}}'
    )
    for options in ({}, {"include_usage": False}, {"include_usage": None}):
        *_, last, _ = play(answer_to(request(stream=True, stream_options=options), WHO), ["a"])
        assert chunk(last.value).choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [True, False])
def test_a_finished_or_unknown_choice_takes_nothing_more(stream: bool) -> None:
    answer = answer_to(request(stream=stream), WHO, choices=2)
    answer.finish(0, "length", prompt_tokens=1, completion_tokens=1)
    with pytest.raises(LocalProtocolError, match=r"^choice 0 has finished$"):
        answer.text(0, "x")
    with pytest.raises(LocalProtocolError, match=r"^choice 0 has finished$"):
        answer.finish(0, "stop", prompt_tokens=1, completion_tokens=1)
    with pytest.raises(LocalProtocolError, match=r"^choice: expected an index from 0 to 1, got 2$"):
        answer.text(2, "x")


def test_an_empty_answer_still_has_a_role_and_an_empty_content() -> None:
    stream = play(answer_to(request(stream=True), WHO), [])
    assert chunk(stream[0].value).choices[0].delta == Delta(role="assistant", content="")
    (whole,) = play(answer_to(request(), WHO), [])
    assert whole.value.choices[0].message.content == ""


def test_tool_calls_add_up_by_their_index() -> None:
    deltas: list[dict[str, object]] = [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 1, "id": "call_b", "type": "function", "function": {"name": "g"}}]},
        {"tool_calls": [{"index": 0, "id": "call_a", "function": {"name": "f", "arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}, {"index": 1, "function": None}]},
    ]
    client = ChatAssembler()
    for number, delta in enumerate(deltas):
        reason = "tool_calls" if number == len(deltas) - 1 else None
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        plain = {"id": "i", "created": 1, "model": "m", "choices": [choice]}
        assert client.add(structure(ChatCompletionChunk, plain)) == ""
    (done,) = client.completion().choices
    assert encode(done) == (
        b'{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":'
        b'[{"id":"call_a","type":"function","function":{"name":"f","arguments":"{\\"x\\":1}"}},'
        b'{"id":"call_b","type":"function","function":{"name":"g","arguments":""}}]},'
        b'"logprobs":null,"finish_reason":"tool_calls"}'
    )


def test_function_call_refusal_and_reasoning_add_up() -> None:
    client = ChatAssembler()
    for delta in (
        {"reasoning_content": "hm", "function_call": {"name": "f", "arguments": ""}},
        {"reasoning_content": "m", "refusal": "no", "function_call": {"arguments": "{}"}},
    ):
        choice = {"index": 0, "delta": delta}
        client.add(
            structure(ChatCompletionChunk, {"id": "i", "created": 1, "model": "m", "choices": [choice]})
        )
    (done,) = client.completion().choices
    assert encode(done.message) == (
        b'{"role":"assistant","content":null,"refusal":"no","reasoning_content":"hmm",'
        b'"function_call":{"name":"f","arguments":"{}"}}'
    )
    assert done.finish_reason is None


def test_text_of_the_first_choice_is_given_as_it_comes() -> None:
    client = ChatAssembler()
    choices = [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]
    plain = {"id": "i", "created": 1, "model": "m", "choices": choices}
    assert client.add(structure(ChatCompletionChunk, plain)) == "a"


def test_no_chunk_is_no_completion() -> None:
    client = ChatAssembler()
    assert not client.begun
    with pytest.raises(LocalProtocolError, match=r"^completion: no chunk has come$"):
        client.completion()


def test_a_chunk_without_choices_is_a_beginning() -> None:
    client = ChatAssembler()
    client.add(structure(ChatCompletionChunk, {"id": "i", "created": 1, "model": "m", "choices": []}))
    assert client.begun
    assert client.completion().choices == ()
