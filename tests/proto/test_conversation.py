"""A conversation, a server's side: what texts mean, and that answers are HTTP's in other words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.codec import decode, encode
from foundry_proto.conversation import (
    MAX_CALLS,
    Called,
    Cancelled,
    Refused,
    ServerConversation,
    WatchBegun,
    is_wanted,
    same_json,
)
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Failure, Head, Headers, Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer, Data, ServerExchange
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.messages.watch import (
    CallAnswered,
    CallChunk,
    CallEnded,
    CallFailed,
    ClientMessage,
    DownloadEnded,
    DownloadProgressed,
    Generated,
    ModelChanged,
    RequestServed,
    ServerEvent,
    ServerMessage,
    Watching,
    WatchRequest,
)
from foundry_proto.operations import ALL, CHAT_COMPLETIONS, WATCH, Operations
from tests.support.strategies import JSON_VALUES, values_of

HEADERS: Headers = (
    (b"host", b"localhost:5272"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"content-length", b"0"),
    (b"content-type", b"text/plain"),
    (b"authorization", b"Bearer x"),
)
HEAD = Head(operation=WATCH, method="GET", query=None, headers=HEADERS, client="127.0.0.1:50123")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def conversation(operations: Operations = ALL, **more: Any) -> ServerConversation:
    return ServerConversation(operations, head=HEAD, **more)


def text(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def chat(call: str = "1", body: object = CHAT) -> bytes:
    return text(type="chat", id=call, body=body)


def refused(event: object) -> dict[str, Any]:
    assert isinstance(event, Refused)
    plain = json.loads(event.data)
    assert plain.pop("type") == "error"
    return dict(plain)


def said(texts: list[bytes]) -> list[Any]:
    return [json.loads(one) for one in texts]


def test_a_chat_is_a_request_with_the_websockets_headers_and_client() -> None:
    event = conversation().receive(chat("a", {**CHAT, "stream": True}))
    assert isinstance(event, Called)
    assert event.id == "a"
    assert event.request.value == ChatCompletionRequest(
        model="m", messages=(UserMessage(role="user", content="hi"),), stream=True
    )
    head = event.request.head
    assert (head.operation, head.method, head.client) == (CHAT_COMPLETIONS, "POST", "127.0.0.1:50123")
    assert head.headers == (
        (b"host", b"localhost:5272"),
        (b"authorization", b"Bearer x"),
        (b"content-type", b"application/json"),
    )
    assert json.loads(event.request.raw) == {**CHAT, "stream": True}


def test_other_texts_are_told_apart() -> None:
    talk = conversation()
    assert talk.receive(text(type="cancel", id="1")) == Cancelled(id="1")
    event = talk.receive(text(type="watch", topics=["models"], progressTokens=[{"a": 1}]))
    assert isinstance(event, WatchBegun)
    assert event.request.head is HEAD
    assert event.request.value == WatchRequest(topics=("models",), progress_tokens=({"a": 1},))


@pytest.mark.parametrize(
    ("data", "message", "param"),
    [
        (b"", "message: expected a JSON value, got nothing", None),
        (b"{", "message: expected JSON, got a syntax error at line 1, column 2: ", None),
        (b"5", "message: expected an object, got 5", None),
        (b"{}", 'type: expected "watch", "chat" or "cancel", got nothing', "type"),
        (b'{"type":"stop"}', 'type: expected "watch", "chat" or "cancel", got "stop"', "type"),
        (b'{"type":"cancel"}', "id: expected a string, got nothing", "id"),
        (b'{"type":"watch"}', "topics: expected an array of", "topics"),
        (
            b'{"type":"watch","topics":["body"]}',
            'topics[0]: expected "models", "downloads" or "requests", got "body"',
            "topics[0]",
        ),
        (b'{"type":"chat","id":5,"body":{}}', "id: expected a string, got 5", "id"),
        (
            b'{"type":"chat","id":"","body":{}}',
            'id: expected a text of 1 to 100 characters, got ""',
            "id",
        ),
        (
            b'{"type":"chat","id":"%b","body":{}}' % (b"x" * 101),
            f'id: expected a text of 1 to 100 characters, got "{"x" * 40}…"',
            "id",
        ),
        (b'{"type":"chat","id":"run","body":{}}', 'id: expected one that is not in use, got "run"', "id"),
        (b'{"type":"chat","id":"run"}', "body: expected a JSON value, got nothing", "body"),
    ],
)
def test_a_text_that_cannot_be_used_ends_no_chat(data: bytes, message: str, param: str | None) -> None:
    talk = conversation()
    talk.receive(chat("run"))
    error = refused(talk.receive(data))
    assert error["id"] is None
    assert error["status"] == (409 if "in use" in message else 400)
    assert error["error"]["message"].startswith(message)
    assert error["error"]["param"] == param
    assert list(talk.running) == ["run"]
    assert said(talk.send("run", Response(value=b"{}")))[0]["type"] == "answer"


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (
            {"model": "m", "messages": 5},
            "messages: expected an array of one or more messages, got 5",
            "messages",
        ),
        (
            {**CHAT, "temperature": "hot"},
            'temperature: expected a number from 0 to 2, got "hot"',
            "temperature",
        ),
        (5, "body: expected an object, got 5", None),
        ({}, "model: expected a string, got nothing", "model"),
    ],
)
def test_a_chat_that_http_would_refuse_is_refused_in_the_same_words(
    body: object, message: str, param: str | None
) -> None:
    talk = conversation()
    error = refused(talk.receive(chat("a", body)))
    exchange = ServerExchange(ALL)
    exchange.receive_head("POST", "/v1/chat/completions", ())
    exchange.receive_body(json.dumps(body).encode())
    failure = exchange.receive_end()
    assert isinstance(failure, Failure)
    (over_http,) = (json.loads(one.data) for one in exchange.send(failure) if isinstance(one, Data))
    assert (error["id"], error["status"], error["error"]) == ("a", 400, over_http["error"])
    assert (error["error"]["message"], error["error"]["param"]) == (message, param)
    assert isinstance(talk.receive(chat("a")), Called)


def test_a_chat_without_a_body_is_refused_by_its_name() -> None:
    error = refused(conversation().receive(text(type="chat", id="a")))
    assert (error["id"], error["error"]["param"]) == ("a", "body")


def test_a_body_may_be_as_large_as_over_http_and_no_larger() -> None:
    error = refused(conversation().receive(chat("a", {**CHAT, "user": "x" * CHAT_COMPLETIONS.body_limit})))
    assert (error["id"], error["status"]) == ("a", 413)
    assert error["error"]["message"] == "body: expected at most 4194304 bytes, got more"


def test_a_server_may_allow_less() -> None:
    talk = conversation(body_limit=100, depth=4)
    assert refused(talk.receive(chat("a", {**CHAT, "user": "x" * 100})))["status"] == 413
    deep = refused(talk.receive(chat("a", {"metadata": [[[[1]]]]})))
    assert deep["error"]["message"] == "body: expected at most 4 levels of nesting, got more"


def test_who_may_not_ask_is_refused_before_the_body_is_looked_at() -> None:
    asked: list[Head] = []

    def check(head: Head) -> Failure:
        asked.append(head)
        return Failure(status=401, message="no", headers=((b"www-authenticate", b"Bearer"),))

    error = refused(conversation(check=check).receive(chat("a", 5)))
    assert error == {
        "id": "a",
        "status": 401,
        "headers": {"www-authenticate": "Bearer"},
        "error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None},
    }
    assert [head.operation for head in asked] == [CHAT_COMPLETIONS]


def test_where_there_are_no_chats_none_is_answered() -> None:
    error = refused(conversation(Operations([WATCH])).receive(chat("a")))
    assert (error["id"], error["status"]) == ("a", 404)


def test_so_many_chats_run_at_a_time_and_no_more() -> None:
    talk = conversation()
    for number in range(MAX_CALLS):
        assert isinstance(talk.receive(chat(str(number))), Called)
    error = refused(talk.receive(chat("more")))
    assert (error["id"], error["status"]) == ("more", 429)
    assert error["error"]["message"] == "expected at most 32 chats at a time on one WebSocket, got more"
    talk.cancelled("0")
    assert isinstance(talk.receive(chat("more")), Called)


def test_a_streamed_answer_is_chunks_and_an_end() -> None:
    talk = conversation()
    talk.receive(chat("ä"))
    first: StreamItem[Any] = StreamItem(value=b'{"n":1}', headers=((b"warning", b"slow"),))
    assert talk.send("ä", first, StreamItem(value={"n": 2})) == [
        '{"type":"chunk","id":"ä","headers":{"warning":"slow"},"body":{"n":1}}'.encode(),
        '{"type":"chunk","id":"ä","body":{"n":2}}'.encode(),
    ]
    assert talk.send("ä", StreamEnd()) == ['{"type":"end","id":"ä"}'.encode()]
    assert list(talk.running) == []


def test_a_whole_answer_is_one_text() -> None:
    talk = conversation()
    talk.receive(chat("1"))
    answer: Response[Any] = Response(value=b'{"n":1}', headers=((b"warning", b"slow"),))
    assert talk.send("1", answer) == [
        b'{"type":"answer","id":"1","status":200,"headers":{"warning":"slow"},"body":{"n":1}}'
    ]
    talk.receive(chat("1"))
    assert said(talk.send("1", Response(value=None, status=204)))[0]["body"] is None


@pytest.mark.parametrize("begun", [True, False])
def test_a_failure_ends_a_chat_before_and_within_its_answer(begun: bool) -> None:
    talk = conversation()
    talk.receive(chat("1"))
    if begun:
        talk.send("1", StreamItem(value=b"{}"))
    failure = Failure(status=503, message="busy", code="overloaded", headers=((b"retry-after", b"1"),))
    assert said(talk.send("1", failure)) == [
        {
            "type": "error",
            "id": "1",
            "status": 503,
            "headers": {"retry-after": "1"},
            "error": {"message": "busy", "type": "server_error", "param": None, "code": "overloaded"},
        }
    ]
    assert list(talk.running) == []


def test_a_cancelled_chat_says_so_once_and_only_if_it_was_not_over() -> None:
    talk = conversation()
    talk.receive(chat("1"))
    assert talk.cancelled("1") == [b'{"type":"cancelled","id":"1"}']
    assert talk.cancelled("1") == []
    talk.receive(chat("1"))
    talk.send("1", StreamEnd())
    assert talk.cancelled("1") == []


def test_misuse_is_told_and_loses_nothing() -> None:
    talk = conversation()
    talk.receive(chat("1"))
    with pytest.raises(LocalProtocolError, match=r"^cannot send Response after a part of a stream$"):
        talk.send("1", StreamItem(value=b"{}"), Response(value=None))
    failure = Failure(status=500, message="failed")
    assert [one["type"] for one in said(talk.send("1", failure))] == ["chunk", "error"]
    with pytest.raises(LocalProtocolError, match=r'^cannot send an answer: no chat "1" is running$'):
        talk.send("1", StreamEnd())
    with pytest.raises(LocalProtocolError, match=r"^cannot send StreamEnd for a watch$"):
        talk.send(None, StreamEnd())


def test_what_was_made_before_a_misuse_leaves_with_the_cancellation_too() -> None:
    talk = conversation()
    talk.receive(chat("1"))
    with pytest.raises(LocalProtocolError):
        talk.send("1", StreamItem(value=b"{}"), Response(value=None))
    assert [one["type"] for one in said(talk.cancelled("1"))] == ["chunk", "cancelled"]


def test_what_is_watched_is_told_as_it_is() -> None:
    talk = conversation()
    event = ModelChanged(model="m:1", state="ready", provider="cpu")
    told = talk.send(None, StreamItem(value=event), StreamItem(value=b'{"type":"model"}'))
    assert told == [
        b'{"type":"model","model":"m:1","state":"ready","provider":"cpu"}',
        b'{"type":"model"}',
    ]
    (failed,) = said(talk.send(None, Failure(status=500, message="no", param="x")))
    assert (failed["id"], failed["status"], failed["error"]["param"]) == (None, 500, "x")


ANSWERS = st.one_of(
    st.builds(StreamItem, value=st.just(b'{"n":1}')),
    st.builds(Response, value=st.just(b"{}")),
    st.builds(Failure, status=st.sampled_from([400, 503]), message=st.just("no")),
    st.just(StreamEnd()),
    st.just("cancel"),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.one_of(ANSWERS, st.just("call"))), max_size=20))
def test_every_chat_ends_with_exactly_one_text_that_says_so(steps: list[tuple[str, Any]]) -> None:
    talk = conversation()
    called = {"a": 0, "b": 0}
    ended = {"a": 0, "b": 0}
    for call, step in steps:
        if step == "call":
            called[call] += isinstance(talk.receive(chat(call)), Called)
            continue
        try:
            texts = talk.cancelled(call) if step == "cancel" else talk.send(call, step)
        except LocalProtocolError:
            continue
        for one in said(texts):
            assert one["id"] == call
            ended[call] += one["type"] in ("answer", "end", "error", "cancelled")
    for call in "ab":
        assert called[call] - ended[call] == (call in talk.running)


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.binary(max_size=40), values_of(ClientMessage).map(encode), JSON_VALUES.map(encode)))
def test_any_text_gives_an_event_and_what_is_sent_is_a_message(data: bytes) -> None:
    event = conversation().receive(data)
    if isinstance(event, Refused):
        assert isinstance(decode(ServerMessage, event.data), CallFailed)  # type: ignore[arg-type]


def answered(event: Answer) -> object:
    talk = conversation()
    talk.receive(chat("1"))
    (one,) = talk.send("1", event)
    return decode(ServerMessage, one)  # type: ignore[arg-type]


def test_what_is_written_by_hand_is_what_the_codec_writes() -> None:
    headers: Headers = ((b"a", b"\xe4"),)
    named = {"a": "ä"}
    assert answered(StreamItem(value=b"5", headers=headers)) == CallChunk(id="1", headers=named, body=5)
    assert answered(StreamItem(value=b"5")) == CallChunk(id="1", body=5)
    assert answered(Response(value=b"5", headers=headers)) == CallAnswered(id="1", headers=named, body=5)
    assert answered(StreamEnd()) == CallEnded(id="1")
    failed = answered(Failure(status=400, message="no"))
    assert isinstance(failed, CallFailed)


@settings(deadline=None, max_examples=200)
@given(values_of(ClientMessage) | values_of(ServerMessage))
def test_every_message_comes_back_as_it_was(message: Any) -> None:
    assert decode(type(message), encode(message)) == message
    both: Any = ServerMessage | ClientMessage
    assert type(decode(both, encode(message))) is type(message)


# What is wanted.

PROGRESS = DownloadProgressed(progress_token={"id": 7}, model="m:1", file="a", fraction=0.5)
EVENTS: list[tuple[ServerEvent, str]] = [
    (ModelChanged(model="m:1", state="loading"), "models"),
    (PROGRESS, "downloads"),
    (DownloadEnded(progress_token={"id": 7}, model="m:1", success=True), "downloads"),
    (RequestServed(operation="chat_completions", outcome="answered", seconds=1.0), "requests"),
    (
        Generated(model="m:1", choices=1, prompt_tokens=1, cached_tokens=0, completion_tokens=1, seconds=1.0),
        "requests",
    ),
]


@pytest.mark.parametrize(("event", "topic"), EVENTS, ids=lambda one: type(one).__name__)
def test_an_event_is_for_those_who_watch_its_topic(event: ServerEvent, topic: Any) -> None:
    topics: tuple[Any, ...] = ("models", "downloads", "requests")
    assert is_wanted(event, WatchRequest(topics=(topic,)))
    assert is_wanted(event, WatchRequest(topics=(topic,), progress_tokens=None))
    assert not is_wanted(event, WatchRequest(topics=tuple(one for one in topics if one != topic)))
    assert not is_wanted(event, WatchRequest(topics=()))


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        ((), False),
        (({"id": 7},), True),
        (({"id": 7.0},), True),
        (({"id": 8}, 7), False),
        ((1, {"id": 7}), True),
    ],
)
def test_a_download_is_for_those_who_know_its_token(tokens: tuple[object, ...], wanted: bool) -> None:
    assert is_wanted(PROGRESS, WatchRequest(topics=("downloads",), progress_tokens=tokens)) is wanted


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (True, True, True),
        (None, None, True),
        (None, False, False),
        ("1", 1, False),
        ("é", "e\u0301", False),
        ([1, [2]], [1.0, [2]], True),
        ([1], [True], False),
        ([1], [1, 1], False),
        ([], {}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, {"a": 1, "b": 1}, False),
    ],
)
def test_values_are_equal_as_json_has_it(one: object, other: object, same: bool) -> None:
    assert same_json(one, other) is same
    assert same_json(other, one) is same


def test_a_watch_is_acknowledged_by_a_message() -> None:
    assert encode(Watching(topics=("models",))) == b'{"type":"watching","topics":["models"]}'
