"""A client's side of an exchange: how a call looks, and what any server's reply is read as."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.errors import LocalProtocolError, RemoteProtocolError
from foundry_proto.events import Failure, Head, Headers, Response, StreamEnd, StreamItem
from foundry_proto.exchange import ClientAnswer, ClientExchange, ServerExchange
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk
from foundry_proto.operations import CHAT_COMPLETIONS, Operation
from foundry_proto.operations.service import METRICS
from foundry_proto.sentinels import ABSENT, NEED_DATA
from tests.support.fakes import COPY, DROP, FAKES, FIND, PUT, Widget

HELLO = ChatCompletionRequest(model="m", messages=(UserMessage(role="user", content="é"),))
JSON: Headers = ((b"content-type", b"application/json"),)
SSE: Headers = ((b"content-type", b"Text/Event-Stream; charset=utf-8"),)


def exchange(operation: Operation[Any, Any, Any], *, limit: int = 1000) -> ClientExchange:
    return ClientExchange(operation, limit=limit)


def replied(
    operation: Operation[Any, Any, Any],
    status: int,
    headers: Headers,
    body: bytes,
    *,
    method: str | None = None,
) -> list[ClientAnswer | str]:
    """All events of a reply, and the error that ended them, if one did."""
    client = exchange(operation)
    client.request(None if not operation.has_body else Widget(name="a"), params={"name": "a"}, method=method)
    events: list[ClientAnswer | str] = []
    assert client.next_event() is NEED_DATA
    try:
        client.receive_head(status, headers)
        assert client.next_event() is NEED_DATA
        client.receive_body(body)
        client.receive_end()
        while (event := client.next_event()) is not NEED_DATA:
            events.append(event)
    except RemoteProtocolError as error:
        events.append(str(error))
    else:
        assert client.over
    return events


def test_a_call_is_method_target_headers_and_body() -> None:
    body = '{"model":"m","messages":[{"role":"user","content":"é"}]}'.encode()
    assert exchange(CHAT_COMPLETIONS).request(HELLO) == (
        "POST",
        "/v1/chat/completions",
        ((b"content-type", b"application/json"), (b"content-length", b"57")),
        body,
    )


def test_a_call_without_a_body_has_no_headers_for_one() -> None:
    call = exchange(FIND).request(params={"name": "a/é"}, query={"colour": "red", "x": "a b&c"})
    assert call == ("GET", "/widgets/a%2F%C3%A9?colour=red&x=a+b%26c", (), b"")


def test_a_call_may_name_another_of_its_methods() -> None:
    assert exchange(PUT).request(Widget(name="a"), params={"name": "a"})[0] == "PUT"
    assert exchange(PUT).request(Widget(name="a"), params={"name": "a"}, method="POST")[0] == "POST"
    assert exchange(FIND).request(params={"name": "a"}, method="HEAD")[0] == "HEAD"


@pytest.mark.parametrize(
    ("operation", "arguments", "message"),
    [
        (CHAT_COMPLETIONS, {}, "chat_completions: expected a value for the body"),
        (FIND, {"value": HELLO}, "find: expected no value, since it has no body"),
        (FIND, {}, "find: expected a value for each parameter of /widgets/{name}"),
        (
            FIND,
            {"params": {"name": "a"}, "query": {"colour": "\ud800"}},
            "find: expected Unicode text in the query, got a lone surrogate",
        ),
    ],
)
def test_a_call_that_cannot_be_made_is_misuse(
    operation: Operation[Any, Any, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        exchange(operation).request(**arguments)
    assert str(caught.value) == message


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "drop"),
    st.sampled_from(["red", "green", None]),
    st.none() | st.integers(-(10**9), 10**9),
)
def test_a_server_reads_what_a_client_calls(name: str, colour: str | None, count: int | None) -> None:
    query = {key: str(value) for key, value in (("colour", colour), ("count", count)) if value is not None}
    method, target, headers, _ = exchange(FIND).request(params={"name": name}, query=query)
    head = ServerExchange(FAKES).receive_head(method, target, headers)
    assert isinstance(head, Head)
    assert head.operation is FIND
    words = head.query
    assert words.name == name
    assert words.colour == (ABSENT if colour is None else colour)
    assert words.count == (ABSENT if count is None else count)


def test_a_whole_answer_is_a_response() -> None:
    headers = (*JSON, (b"etag", b"1"))
    assert replied(FIND, 200, headers, b'{"name":"b"}') == [
        Response(value=Widget(name="b"), status=200, headers=headers)
    ]


def test_how_a_whole_answer_calls_itself_does_not_matter() -> None:
    assert replied(FIND, 201, (), b'{"name":"b"}') == [Response(value=Widget(name="b"), status=201)]


@pytest.mark.parametrize(
    ("operation", "status", "method"),
    [(DROP, 200, None), (PUT, 200, None), (FIND, 204, None), (FIND, 200, "HEAD")],
)
def test_an_answer_without_a_body_is_a_response_without_a_value(
    operation: Operation[Any, Any, Any], status: int, method: str | None
) -> None:
    assert replied(operation, status, (), b"", method=method) == [Response(value=None, status=status)]


def test_a_body_that_no_answer_should_have_is_ignored() -> None:
    assert replied(DROP, 200, (), b"OK") == [Response(value=None, status=200)]


CHUNK = b'{"id":"i","created":1,"model":"m","choices":[]}'
ITEM = StreamItem(
    value=ChatCompletionChunk(id="i", created=1, model="m", choices=(), system_fingerprint=ABSENT)
)


def test_a_streamed_answer_is_items_and_an_end() -> None:
    assert replied(CHAT_COMPLETIONS, 200, SSE, b"data: %b\n\ndata: [DONE]\n\n" % CHUNK) == [
        ITEM,
        StreamEnd(),
    ]
    plain = ((b"content-type", b"text/plain"),)
    assert replied(COPY, 200, plain, b'{"name":"b"}\nend\n') == [
        StreamItem(value=Widget(name="b")),
        StreamEnd(),
    ]


def test_a_stream_that_fails_ends_with_the_failure() -> None:
    body = b'data: %b\n\ndata: {"error":{"message":"no","type":"x"}}\n\n' % CHUNK
    assert replied(CHAT_COMPLETIONS, 200, SSE, body) == [
        ITEM,
        Failure(status=500, message="no", type="x"),
    ]


def test_a_streaming_operation_may_answer_as_a_whole() -> None:
    body = b'{"id":"i","created":1,"model":"m","choices":[]}'
    completion = ChatCompletion(id="i", created=1, model="m", choices=(), system_fingerprint=ABSENT)
    assert replied(CHAT_COMPLETIONS, 200, JSON, body) == [Response(value=completion, headers=JSON)]


@pytest.mark.parametrize(
    ("operation", "headers", "body", "message"),
    [
        (FIND, JSON, b"", "the answer is not what was expected: body: expected a JSON value, got nothing"),
        (FIND, JSON, b"{}", "the answer is not what was expected: name: expected a string, got nothing"),
        (FIND, JSON, b"[]", "the answer is not what was expected: body: expected an object, got an array"),
        # A stream's type where nothing streams, and none where it was asked for.
        (FIND, SSE, b"[]", "the answer is not what was expected: body: expected an object, got an array"),
        (CHAT_COMPLETIONS, SSE, b"", "expected data: [DONE], got the end of the stream"),
        (
            CHAT_COMPLETIONS,
            SSE,
            b"data: 5\n\n",
            "an event of the stream is not what was expected: body: expected an object, got 5",
        ),
        (FIND, JSON, b"x" * 1001, "expected an answer of at most 1000 bytes, got more"),
        (CHAT_COMPLETIONS, SSE, b"data: " + b"x" * 1000, "line: expected at most 1000 bytes, got more"),
    ],
    ids=lambda case: case[:40] if isinstance(case, str) else "",
)
def test_an_answer_that_is_none_is_a_remote_error(
    operation: Operation[Any, Any, Any], headers: Headers, body: bytes, message: str
) -> None:
    assert replied(operation, 200, headers, body) == [message]


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (
            404,
            b'{"error":{"message":"no model","type":"invalid_request_error","param":"model","code":"x"}}',
            Failure(status=404, message="no model", param="model", code="x"),
        ),
        (
            503,
            b'{"type":"about:blank","title":"Busy","status":503,"detail":"later"}',
            Failure(status=503, message="later"),
        ),
        (500, b'{"error":{"message":"no","code":500}}', Failure(status=500, message="no", code="500")),
        (502, b"<html>Bad Gateway</html>\n", Failure(status=502, message="<html>Bad Gateway</html>")),
        (502, b"\xff" * 300, Failure(status=502, message="\ufffd" * 200)),
        (500, b'{"odd":1}', Failure(status=500, message='{"odd":1}')),
        (400, b"", Failure(status=400, message="status 400")),
        (301, b" \n", Failure(status=301, message="status 301")),
        (418, b"null", Failure(status=418, message="null")),
    ],
)
def test_a_failure_says_what_the_server_said(status: int, body: bytes, failure: Failure) -> None:
    assert replied(FIND, status, (), body) == [failure]
    # A stream's type does not make a failure a stream.
    (read,) = replied(CHAT_COMPLETIONS, status, SSE, body)
    assert read == Failure(
        status=failure.status,
        message=failure.message,
        type=failure.type,
        param=failure.param,
        code=failure.code,
        headers=SSE,
    )


@settings(deadline=None)
@given(
    st.sampled_from([CHAT_COMPLETIONS, FIND, DROP, COPY]),
    st.integers(200, 599),
    st.sampled_from([JSON, SSE, ((b"content-type", b"\xff"),), ()]),
    st.binary(max_size=30) | st.sampled_from([b'{"name":"b"}', b'{"error":{}}', b"data: {}\n\n", b"end\n"]),
)
def test_any_reply_gives_events_or_a_remote_error(
    operation: Operation[Any, Any, Any], status: int, headers: Headers, body: bytes
) -> None:
    replied(operation, status, headers, body)


def test_an_answer_of_another_kind_than_json_is_its_text() -> None:
    plain: Headers = ((b"content-type", METRICS.media_type),)
    (answer,) = replied(METRICS, 200, plain, "a 1 # é\n".encode())
    assert answer == Response(value="a 1 # é\n", status=200, headers=plain)
    assert replied(METRICS, 200, plain, b"\xff") == [
        "the answer is not what was expected: body: expected UTF-8"
    ]
