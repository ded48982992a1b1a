"""A server's side of an exchange: the order of answers, how each looks, and which cannot be sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Failure, Headers, Response, StreamEnd, StreamItem
from foundry_proto.exchange import Answer, Data, End, Piece, ServerExchange, Start
from foundry_proto.operations import DOCUMENTED
from tests.support.connections import headed
from tests.support.fakes import Widget

CHAT = "/v1/chat/completions"

EVENTS: dict[str, Callable[[], Answer]] = {
    "Response": lambda: Response(value=Widget(name="a")),
    "Failure": lambda: Failure(status=500, message="no"),
    "StreamItem": lambda: StreamItem(value=Widget(name="a")),
    "StreamEnd": StreamEnd,
}
ENDS = ("Response", "Failure", "StreamEnd")


@pytest.mark.parametrize("first", EVENTS)
@pytest.mark.parametrize("second", EVENTS)
def test_after_each_answer_only_what_continues_it_may_be_sent(first: str, second: str) -> None:
    exchange = headed("POST", "/v1/copies")
    begun = exchange.send(EVENTS[first]())
    assert isinstance(begun[0], Start)
    assert isinstance(begun[-1], End) is (first in ENDS)
    assert exchange.answered is (first in ENDS)
    if first == "StreamItem" and second != "Response":
        more = exchange.send(EVENTS[second]())
        assert not any(isinstance(piece, Start) for piece in more)
        assert isinstance(more[-1], End) is (second in ENDS)
        assert exchange.answered is (second in ENDS)
        return
    after = "a part of a stream" if first == "StreamItem" else "a whole answer"
    with pytest.raises(LocalProtocolError) as caught:
        exchange.send(EVENTS[second]())
    assert str(caught.value) == f"cannot send {second} after {after}"
    assert exchange.answered is (first in ENDS)


def test_a_response_may_be_given_as_json_text() -> None:
    given_as_text = headed("GET", "/widgets/a").send(Response(value=b'{"name":"a"}'))
    assert given_as_text == headed("GET", "/widgets/a").send(Response(value=Widget(name="a")))


def test_a_response_is_its_value_as_json() -> None:
    pieces = headed("GET", "/widgets/a").send(
        Response(value=Widget(name="é"), status=201, headers=((b"etag", b'"1"'),))
    )
    assert pieces == [
        Start(
            status=201,
            headers=(
                (b"content-type", b"application/json"),
                (b"content-length", b"13"),
                (b"etag", b'"1"'),
            ),
        ),
        Data(data='{"name":"é"}'.encode()),
        End(),
    ]


@pytest.mark.parametrize(("status", "length"), [(200, ((b"content-length", b"0"),)), (204, ()), (304, ())])
def test_a_response_without_a_value_has_no_body(status: int, length: Headers) -> None:
    headers = ((b"x-note", b"a b"),)
    pieces = headed("POST", "/widgets/drop").send(Response(value=None, status=status, headers=headers))
    assert pieces == [Start(status=status, headers=headers + length), End()]


def test_a_stream_is_a_head_and_pieces_whose_last_may_need_a_pause() -> None:
    exchange = headed("POST", "/v1/copies")
    headers = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-cache"))
    assert exchange.send(StreamItem(value=Widget(name="a"))) == [
        Start(status=200, headers=headers),
        Data(data=b'{"name":"a"}\n'),
    ]
    assert exchange.send(StreamItem(value=b"{}")) == [Data(data=b"{}\n")]
    assert exchange.send(StreamEnd()) == [Data(data=b"end\n", after=0.15), End()]


def test_the_first_item_of_a_stream_may_bring_headers_and_no_other() -> None:
    exchange = headed("POST", CHAT)
    start, _ = exchange.send(StreamItem(value=b"{}", headers=((b"x-note", b"a"),)))
    assert isinstance(start, Start)
    assert start.headers[-1] == (b"x-note", b"a")
    with pytest.raises(LocalProtocolError, match=r"^cannot send headers with an item that is not the first$"):
        exchange.send(StreamItem(value=b"{}", headers=((b"x-note", b"a"),)))
    assert exchange.send(StreamItem(value=b"{}")) == [Data(data=b"data: {}\n\n")]
    with pytest.raises(LocalProtocolError, match="x-note"):
        headed("POST", CHAT).send(StreamItem(value=b"{}", headers=((b"x-note", b"a\nb"),)))


def test_a_stream_may_be_empty() -> None:
    headers = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"))
    assert headed("POST", CHAT).send(StreamEnd()) == [
        Start(status=200, headers=headers),
        Data(data=b"data: [DONE]\n\n"),
        End(),
    ]


def test_a_failure_within_a_stream_ends_it_in_its_format() -> None:
    exchange = headed("POST", "/v1/copies")
    exchange.send(StreamItem(value=Widget(name="a")))
    assert exchange.send(Failure(status=500, message="no")) == [Data(data=b"failed no\n", after=0.15), End()]


@pytest.mark.parametrize("event", [StreamItem(value=Widget(name="a")), StreamEnd()], ids=["item", "end"])
@pytest.mark.parametrize("target", ["/widgets/a", "/nope"])
def test_a_stream_of_an_operation_without_one_is_misuse(event: Answer, target: str) -> None:
    exchange = headed("GET", target)
    with pytest.raises(LocalProtocolError, match=r"^cannot send a stream: the operation has none$"):
        exchange.send(event)
    # Another answer is still possible.
    assert exchange.send(Failure(status=500, message="no"))


@pytest.mark.parametrize(
    "answer",
    [
        Response(value=Widget(name="a")),
        Response(value=None),
        Failure(status=404, message="no such widget"),
    ],
    ids=["response", "empty", "failure"],
)
def test_head_is_answered_as_get_without_the_body(answer: Answer) -> None:
    get, head = headed("GET", "/widgets/a"), headed("HEAD", "/widgets/a")
    pieces = get.send(answer)
    assert head.send(answer) == [piece for piece in pieces if not isinstance(piece, Data)]


def test_a_streamed_answer_to_head_has_no_pieces() -> None:
    exchange = headed("HEAD", "/v1/changes")
    item = StreamItem(value=Widget(name="a"))
    assert [type(piece) for piece in exchange.send(item)] == [Start]
    assert exchange.send(item) == []
    assert exchange.send(StreamEnd()) == [End()]


SURROGATE = "'utf-8' codec can't encode character '\\ud800' in position 21: surrogates not allowed"


def error(pieces: list[Piece]) -> Any:
    (data,) = (piece.data for piece in pieces if isinstance(piece, Data))
    return json.loads(data)


@pytest.mark.parametrize(
    ("method", "target", "compatible"),
    [
        # The row says which form its clients read; a path without a row is told by its prefix.
        ("POST", CHAT, False),
        ("GET", CHAT, False),
        ("GET", "/widgets/a", True),
        ("DELETE", "/widgets/a", True),
        ("GET", "/widgets/a?count=x", True),
        ("PUT", "/widgets/a", True),
        ("GET", "/widgets/drop", False),
        ("DELETE", "/widgets/drop", False),
        ("GET", "/v1/nope", False),
        ("GET", "/openai/nope", True),
        ("GET", "/", True),
    ],
)
def test_each_route_has_its_family_of_errors(method: str, target: str, compatible: bool) -> None:
    body = error(headed(method, target).send(Failure(status=404, message="no", param="p", code="c")))
    detail = {"message": "no", "type": "invalid_request_error", "param": "p", "code": "c"}
    if compatible:
        assert body == {
            "error": detail,
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "no",
            "success": False,
            "errorMessage": "no",
        }
    else:
        assert body == {"error": detail}


def test_what_was_no_request_at_all_is_answered_in_openais_form() -> None:
    pieces = ServerExchange(DOCUMENTED).send(Failure(status=400, message="no"))
    assert error(pieces) == {
        "error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}
    }


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Response(value=None, status=199), "cannot send the status 199: expected one from 200 to 599"),
        (Response(value=None, status=600), "cannot send the status 600: expected one from 200 to 599"),
        (
            Failure(status=399, message="no"),
            "cannot send the status 399: expected one from 400 to 599",
        ),
        (
            Response(value=Widget(name="a"), status=204),
            "cannot send a value with the status 204",
        ),
        (
            Response(value=None, headers=((b"X-Upper", b"a"),)),
            "cannot send the header b'X-Upper' with the value b'a'",
        ),
        (
            Response(value=None, headers=((b"", b"a"),)),
            "cannot send the header b'' with the value b'a'",
        ),
        (
            Response(value=None, headers=((b"x-note", b"a\r\nset-cookie: b"),)),
            "cannot send the header b'x-note' with the value b'a\\r\\nset-cookie: b'",
        ),
        (
            Response(value=None, headers=((b"x-note", b"a\n"),)),
            "cannot send the header b'x-note' with the value b'a\\n'",
        ),
        (
            Response(value=None, headers=((b"x-note", b" a"),)),
            "cannot send the header b'x-note' with the value b' a'",
        ),
        (
            Response(value=None, headers=((b"x-note", b"a\x7f"),)),
            "cannot send the header b'x-note' with the value b'a\\x7f'",
        ),
        (
            Failure(status=400, message="no", headers=((b"content-length", b"1"),)),
            "cannot send the header b'content-length' with the value b'1'",
        ),
        (
            Response(value=None, headers=((b"transfer-encoding", b"chunked"),)),
            "cannot send the header b'transfer-encoding' with the value b'chunked'",
        ),
        (
            Response(value=float("nan")),
            "encode: expected a value that JSON can carry: Out of range float values are not JSON compliant",
        ),
        (
            Failure(status=400, message="\ud800"),
            f"encode: expected a value that JSON can carry: {SURROGATE}",
        ),
    ],
    ids=lambda case: case[:50] if isinstance(case, str) else "",
)
def test_an_answer_that_cannot_be_sent_leaves_room_for_another(answer: Answer, message: str) -> None:
    exchange = headed("POST", CHAT)
    with pytest.raises(LocalProtocolError) as caught:
        exchange.send(answer)
    # Python 3.12 and later say which number it was.
    assert str(caught.value).removesuffix(": nan") == message
    assert not exchange.answered
    assert error(exchange.send(Failure(status=500, message="no")))["error"]["message"] == "no"


@pytest.mark.parametrize(
    "headers",
    [
        ((b"x-note", b""),),
        ((b"x-note", b"a \t b"),),
        ((b"x-note", b"\xe9"),),
        ((b"!#$%&'*+-.^_`|~09az", b"a"),),
    ],
)
def test_headers_of_the_grammar_are_sent(headers: Headers) -> None:
    start = headed("POST", "/widgets/drop").send(Response(value=None, headers=headers))[0]
    assert isinstance(start, Start)
    assert start.headers == (*headers, (b"content-length", b"0"))
