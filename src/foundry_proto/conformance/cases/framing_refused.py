"""Requests that HTTP/1.1 refuses, so that a server and a proxy before it never disagree on where one ends.

Knows: RFC 9112. Refuses to know: any route; `Target.get` stands for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from foundry_proto.conformance.asking import CHAT, open_link, request
from foundry_proto.conformance.case import ALL_PROFILES, Level, Section
from foundry_proto.conformance.expecting import refused, require
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_http = Section("http", group="http", profiles=ALL_PROFILES, source="RFC 9112")

_CLOSES: Final = 3.0
"""Seconds within which a server closes a connection whose requests' ends are in doubt."""


def _get(target: Target, *more: tuple[str, str], version: str = "1.1") -> bytes:
    return request(target, "GET", target.get, None, *more, version=version)


def _odd(target: Target, body: bytes, *more: tuple[str, str]) -> bytes:
    """A request that would be answered, whatever its body is, if nothing were odd about it."""
    return request(target, "GET", target.get, body, *more)


def _odd_chunks(target: Target, body: bytes) -> bytes:
    return _odd(target, body, ("Transfer-Encoding", "chunked"))


_BAD_HEADS: Final[tuple[tuple[str, Level, str, str, tuple[int, ...], Callable[[Target], bytes]], ...]] = (
    (
        "length.conflict",
        "MUST",
        "Two Content-Length fields that differ are refused, and the connection ends.",
        "RFC 9112, section 6.3",
        (400,),
        lambda t: _odd(t, b"{}", ("Content-Length", "5")),
    ),
    (
        "length.list",
        "MUST",
        "A Content-Length of several numbers that differ is refused, and the connection ends.",
        "RFC 9112, section 6.3",
        (400,),
        lambda t: _odd(t, b"{}").replace(b"Content-Length: 2", b"Content-Length: 2, 3"),
    ),
    (
        "length.word",
        "MUST",
        "A Content-Length that is no number is refused, and the connection ends.",
        "RFC 9112, section 6.3",
        (400,),
        lambda t: _odd(t, b"{}").replace(b"Content-Length: 2", b"Content-Length: two"),
    ),
    (
        "length.negative",
        "MUST",
        "A negative Content-Length is refused, and the connection ends.",
        "RFC 9112, section 6.3",
        (400,),
        lambda t: _odd(t, b"{}").replace(b"Content-Length: 2", b"Content-Length: -2"),
    ),
    (
        "length.plus",
        "MUST",
        "A Content-Length with a sign is refused, and the connection ends.",
        "RFC 9110, section 8.6",
        (400,),
        lambda t: _odd(t, b"{}").replace(b"Content-Length: 2", b"Content-Length: +2"),
    ),
    (
        "coding.unknown",
        "SHOULD",
        "A transfer coding that the server does not know is refused, and the connection ends.",
        "RFC 9112, section 6.1",
        (501, 400),
        lambda t: _odd(t, b"{}", ("Transfer-Encoding", "gzip")),
    ),
    (
        "coding.order",
        "MUST",
        "A request whose last transfer coding is not chunked is refused, and the connection ends.",
        "RFC 9112, section 6.3",
        (400, 501),
        lambda t: _odd(t, b"0\r\n\r\n", ("Transfer-Encoding", "chunked, identity")),
    ),
    (
        "chunked.size",
        "MUST",
        "A chunk whose size is no number is refused, and the connection ends.",
        "RFC 9112, section 7.1",
        (400,),
        lambda t: _odd_chunks(t, b"zz\r\n{}\r\n0\r\n\r\n"),
    ),
    (
        "chunked.end",
        "MUST",
        "A chunk that does not end with CRLF is refused, and the connection ends.",
        "RFC 9112, section 7.1",
        (400,),
        lambda t: _odd_chunks(t, b"2\r\n{}XX0\r\n\r\n"),
    ),
    (
        "head.colon",
        "MUST",
        "White space between a header's name and its colon is refused.",
        "RFC 9112, section 5.1",
        (400,),
        lambda t: _get(t).replace(b"\r\n\r\n", b"\r\nX-Odd : 1\r\n\r\n"),
    ),
    (
        "head.space",
        "MUST",
        "White space before the first header is refused.",
        "RFC 9112, section 2.2",
        (400,),
        lambda t: _get(t).replace(b"\r\n", b"\r\n ", 1),
    ),
    (
        "head.name",
        "MUST",
        "A header without a name is refused.",
        "RFC 9110, section 5.1",
        (400,),
        lambda t: _get(t).replace(b"\r\n\r\n", b"\r\n: 1\r\n\r\n"),
    ),
    (
        "head.nul",
        "SHOULD",
        "NUL in a header's value is refused.",
        "RFC 9110, section 5.5",
        (400,),
        lambda t: _get(t).replace(b"\r\n\r\n", b"\r\nX-Odd: a\0b\r\n\r\n"),
    ),
    (
        "head.fold",
        "SHOULD",
        "A header that is folded over two lines is refused.",
        "RFC 9112, section 5.2",
        (400,),
        lambda t: _get(t).replace(b"\r\n\r\n", b"\r\nX-Odd: a\r\n b\r\n\r\n"),
    ),
    (
        "head.bare-lf",
        "INFO",
        "Lines that end with LF alone are refused.",
        "RFC 9112, section 2.2",
        (400,),
        lambda t: _get(t).replace(b"\r\n", b"\n"),
    ),
    (
        "head.bare-cr",
        "SHOULD",
        "A CR within a header is refused.",
        "RFC 9112, section 2.2",
        (400,),
        lambda t: _get(t).replace(b"\r\n\r\n", b"\r\nX-Odd: a\rb\r\n\r\n"),
    ),
    (
        "host.missing",
        "MUST",
        "An HTTP/1.1 request without Host is refused.",
        "RFC 9112, section 3.2",
        (400,),
        lambda t: f"GET {t.prefix}{t.get} HTTP/1.1\r\n\r\n".encode(),
    ),
    (
        "host.two",
        "MUST",
        "A request with two Host fields is refused.",
        "RFC 9112, section 3.2",
        (400,),
        lambda t: _get(t, ("Host", "other")),
    ),
    (
        "host.invalid",
        "MUST",
        "A request whose Host is no name is refused.",
        "RFC 9112, section 3.2",
        (400,),
        lambda t: f"GET {t.prefix}{t.get} HTTP/1.1\r\nHost: a b/c\r\n\r\n".encode(),
    ),
    (
        "version.next",
        "SHOULD",
        "A request of another major version is refused.",
        "RFC 9110, section 15.6.6",
        (505, 400),
        lambda t: _get(t, version="2.0"),
    ),
    (
        "garbage",
        "MUST",
        "What is no HTTP is refused, and the connection ends.",
        "RFC 9112, section 2.2",
        (400, 505),
        lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello\r\n\r\n",
    ),
)


def _add_bad_head(
    name: str,
    level: Level,
    requirement: str,
    source: str,
    statuses: tuple[int, ...],
    raw: Callable[[Target], bytes],
) -> None:
    def script(target: Target) -> Script[None]:
        link = yield from open_link(target)
        # Behind it stands a request that must not be answered, if the first one's end is in doubt.
        yield from link.send(raw(target))
        reply = yield from link.reply_or_end()
        refused(reply, *statuses)

    _http.add(name, requirement, script, level=level, source=source)


for _bad in _BAD_HEADS:
    _add_bad_head(*_bad)


@_http.case(
    "length.and-coding",
    "A request with Content-Length and Transfer-Encoding is refused, or the connection ends with its answer.",
    source="RFC 9112, section 6.1",
)
def _length_and_coding(target: Target) -> Script[None]:
    link = yield from open_link(target)
    smuggled = request(target, "GET", "/no/such/path")
    raw = request(
        target,
        "POST",
        CHAT,
        b"0\r\n\r\n" + smuggled,
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "5"),
    )
    yield from link.send(raw)
    yield from link.reply_or_end("POST")
    closed = yield from link.closes(_CLOSES)
    require(closed, "connection", "expected the end of the connection, got another answer, or nothing")


@_http.case(
    "length.same",
    "A Content-Length that is there twice and the same is no trouble for the server.",
    level="INFO",
    source="RFC 9112, section 6.3",
)
def _same_length_twice(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(request(target, "POST", CHAT, b"{}", ("Content-Length", "2")))
    refused((yield from link.reply_or_end("POST")), 200, 400, 404, 422)


CASES = tuple(_http.cases)
