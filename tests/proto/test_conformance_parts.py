"""Laws of what the conformance cases are made of: replies read strictly, expectations that say what came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from foundry_proto.conformance import (
    CASES,
    Happened,
    Receive,
    Script,
    Target,
    Unmet,
    Untestable,
    drive,
    judge,
)
from foundry_proto.conformance.asking import events_of, progress_of, stream
from foundry_proto.conformance.expecting import (
    equal,
    find,
    is_a,
    media_type,
    message,
    one_of,
    status,
    structured,
    text,
)
from foundry_proto.conformance.link import Link, Piece, Reply, connect
from foundry_proto.messages.models import LoadState
from tests.support.mutations import bodies
from tests.support.small_server import SmallServer, run

OK = b"HTTP/1.1 200 OK\r\n"


def read(script: Callable[[Link], Script[Any]], *pieces: bytes, end: str = "silence") -> Any:
    """Let a link read these pieces, and then an end."""
    waiting: Iterator[bytes] = iter(pieces)

    def perform(step: Any) -> Happened:
        assert isinstance(step, Receive)
        data = next(waiting, b"")
        return Happened(at=1.0, outcome="data" if data else end, data=data)  # type: ignore[arg-type]

    return drive(script(Link(1, 5.0)), perform)


def reply(*pieces: bytes, method: str = "GET", end: str = "silence") -> Reply:
    got: Reply = read(lambda link: link.reply(method), *pieces, end=end)
    return got


@pytest.mark.parametrize(
    ("raw", "framing", "body"),
    [
        (OK + b"Content-Length: 2\r\n\r\nhi", "length", b"hi"),
        (OK + b"content-length: 0\r\n\r\n", "length", b""),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;a=b\r\n!\r\n0\r\nX: y\r\n\r\n",
            "chunked",
            b"hi!",
        ),
        (OK + b"\r\nto the end", "close", b"to the end"),
        (b"HTTP/1.0 200\r\n\r\n", "close", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "none", b""),
    ],
)
def test_any_cut_of_a_reply_reads_the_same(raw: bytes, framing: str, body: bytes) -> None:
    whole = reply(raw, end="end")
    bytewise = reply(*(raw[place : place + 1] for place in range(len(raw))), end="end")
    for one in (whole, bytewise):
        assert (one.framing, one.body) == (framing, body)
    assert whole.headers == bytewise.headers


def test_interim_replies_are_noted_and_a_reply_to_head_has_no_body() -> None:
    got = reply(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\n", method="HEAD")
    assert (got.interim, got.status, got.body) == ((100,), 200, b"")
    assert (got.header("content-length"), got.header("x")) == ("5", None)


@pytest.mark.parametrize(
    ("raw", "end", "aspect", "words"),
    [
        (b"", "end", "connection", "expected a status line, got the end of the connection"),
        (b"HTTP/1.1 200", "lost", "connection", "expected a status line, got a reset of the connection"),
        (b"", "silence", "connection", "expected a status line, got nothing for 5 s"),
        (b"HTTP/2 200 OK\r\n", "end", "framing", "expected a status line, got b'HTTP/2 200 OK'"),
        (OK + b"odd line\r\n\r\n", "end", "framing", "expected a header line, got b'odd line'"),
        (
            OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "end",
            "framing",
            "expected Transfer-Encoding or Content-Length, got both",
        ),
        (
            OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "end",
            "framing",
            "content-length: expected one number, got [b'1', b'2']",
        ),
        (
            OK + b"Content-Length: x\r\n\r\n",
            "end",
            "framing",
            "content-length: expected one number, got [b'x']",
        ),
        (
            OK + b"Transfer-Encoding: gzip\r\n\r\n",
            "end",
            "framing",
            "transfer-encoding: expected chunked, got b'gzip'",
        ),
        (
            b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
            "end",
            "framing",
            "expected no Transfer-Encoding with status 204, got b'chunked'",
        ),
        (
            OK + b"Content-Length: 5\r\n\r\nhi",
            "end",
            "framing",
            "expected the rest of a body, got the end of the connection",
        ),
        (OK + b"\r\nhi", "silence", "framing", "expected the rest of a body, got nothing for 5 s"),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            "end",
            "framing",
            "expected a chunk's size, got b'zz'",
        ),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhiXX",
            "end",
            "framing",
            "expected CRLF behind a chunk, got something else",
        ),
    ],
)
def test_what_is_no_reply_is_said_to_be_none(raw: bytes, end: str, aspect: str, words: str) -> None:
    with pytest.raises(Unmet) as unmet:
        reply(raw, end=end)
    assert (unmet.value.aspect, str(unmet.value)) == (aspect, words)


def test_a_reply_without_bounds_is_not_kept_without_bounds() -> None:
    with pytest.raises(Unmet, match="expected a status line, got 16777216 bytes without it"):
        reply(*[b"x" * 2**20] * 20)


def test_a_server_may_close_without_a_reply() -> None:
    assert read(lambda link: link.reply_or_end(), end="end") is None
    with pytest.raises(Unmet) as unmet:
        read(lambda link: link.reply_or_end())
    assert unmet.value.aspect == "time"
    assert read(lambda link: link.closes(1.0), end="end") is True
    assert read(lambda link: link.closes(1.0), b"more", end="end") is False
    assert read(lambda link: link.closes(1.0)) is False


def test_nothing_more_is_waited_for_behind_an_end() -> None:
    def twice(link: Link) -> Script[tuple[bool, bool]]:
        return (yield from link.closes(1.0)), (yield from link.closes(1.0))

    assert read(twice, end="end") == (True, True)


def test_a_link_says_whether_the_server_takes_what_is_sent() -> None:
    def perform(_: Any) -> Happened:
        return Happened(at=0.0, outcome="lost")

    assert drive(Link(1, 5.0).send(b"x"), perform) is False
    with pytest.raises(Unmet, match="expected a connection to the server, got none"):
        drive(connect(5.0), perform)


# Expectations.


def made(body: bytes, *, status: int = 200, media: bytes = b"application/json") -> Reply:
    pieces = (Piece(data=body, at=0.0),)
    return Reply(
        status=status, version="1.1", headers=((b"content-type", media),), framing="length", pieces=pieces
    )


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        (lambda: status(made(b"no", status=404), 200, 204), "expected 200 or 204, got 404 with 'no'"),
        (lambda: status(made(b"", status=404), 200), "expected 200, got 404"),
        (
            lambda: media_type(made(b"", media=b"text/html"), "text/plain"),
            "content-type: expected text/plain, got text/html",
        ),
        (lambda: find({"a": [1]}, "a[1].b"), "a[1].b: expected a value, and nothing is at a[1]"),
        (lambda: equal({"a": {"b": 1}}, "a.b", 1.0), "a.b: expected 1.0, got 1"),
        (lambda: one_of({"a": "x"}, "a", ("y", "z")), 'a: expected "y" or "z", got "x"'),
        (lambda: is_a({"a": True}, "a", int, str), "a: expected an integer or a string, got true"),
        (lambda: is_a({}, "", list), "body: expected an array, got an object"),
        (lambda: text({"a": ""}, "a"), 'a: expected a string that is not empty, got ""'),
        (lambda: message(made(b""), object), "body: expected a JSON value, got nothing"),
        (
            lambda: structured({"status": "x"}, LoadState),
            'status: expected "loaded" or "already_loaded", got "x"',
        ),
    ],
)
def test_an_expectation_says_what_came_instead(expect: Callable[[], object], words: str) -> None:
    with pytest.raises(Unmet) as unmet:
        expect()
    assert str(unmet.value) == words


def test_a_context_that_is_too_small_is_no_failure() -> None:
    refused = made(b'{"error":{"code":"context_length_exceeded"}}', status=400)
    with pytest.raises(Untestable, match="the model's context is too small for it"):
        status(refused, 200)
    status(refused, 400)


def test_what_is_not_there_may_have_a_substitute() -> None:
    assert find({"a": 1}, "b.c", None) is None


def test_a_stream_whose_events_are_none_is_said_to_be_none() -> None:
    for data, words in (
        (b"data: {x\n\n", "expected JSON in each event, got '{x'"),
        (b"data: [1]\n\n", "expected an object in each event, got '[1]'"),
    ):
        with pytest.raises(Unmet) as unmet:
            events_of(made(data))
        assert str(unmet.value).startswith(words)
    assert events_of(made(b"data: [DONE]\n\ndata: more\n\n")).done
    with pytest.raises(Unmet, match="stream: expected a whole result"):
        progress_of(made(b"("))
    with pytest.raises(Unmet, match="expected 200, got 404"):
        run(stream(Target(host="test", model="no-such-model")))


# Single cases, where servers of the other tests give them nothing to judge.


def verdict(name: str, server: SmallServer | None = None, **changes: Any) -> tuple[str, str]:
    (case,) = [case for case in CASES if case.id == name]
    target = Target(
        host="test",
        model="tiny-chat",
        model_trouble="",
        listed="tiny-chat-generic-cpu:2",
        allow=frozenset({"download", "unload", "shutdown"}),
        loader="/openai/load/",
        **changes,
    )
    judged = run(judge(case, target, case.profiles), server)
    return judged.outcome, judged.message


def changed(name: str, old: bytes, new: bytes) -> SmallServer:
    """A server one of whose operations answers with other bytes."""
    return bodies(lambda body: body.replace(old, new), name)()


@pytest.mark.parametrize(
    ("name", "server", "changes", "outcome", "message"),
    [
        ("http.header.key", None, {"key": "x"}, "untested", "the server asks for a key"),
        ("http.path.slash", None, {"get": "/status"}, "untested", "/status has one segment"),
        (
            "tools.required",
            changed("chat_completions", rb"{\"unit\":\"celsius\"}", rb"{\"unit\":\"celsius\" "),
            {},
            "failed",
            "arguments: expected JSON",
        ),
        (
            "download.result.flat",
            changed("download_model", b'"ErrorMessage":null}\n', b'"ErrorMessage":null} {'),
            {},
            "failed",
            "expected JSON from the last brace on",
        ),
        (
            "download.result.client",
            changed("download_model", b'"ErrorMessage":null}\n', b'"ErrorMessage":null \n'),
            {},
            "failed",
            "expected JSON at the end",
        ),
    ],
)
def test_a_case_says_why(
    name: str, server: SmallServer | None, changes: dict[str, Any], outcome: str, message: str
) -> None:
    got = verdict(name, server, **changes)
    assert got[0] == outcome
    assert got[1].startswith(message)


def test_a_download_that_is_refused_within_its_answer_is_refused() -> None:
    line = b'{"success":false,"errorMessage":"no","error":"no","Success":false,"ErrorMessage":"no"}\n'
    ok = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(line)

    def in_stream(_: str, operation: str, data: bytes) -> bytes:
        return ok + line if operation == "download_model" else data

    for name in ("unknown", "upwards", "publisher"):
        assert verdict(f"download.refuses.{name}", SmallServer(rewrite=in_stream)) == ("passed", "")


def test_a_model_of_few_words_leaves_stop_texts_untested() -> None:
    def brief(_: str, operation: str, data: bytes) -> bytes:
        if operation != "chat_completions":
            return data
        body = b'{"choices":[{"message":{"content":"Red"}}]}'
        return (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )

    assert verdict("chat.stop", SmallServer(rewrite=brief)) == (
        "untested",
        "the model's answer has one word: 'Red'",
    )


def test_a_server_that_goes_on_after_a_shutdown_fails() -> None:
    assert verdict("core.shutdown.end") == ("failed", "expected the end of the server within 30 s")


def test_what_is_no_json_in_a_websocket_is_said_to_be_none() -> None:
    server = SmallServer(
        rewrite=lambda _, name, data: data.replace(b'{"type"', b'["type"') if name == "watch" else data
    )
    outcome, message = verdict("websocket.watch", server)
    assert (outcome, message[:32]) == ("failed", "expected JSON in each text, got ")


def test_untestable_is_no_failure_of_the_server() -> None:
    assert not issubclass(Untestable, Unmet)
