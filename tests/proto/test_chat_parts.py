"""Laws of reasoning, calls and log probabilities in an answer: both forms tell the same, once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.assemble import ChatAssembler
from foundry_proto.chat.chat_stream import answer_to
from foundry_proto.chat.markup import HERMES, Markup
from foundry_proto.chat.offer import offer_of
from foundry_proto.chat.reading import Reading
from foundry_proto.codec import encode, structure
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import StreamEnd
from foundry_proto.messages.completions import (
    ChatCompletion,
    ChatCompletionChunk,
    Delta,
    TokenLogprob,
    TopLogprob,
)
from foundry_proto.sentinels import ABSENT
from tests.proto.test_chat_stream import WHO, assembled, chunk, request

THINKING = Markup(reasoning=("<think>", "</think>"), calls=HERMES.markup.calls)
FUNCTION = {"name": "f"}
TOOLS = [{"type": "function", "function": FUNCTION}]
CALL = '<tool_call>{"name": "f", "arguments": {"x": %d}}</tool_call>'


def read(text: str, *, stream: bool, reason: str = "stop", **more: object) -> ChatCompletion:
    """The answer that a text becomes, given letter by letter as tokens of their own."""
    asked = request(stream=stream, stream_options={"include_usage": True}, **more)
    ids = iter(f"call_{number:09}" for number in range(99))
    reading = Reading(markup=THINKING, offer=offer_of(asked), call_id=lambda: next(ids))
    answer = answer_to(asked, WHO, reading=reading)
    events: list[Any] = []
    for letter in text:
        events += answer.text(0, letter, tokens=1)
    assert reason in ("stop", "length")
    events += answer.finish(
        0,
        "stop" if reason == "stop" else "length",
        prompt_tokens=5,
        completion_tokens=len(text),
    )
    if stream:
        return assembled(events)
    (whole,) = events
    completion = whole.value
    assert isinstance(completion, ChatCompletion)
    return completion


def call(number: int, value: int) -> dict[str, Any]:
    function = {"name": "f", "arguments": f'{{"x":{value}}}'}
    return {"id": f"call_{number:09}", "type": "function", "function": function}


@pytest.mark.parametrize(
    ("text", "more", "reason", "message"),
    [
        (CALL % 1, {"tools": TOOLS}, "tool_calls", {"content": None, "tool_calls": [call(0, 1)]}),
        (
            CALL % 1 + "\n" + CALL % 2,
            {"tools": TOOLS},
            "tool_calls",
            {"content": None, "tool_calls": [call(0, 1), call(1, 2)]},
        ),
        (
            "<think>hm</think>\nb" + CALL % 1 + CALL % 2,
            {"tools": TOOLS, "parallel_tool_calls": False},
            "tool_calls",
            {"content": "b", "reasoning_content": "hm", "tool_calls": [call(0, 1)]},
        ),
        (
            CALL % 1 + CALL % 2,
            {"functions": [FUNCTION]},
            "function_call",
            {"content": None, "function_call": {"name": "f", "arguments": '{"x":1}'}},
        ),
        (CALL % 1, {"tools": TOOLS, "tool_choice": "none"}, "stop", {"content": CALL % 1}),
        (CALL % 1, {}, "stop", {"content": CALL % 1}),
        ("<tool_call>{", {"tools": TOOLS}, "stop", {"content": "<tool_call>{"}),
        (
            CALL % 1 + "and",
            {"tools": TOOLS, "reason": "length"},
            "length",
            {"content": "and", "tool_calls": [call(0, 1)]},
        ),
        ("<think>a", {}, "stop", {"content": "", "reasoning_content": "a"}),
    ],
)
def test_calls_and_reasoning_are_the_same_in_both_forms(
    text: str, more: dict[str, Any], reason: str, message: dict[str, Any]
) -> None:
    streamed, whole = (read(text, stream=stream, **more) for stream in (True, False))
    assert streamed == whole
    assert json.loads(encode(whole.choices[0])) == {
        "index": 0,
        "message": {"role": "assistant", "refusal": None, **message},
        "logprobs": None,
        "finish_reason": reason,
    }


def test_each_call_is_one_chunk_with_its_running_index() -> None:
    asked = request(stream=True, tools=TOOLS)
    ids = iter(["call_a", "call_b"])
    reading = Reading(markup=THINKING, offer=offer_of(asked), call_id=lambda: next(ids))
    answer = answer_to(asked, WHO, reading=reading)
    events: list[Any] = [*answer.text(0, CALL % 1 + "\n" + CALL % 2)]
    events += answer.finish(0, "stop", prompt_tokens=1, completion_tokens=2)
    assert isinstance(events.pop(), StreamEnd)
    deltas = [json.loads(encode(chunk(event.value).choices[0].delta)) for event in events]
    one, two = ({**call(0, value), "id": name} for name, value in (("call_a", 1), ("call_b", 2)))
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"tool_calls": [{"index": 0, **one}]},
        {"tool_calls": [{"index": 1, **two}]},
        {},
    ]


def test_calls_need_ids() -> None:
    answer = answer_to(request(tools=TOOLS), WHO, reading=Reading(offer=offer_of(request(tools=TOOLS))))
    answer.text(0, "x")
    reading = Reading(markup=THINKING, offer=offer_of(request(tools=TOOLS)))
    answer = answer_to(request(stream=True, tools=TOOLS), WHO, reading=reading)
    with pytest.raises(LocalProtocolError, match=r"^call_id: expected a function that makes ids"):
        answer.text(0, CALL % 1)


@pytest.mark.parametrize(
    ("text", "tokens"), [("a", 0), ("<think>ab", 2), ("<think>ab</think>c", 10), ("<think></think>", 8)]
)
def test_reasoning_tokens_are_those_up_to_its_end(text: str, tokens: int) -> None:
    for stream in (True, False):
        usage = read(text, stream=stream).usage
        assert usage
        assert usage.completion_tokens_details
        assert usage.completion_tokens_details.reasoning_tokens == tokens


# Log probabilities.


def entry(token: str) -> TokenLogprob:
    top = TopLogprob(token=token, logprob=-0.5, bytes=tuple(token.encode()))
    return TokenLogprob(token=token, logprob=-0.5, bytes=top.bytes, top_logprobs=(top,))


@given(st.lists(st.sampled_from(["a", "", " ", "<think>", "</think>", "<", CALL % 1]), max_size=8))
@settings(deadline=None)
def test_each_token_has_its_log_probability_once_in_order(texts: list[str]) -> None:
    for markup in (THINKING, Markup()):
        answers: list[ChatCompletion] = []
        for stream in (True, False):
            asked = request(stream=stream, logprobs=True, tools=TOOLS)
            reading = Reading(markup=markup, offer=offer_of(asked), call_id=lambda: "call_123456789")
            answer = answer_to(asked, WHO, reading=reading)
            events: list[Any] = []
            for text in texts:
                events += answer.text(0, text, tokens=1, logprobs=(entry(text),))
            events += answer.finish(0, "stop", prompt_tokens=1, completion_tokens=len(texts))
            answers.append(assembled(events) if stream else events[0].value)
        assert answers[0].choices == answers[1].choices
        logprobs = answers[0].choices[0].logprobs
        assert (logprobs.content if logprobs else ()) == tuple(map(entry, texts))


def test_tokens_without_text_leave_before_the_end() -> None:
    answer = answer_to(request(stream=True, logprobs=True), WHO)
    events: list[Any] = [
        *answer.text(0, "a", logprobs=(entry("a"),)),
        *answer.text(0, "", logprobs=(entry("b"),)),
    ]
    events += answer.finish(0, "stop", prompt_tokens=1, completion_tokens=2)
    chunks = [chunk(event.value).choices[0] for event in events[:-1]]
    assert [part.delta.content for part in chunks[:3]] == ["", "a", ""]
    assert encode(chunks[2]) == (
        b'{"index":0,"delta":{"content":""},"logprobs":{"content":[{"token":"b","logprob":-0.5,"bytes":[98],'
        b'"top_logprobs":[{"token":"b","logprob":-0.5,"bytes":[98]}]}],"refusal":null},"finish_reason":null}'
    )
    assert (chunks[3].delta, chunks[3].logprobs) == (Delta(), None)


def test_log_probabilities_of_other_servers_add_up() -> None:
    client = ChatAssembler()
    lists: list[object] = [
        {"content": None},
        None,
        {"content": [{"token": "x", "logprob": -1, "bytes": None}]},
    ]
    for logprobs in lists:
        choice = {"index": 0, "delta": {}, "logprobs": logprobs}
        client.add(
            structure(ChatCompletionChunk, {"id": "i", "created": 1, "model": "m", "choices": [choice]})
        )
    (done,) = client.completion().choices
    assert done.logprobs
    assert done.logprobs.content == (TokenLogprob(token="x", logprob=-1.0, bytes=None, top_logprobs=ABSENT),)
