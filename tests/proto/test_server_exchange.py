"""A server's side of an exchange: what a request's head and body mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Failure, Head, Headers, Request, Response, header
from foundry_proto.exchange import MAX_QUERY_WORDS, End, ServerExchange, Start
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.operations import CHAT_COMPLETIONS, DOCUMENTED, Operations
from tests.support.connections import headed
from tests.support.fakes import FAKES, FIND, WidgetWords

CHAT = "/v1/chat/completions"
JSON: Headers = ((b"content-type", b"application/json"),)
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def answer_to(method: str, target: str, headers: Headers = ()) -> Head | Failure | Response[None]:
    return ServerExchange(FAKES).receive_head(method, target, headers)


def test_a_request_is_head_and_then_meaning() -> None:
    exchange = ServerExchange(DOCUMENTED)
    head = exchange.receive_head("POST", CHAT, JSON)
    assert head == Head(operation=CHAT_COMPLETIONS, method="POST", query=None, headers=JSON)
    assert exchange.receive_body(BODY[:10]) is None
    assert exchange.receive_body(bytearray(BODY[10:])) is None
    assert isinstance(head, Head)
    assert exchange.receive_end() == Request(
        head=head,
        value=ChatCompletionRequest(model="m", messages=(UserMessage(role="user", content="hi"),)),
        raw=BODY,
    )
    assert not exchange.answered


def test_a_head_says_whose_request_it_is() -> None:
    head = ServerExchange(FAKES, client="127.0.0.1:50123").receive_head("GET", "/widgets/a", ())
    assert isinstance(head, Head)
    assert head.client == "127.0.0.1:50123"


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/v1/later", True),
        ("/v1/later/a/b", True),
        ("/v1/later2", False),
        ("/v1", False),
        ("/v1/", False),
    ],
)
def test_what_is_not_offered_yet_says_so(path: str, missing: bool) -> None:
    operations = FAKES + Operations([], not_yet=["/v1/later", "/v1/copies"])
    exchange = ServerExchange(operations)
    failure = exchange.receive_head("GET", path, ())
    expected = (
        Failure(status=404, message=f"GET {path}: not offered here yet", code="not_offered_yet")
        if missing
        else Failure(status=404, message=f"no such route: GET {path}", code="unknown_url")
    )
    assert failure == expected
    # A row is offered, whatever else is said of its path.
    assert isinstance(ServerExchange(operations).receive_head("POST", "/v1/copies", ()), Head)


def test_a_body_that_means_nothing_is_a_failure_that_names_the_field() -> None:
    exchange = headed("POST", CHAT)
    exchange.receive_body(BODY.replace(b'"user"', b'"wizard"'))
    failure = exchange.receive_end()
    roles = '"system", "developer", "user", "assistant", "tool" or "function"'
    assert failure == Failure(
        status=400,
        message=f'messages[0].role: expected {roles}, got "wizard"',
        param="messages[0].role",
    )


def test_a_body_that_nobody_asked_for_is_kept_for_who_relays() -> None:
    exchange = headed("GET", "/widgets/a")
    exchange.receive_body(b"not JSON")
    request = exchange.receive_end()
    assert isinstance(request, Request)
    assert (request.value, request.raw) == (None, b"not JSON")


@pytest.mark.parametrize(
    ("target", "query"),
    [
        ("/widgets/a", WidgetWords(name="a")),
        ("/widgets/a?colour=red&count=5", WidgetWords(name="a", colour="red", count=5)),
        ("/widgets/a?Colour=red&COUNT=5.0&other=1", WidgetWords(name="a", colour="red", count=5)),
        ("/widgets/a?colour=&count", WidgetWords(name="a")),
        ("/widgets/a?count=1&count=2", WidgetWords(name="a", count=2)),
        ("/widgets/a%3F?count=1", WidgetWords(name="a?", count=1)),
        # A path's parameter is not the query's to change.
        ("/widgets/a?name=b", WidgetWords(name="a")),
        ("/widgets/a%20b?colour=r%65d", WidgetWords(name="a b", colour="red")),
        ("http://localhost:5272/widgets/a?count=1", WidgetWords(name="a", count=1)),
        ("HTTPS://[::1]/widgets/a", WidgetWords(name="a")),
        ("/widgets/a?" + "&" * (MAX_QUERY_WORDS - 1), WidgetWords(name="a")),
    ],
)
def test_the_words_of_path_and_query_are_one_instance(target: str, query: WidgetWords) -> None:
    head = answer_to("GET", target)
    assert isinstance(head, Head)
    assert (head.operation, head.query) == (FIND, query)


@pytest.mark.parametrize(
    ("target", "message", "param"),
    [
        ("/widgets/a?colour=blue", 'colour: expected "red" or "green", got "blue"', "colour"),
        ("/widgets/a?count=1?", 'count: expected an integer, got "1?"', "count"),
        ("/widgets/a?count=many", 'count: expected an integer, got "many"', "count"),
        ("/widgets/a?colour=%ff", 'colour: expected "red" or "green", got "\ufffd"', "colour"),
        ("/widgets/a?colour=%00", 'colour: expected "red" or "green", got "\\u0000"', "colour"),
        ("/widgets/a?" + "&" * MAX_QUERY_WORDS, "query: expected at most 100 parameters, got more", "query"),
    ],
)
def test_a_wrong_word_is_a_failure_that_names_it(target: str, message: str, param: str) -> None:
    assert answer_to("GET", target) == Failure(status=400, message=message, param=param)


def test_words_that_nobody_reads_are_ignored() -> None:
    assert isinstance(answer_to("POST", f"{CHAT}?" + "x=%ff&" * 500), Head)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/nope", "/nope"),
        ("/", "/"),
        ("http://localhost", "/"),
        ("http://localhost?x=/widgets/a", "/"),
        ("ftp://localhost/widgets/a", "ftp://localhost/widgets/a"),
        ("localhost:80", "localhost:80"),
        ("*", "*"),
        ("/widgets/%ff", "/widgets/%ff"),
        ("/" + "x" * 300, "/" + "x" * 199),
    ],
)
def test_a_path_without_a_row_is_404(target: str, path: str) -> None:
    assert answer_to("GET", target) == Failure(
        status=404, message=f"no such route: GET {path}", code="unknown_url"
    )


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", CHAT, "POST, OPTIONS"),
        ("HEAD", CHAT, "POST, OPTIONS"),
        ("post", CHAT, "POST, OPTIONS"),
        ("CONNECT", CHAT, "POST, OPTIONS"),
        ("DELETE", "/widgets/a", "GET, PUT, POST, HEAD, OPTIONS"),
        ("HEAD", "/widgets/drop", "GET, POST, OPTIONS"),
    ],
)
def test_a_method_without_a_row_is_405_with_allow(method: str, target: str, allow: str) -> None:
    expected = allow.replace(", ", " or ")
    assert answer_to(method, target) == Failure(
        status=405,
        message=f"method: expected {expected} for {target}, got {method}",
        code="method_not_allowed",
        headers=((b"allow", allow.encode()),),
    )


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (CHAT, ((b"allow", b"POST, OPTIONS"),)),
        ("/widgets/a", ((b"allow", b"GET, PUT, POST, HEAD, OPTIONS"),)),
        ("*", ()),
    ],
)
def test_options_says_what_is_allowed(target: str, headers: Headers) -> None:
    exchange = ServerExchange(FAKES)
    answer = exchange.receive_head("OPTIONS", target, ())
    assert answer == Response(value=None, status=204, headers=headers)
    assert isinstance(answer, Response)
    assert exchange.send(answer) == [Start(status=204, headers=headers), End()]


@pytest.mark.parametrize(
    "media",
    [
        None,
        b"application/json",
        b"Application/JSON; Charset=UTF-8",
        b'application/json;charset="utf-8"',
        b"application/json; charset=utf8; q=1",
        b"application/json; profile=x",
        b"application/problem+json",
        b"application/json;",
    ],
)
def test_a_body_of_json_is_accepted(media: bytes | None) -> None:
    headers = () if media is None else ((b"content-type", media),)
    assert isinstance(answer_to("POST", CHAT, headers), Head)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (((b"content-type", b"text/plain"),), "content-type: expected application/json, got text/plain"),
        (
            ((b"content-type", b"multipart/form-data; boundary=x"),),
            "content-type: expected application/json, got multipart/form-data; boundary=x",
        ),
        (((b"content-type", b"text/x+json"),), "content-type: expected application/json, got text/x+json"),
        (
            ((b"content-type", b"\xff" * 100),),
            "content-type: expected application/json, got " + "\ufffd" * 80,
        ),
        (
            ((b"content-type", b"application/json; charset=utf-16"),),
            "content-type: expected charset=utf-8, got application/json; charset=utf-16",
        ),
        (
            ((b"content-type", b"application/json; a=b; charset=latin1"),),
            "content-type: expected charset=utf-8, got application/json; a=b; charset=latin1",
        ),
        # Of several headers the last counts.
        (
            (*JSON, (b"content-type", b"text/html")),
            "content-type: expected application/json, got text/html",
        ),
        (((b"content-encoding", b"gzip"),), "content-encoding: expected identity, got gzip"),
    ],
)
def test_a_body_of_another_kind_is_415(headers: Headers, message: str) -> None:
    assert answer_to("POST", CHAT, headers) == Failure(
        status=415, message=message, code="unsupported_media_type"
    )


def test_a_body_that_is_not_encoded_may_say_so() -> None:
    assert isinstance(answer_to("POST", CHAT, ((b"content-encoding", b"Identity"),)), Head)


def test_what_kind_a_body_is_does_not_matter_where_none_is_wanted() -> None:
    assert isinstance(answer_to("GET", "/widgets/a", ((b"content-type", b"text/plain"),)), Head)


TOO_LARGE = Failure(
    status=413, message="body: expected at most 100 bytes, got more", code="request_too_large"
)


@pytest.mark.parametrize("length", [b"101", b"9" * 20, b"9" * 5000])
def test_a_body_that_says_it_is_too_large_is_413_before_it_comes(length: bytes) -> None:
    assert answer_to("PUT", "/widgets/a", ((b"content-length", length),)) == TOO_LARGE


@pytest.mark.parametrize("length", [b"0", b"100", b"0100"])
def test_a_body_up_to_the_limit_is_wanted(length: bytes) -> None:
    assert isinstance(answer_to("PUT", "/widgets/a", ((b"content-length", length),)), Head)


@pytest.mark.parametrize("length", [b"many", b"-1", b"+1", b"1_0", b" 1", b"1,1", b"0x1", b"\xb2"])
def test_a_length_that_is_none_is_400(length: bytes) -> None:
    shown = length.decode("ascii", "replace")
    assert answer_to("PUT", "/widgets/a", ((b"content-length", length),)) == Failure(
        status=400, message=f"content-length: expected a number of bytes, got {shown}"
    )


@pytest.mark.parametrize("pieces", [[101], [100, 1], [1] * 101])
def test_a_body_that_becomes_too_large_is_413_and_forgotten(pieces: list[int]) -> None:
    exchange = headed("PUT", "/widgets/a")
    *before, last = pieces
    for size in before:
        assert exchange.receive_body(b"x" * size) is None
    assert exchange.receive_body(b"x" * last) == TOO_LARGE
    assert not exchange._body


@pytest.mark.parametrize("call", ["receive_body", "receive_end"])
@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/nope"), ("GET", CHAT), ("OPTIONS", CHAT), ("GET", "/widgets/a?count=x")]
)
def test_a_body_without_a_head_is_misuse(call: str, method: str, target: str) -> None:
    exchange = headed(method, target)
    with pytest.raises(LocalProtocolError) as caught:
        exchange.receive_body(b"") if call == "receive_body" else exchange.receive_end()
    assert str(caught.value) == f"{call}: no head was accepted"


@settings(deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "CONNECT", "x"]),
    st.text(st.sampled_from("/widgetsv1chaopl%2fF?&=.:*\0é")) | st.sampled_from([CHAT, "/widgets/a", "*"]),
    st.lists(
        st.tuples(
            st.sampled_from([b"content-type", b"content-length", b"content-encoding", b"x"]),
            st.binary(max_size=12) | st.sampled_from([b"application/json", b"5"]),
        ),
        max_size=4,
    ),
    st.binary(max_size=30) | st.just(BODY),
)
def test_any_request_is_answered_or_means_something(
    method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    exchange = ServerExchange(FAKES)
    event: Any = exchange.receive_head(method, target, tuple(headers))
    if isinstance(event, Head):
        event = exchange.receive_body(body) or exchange.receive_end()
    if isinstance(event, Request):
        assert event.head.operation in tuple(FAKES)
        return
    pieces = exchange.send(event)
    assert isinstance(pieces[0], Start)
    assert isinstance(pieces[-1], End)
    assert exchange.answered


def test_of_several_headers_the_last_counts() -> None:
    headers = ((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))
    assert header(headers, b"a") == b"3"
    assert header(headers, b"b") == b"2"
    assert header(headers, b"c") is None
