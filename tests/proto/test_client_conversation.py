"""A conversation, a client's side: it says what a server understands, and understands what a server says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.chat.chat_stream import Identity, answer_to
from foundry_proto.codec import encode
from foundry_proto.conversation import (
    Answered,
    Called,
    ClientConversation,
    Complained,
    Ended,
    Refused,
    ServerConversation,
    Told,
    WatchBegun,
)
from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Failure, Head, Response, StreamEnd, StreamItem
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk
from foundry_proto.messages.watch import ModelChanged, ServerMessage, Watching, WatchRequest
from foundry_proto.operations import ALL, WATCH
from tests.support.strategies import JSON_VALUES, values_of

HEAD = Head(operation=WATCH, method="GET", query=None)


def request(*, stream: bool = False) -> ChatCompletionRequest:
    return ChatCompletionRequest(model="m", messages=(UserMessage(role="user", content="hi"),), stream=stream)


def called(client: ClientConversation, server: ServerConversation, *, stream: bool, call: str = "1") -> Any:
    event = server.receive(client.chat(call, request(stream=stream)))
    assert isinstance(event, Called)
    return answer_to(event.request.value, Identity(id="chatcmpl-1", created=5, model="m"))


def pair() -> tuple[ClientConversation, ServerConversation]:
    return ClientConversation(), ServerConversation(ALL, head=HEAD)


def test_a_whole_answer_is_a_response() -> None:
    client, server = pair()
    answer = called(client, server, stream=False)
    events = [*answer.text(0, "yes"), *answer.finish(0, "stop", prompt_tokens=1, completion_tokens=1)]
    (text,) = server.send("1", *events)
    event = client.receive(text)
    assert isinstance(event, Answered)
    assert isinstance(event.answer, Response)
    assert isinstance(event.answer.value, ChatCompletion)
    assert event.answer.value.choices[0].message.content == "yes"
    assert event.id == "1"


def test_a_streamed_answer_is_items_and_an_end() -> None:
    client, server = pair()
    answer = called(client, server, stream=True)
    events = [*answer.text(0, "yes"), *answer.finish(0, "stop", prompt_tokens=1, completion_tokens=1)]
    told = [client.receive(text) for text in server.send("1", *events)]
    assert all(isinstance(one, Answered) for one in told)
    answers: list[Any] = [one.answer for one in told if isinstance(one, Answered)]
    assert [type(one) for one in answers] == [StreamItem] * (len(events) - 1) + [StreamEnd]
    assert all(isinstance(one.value, ChatCompletionChunk) for one in answers[:-1])
    called(client, server, stream=True)  # the id is free again


def test_a_failure_is_what_the_server_said() -> None:
    client, server = pair()
    called(client, server, stream=False)
    failure = Failure(
        status=503, message="busy", code="overloaded", param="model", headers=((b"retry-after", b"1"),)
    )
    (text,) = server.send("1", failure)
    assert client.receive(text) == Answered(id="1", answer=failure)
    called(client, server, stream=False)


def test_a_refusal_of_something_else_ends_no_chat() -> None:
    client, server = pair()
    called(client, server, stream=False)
    refused = server.receive(b"5")
    assert isinstance(refused, Refused)
    assert client.receive(refused.data) == Complained(
        failure=Failure(status=400, message="message: expected an object, got 5")
    )
    with pytest.raises(LocalProtocolError, match=r'^chat: expected an id that is not in use, got "1"$'):
        client.chat("1", request())


def test_a_cancelled_chat_ends() -> None:
    client, server = pair()
    called(client, server, stream=True)
    server.receive(client.cancel("1"))
    (text,) = server.cancelled("1")
    assert client.receive(text) == Ended(id="1")
    called(client, server, stream=True)


def test_a_request_that_cannot_be_sent_takes_no_id() -> None:
    client = ClientConversation()
    bad = ChatCompletionRequest(model="\ud800", messages=())
    with pytest.raises(LocalProtocolError, match=r"^encode: "):
        client.chat("1", bad)
    assert json.loads(client.chat("1", request()))["id"] == "1"


def test_a_wish_to_watch_is_understood() -> None:
    client, server = pair()
    event = server.receive(client.watch("models", "requests"))
    assert isinstance(event, WatchBegun)
    assert event.request.value == WatchRequest(topics=("models", "requests"))
    event = server.receive(client.watch("downloads", progress_tokens=({"id": 1},)))
    assert isinstance(event, WatchBegun)
    assert event.request.value.progress_tokens == ({"id": 1},)


def test_what_happens_is_told() -> None:
    client, server = pair()
    for event in (Watching(topics=("models",)), ModelChanged(model="m:1", state="failed", reason="no")):
        (text,) = server.send(None, StreamItem(value=event))
        assert client.receive(text) == Told(event=event)


def test_a_type_of_a_newer_server_is_passed_over() -> None:
    assert ClientConversation().receive(b'{"type":"weather","id":5}') is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the server's text is not what was expected: body: expected a JSON value, got nothing"),
        (b"[]", "the server's text is not what was expected: body: expected an object, got an array"),
        (b"{}", "the server's text is not what was expected: type: expected"),
        (b'{"type":5}', "the server's text is not what was expected: type: expected"),
        (
            b'{"type":"end","id":5}',
            "the server's text is not what was expected: id: expected a string, got 5",
        ),
        (b'{"type":"end","id":"2"}', 'expected an answer to a chat that runs, got one to "2"'),
        (b'{"type":"cancelled","id":"2"}', 'expected an answer to a chat that runs, got one to "2"'),
        (
            b'{"type":"chunk","id":"1","body":5}',
            "the server's text is not what was expected: body: expected an",
        ),
    ],
)
def test_a_text_that_is_none_of_the_protocol_is_an_error(text: bytes, message: str) -> None:
    client = ClientConversation()
    client.chat("1", request())
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(text)
    assert str(caught.value).startswith(message)


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.binary(max_size=40), values_of(ServerMessage).map(encode), JSON_VALUES.map(encode)))
def test_any_text_gives_an_event_or_a_remote_error(data: bytes) -> None:
    client = ClientConversation()
    client.chat("1", request())
    try:
        client.receive(data)
    except RemoteProtocolError:
        pass
