"""HTTP as it is framed: where requests end, and that a server and a proxy before it agree on it.

Knows: RFC 9112. Refuses to know: any route; `Target.get` and a chat of one token stand for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from foundry_proto.conformance.asking import CHAT, ask_on, chat_body, open_link, request
from foundry_proto.conformance.case import ALL_PROFILES, Section
from foundry_proto.conformance.expecting import refused, require, status
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target
from foundry_proto.jsontext import dump_json

__all__ = ["CASES"]

_http = Section("http", group="http", profiles=ALL_PROFILES, source="RFC 9112")

_CLOSES: Final = 3.0
"""Seconds within which a server that says that it closes does so."""


def _get(target: Target, *more: tuple[str, str], version: str = "1.1") -> bytes:
    return request(target, "GET", target.get, None, *more, version=version)


def _body(target: Target) -> bytes:
    return dump_json(chat_body(target, max_tokens=1))


def _post(target: Target, body: bytes, *more: tuple[str, str]) -> bytes:
    return request(target, "POST", CHAT, body, *more)


def _chunked(target: Target, body: bytes, *more: tuple[str, str]) -> bytes:
    return _post(target, body, ("Transfer-Encoding", "chunked"), *more)


@_http.case(
    "keep-alive",
    "A connection serves one request after the other.",
    level="SHOULD",
    source="RFC 9112, section 9.3",
)
def _keep_alive(target: Target) -> Script[None]:
    link = yield from open_link(target)
    for _ in range(3):
        status((yield from ask_on(link, target, "GET", target.get)), 200)


@_http.case(
    "keep-alive.after-error",
    "A connection outlives a request that was refused for its content.",
    level="SHOULD",
    source="RFC 9112, section 9.3",
)
def _keep_alive_after_error(target: Target) -> Script[None]:
    link = yield from open_link(target)
    reply = yield from ask_on(link, target, "POST", CHAT, {})
    require(400 <= reply.status < 500, "status", f"expected a refusal, got {reply.status}")
    status((yield from ask_on(link, target, "GET", target.get)), 200)


@_http.case(
    "pipelining",
    "Requests sent without waiting are answered in their order.",
    source="RFC 9112, section 9.3.2",
)
def _pipelining(target: Target) -> Script[None]:
    link = yield from open_link(target)
    missing = request(target, "GET", "/no/such/path")
    yield from link.send(_get(target) + missing + _get(target))
    statuses: list[int] = []
    while len(statuses) < 3:
        reply = yield from link.reply()
        statuses.append(reply.status)
    require(statuses == [200, 404, 200], "status", f"expected 200, 404 and 200, got {statuses}")


@_http.case(
    "pipelining.body",
    "A request behind another one's body is answered, too.",
    source="RFC 9112, section 9.3.2",
    needs=("model",),
)
def _pipelining_body(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(_post(target, _body(target)) + _get(target))
    status((yield from link.reply("POST")), 200)
    status((yield from link.reply()), 200)


@_http.case("pieces.bytes", "A request's head may come byte by byte.", source="RFC 9112, section 2.2")
def _byte_by_byte(target: Target) -> Script[None]:
    link = yield from open_link(target)
    for byte in _get(target):
        yield from link.send(bytes([byte]))
    status((yield from link.reply()), 200)


@_http.case(
    "pieces.body",
    "A body may come after its head, in pieces.",
    source="RFC 9112, section 6.2",
    needs=("model",),
)
def _body_in_pieces(target: Target) -> Script[None]:
    link = yield from open_link(target)
    body = _body(target)
    whole = _post(target, body)
    head = whole[: -len(body)]
    for piece in (head, body[:1], body[1:20], body[20:]):
        yield from link.send(piece)
    status((yield from link.reply("POST")), 200)


_CHUNKS: Final[tuple[tuple[str, str, Callable[[bytes], bytes]], ...]] = (
    ("", "A chunked body is read.", lambda body: b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
    (
        ".pieces",
        "A body may have many chunks.",
        lambda body: b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n",
    ),
    (
        ".extensions",
        "Extensions of chunks that mean nothing to the server are ignored.",
        lambda body: b'%X;a=b;c="d e"\r\n%b\r\n0;last\r\n\r\n' % (len(body), body),
    ),
    (
        ".trailers",
        "Fields behind a chunked body belong to it, and do not disturb.",
        lambda body: b"%x\r\n%b\r\n0\r\nX-Checksum: 1\r\nX-More: 2\r\n\r\n" % (len(body), body),
    ),
    (
        ".zeros",
        "A chunk's size may have leading zeros.",
        lambda body: b"000%x\r\n%b\r\n000\r\n\r\n" % (len(body), body),
    ),
)


def _add_chunks(name: str, requirement: str, framed: Callable[[bytes], bytes]) -> None:
    def script(target: Target) -> Script[None]:
        link = yield from open_link(target)
        yield from link.send(_chunked(target, framed(_body(target))))
        status((yield from link.reply("POST")), 200)
        # What was read too much or too little shows in the next request.
        status((yield from ask_on(link, target, "GET", target.get)), 200)

    _http.add(f"chunked{name}", requirement, script, source="RFC 9112, section 7.1", needs=("model",))


for _row in _CHUNKS:
    _add_chunks(*_row)


@_http.case(
    "version.1-0",
    "An HTTP/1.0 request is answered without chunks, and the connection ends.",
    source="RFC 9112, section 6.1",
)
def _http_1_0(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(_get(target, version="1.0"))
    reply = yield from link.reply()
    status(reply, 200)
    require(reply.framing != "chunked", "framing", "expected no chunks for HTTP/1.0, got some")
    closed = yield from link.closes(_CLOSES)
    require(closed, "connection", f"expected the end of the connection in {_CLOSES:g} s")


@_http.case(
    "version.1-0.stream",
    "A stream for HTTP/1.0 has no chunks, and ends with the connection.",
    source="RFC 9112, section 6.1",
    needs=("model",),
)
def _http_1_0_stream(target: Target) -> Script[None]:
    link = yield from open_link(target)
    body = chat_body(target, max_tokens=1, stream=True)
    yield from link.send(request(target, "POST", CHAT, body, version="1.0"))
    reply = yield from link.reply("POST")
    status(reply, 200)
    require(reply.framing == "close", "framing", f"expected the connection's end, got {reply.framing}")
    require(reply.body.endswith(b"data: [DONE]\n\n"), "stream", "expected data: [DONE] at the end")


@_http.case(
    "close",
    "A server closes the connection behind the answer to a request that asks for it.",
    source="RFC 9112, section 9.6",
)
def _close(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(_get(target, ("Connection", "close")))
    status((yield from link.reply()), 200)
    closed = yield from link.closes(_CLOSES)
    require(closed, "connection", f"expected the end of the connection in {_CLOSES:g} s")


@_http.case(
    "close.told",
    "The answer to a request that asks for the close says that it is the last.",
    level="SHOULD",
    source="RFC 9112, section 9.6",
)
def _close_told(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(_get(target, ("Connection", "close")))
    reply = yield from link.reply()
    told = (reply.header("connection") or "").lower()
    require(told == "close", "headers", f"connection: expected close, got {told or 'none'}")


@_http.case(
    "empty-line", "An empty line before a request is ignored.", level="SHOULD", source="RFC 9112, section 2.2"
)
def _empty_line(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(b"\r\n" + _get(target))
    status((yield from link.reply()), 200)


@_http.case(
    "expect.continue",
    "A client that expects 100 Continue is told to go on, or is answered.",
    source="RFC 9110, section 10.1.1",
    needs=("model",),
)
def _expect_continue(target: Target) -> Script[None]:
    link = yield from open_link(target)
    body = _body(target)
    whole = _post(target, body, ("Expect", "100-continue"))
    yield from link.send(whole[: -len(body)])
    told = yield from link.wait_for_continue()
    require(told, "status", "expected 100 Continue before the body, got something else")
    yield from link.send(body)
    status((yield from link.reply("POST")), 200)


@_http.case(
    "expect.at-once",
    "A body that does not wait for 100 Continue is read all the same.",
    source="RFC 9110, section 10.1.1",
    needs=("model",),
)
def _expect_at_once(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(_post(target, _body(target), ("Expect", "100-continue")))
    status((yield from link.reply("POST")), 200)


@_http.case(
    "expect.refused",
    "A request that is refused for its path is answered without 100 Continue.",
    level="SHOULD",
    source="RFC 9110, section 10.1.1",
)
def _expect_refused(target: Target) -> Script[None]:
    link = yield from open_link(target)
    raw = request(target, "POST", "/no/such/path", b"{}" * 10, ("Expect", "100-continue"))
    yield from link.send(raw[:-20])
    reply = yield from link.reply("POST")
    require(not reply.interim, "status", f"expected a refusal alone, got {reply.interim} before it")
    require(reply.status == 404, "status", f"expected 404, got {reply.status}")


@_http.case(
    "body.unwanted",
    "A body that a route does not want is not taken for the next request.",
    source="RFC 9112, section 9.3",
)
def _unwanted_body(target: Target) -> Script[None]:
    link = yield from open_link(target)
    smuggled = request(target, "GET", "/no/such/path")
    yield from link.send(request(target, "GET", target.get, smuggled) + _get(target))
    status((yield from link.reply()), 200)
    second = yield from link.reply_or_end()
    refused(second, 200)


@_http.case(
    "body.refused",
    "The body of a refused request is not taken for the next request.",
    source="RFC 9112, section 9.3",
)
def _refused_body(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(request(target, "POST", "/no/such/path", _get(target)))
    reply = yield from link.reply("POST")
    require(reply.status >= 400, "status", f"expected a refusal, got {reply.status}")
    yield from link.send(request(target, "GET", "/no/such/other"))
    refused((yield from link.reply_or_end()), 404)


@_http.case("idle", "Connections that say nothing, or only half of a request, keep nobody else waiting.")
def _idle(target: Target) -> Script[None]:
    silent = yield from open_link(target)
    halfway = yield from open_link(target)
    yield from halfway.send(_get(target)[:-2])
    link = yield from open_link(target)
    status((yield from ask_on(link, target, "GET", target.get)), 200)
    yield from silent.close()
    yield from halfway.close()


CASES = tuple(_http.cases)
