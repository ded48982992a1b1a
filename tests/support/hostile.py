"""Hostile requests: bytes as they come, the statuses that answer them, and whether the connection goes on.

`ROWS` is run against the product's server on both loops (`tests/serve/test_hostile.py`), and is the table of
`docs/hardening.md`, which `python -m tests.support.hostile` prints.
"""

# ruff: noqa: E501 - a row is a line

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from attrs import frozen

from foundry_proto.connection import Limits

__all__ = ["GROUPS", "LIMITS", "ROWS", "Row", "as_table"]

LIMITS: Final = Limits(head=4096, headers=20, body=4096, drain=1024)
"""What the server of these tests takes: small, so that rows are."""

Fate = Literal["goes on", "closes"]
Ending = Literal["probe", "end", "silence"]


@frozen(kw_only=True)
class Row:
    """One hostile client."""

    what: str
    data: bytes
    statuses: tuple[int, ...]
    fate: Fate
    ending: Ending = "probe"
    """What the client does then: asks once more, ends its side, or is silent."""


def get(*headers: bytes, target: bytes = b"/openai/status", version: bytes = b"1.1") -> bytes:
    """A request that looks."""
    return b"\r\n".join((b"GET %b HTTP/%b" % (target, version), b"Host: localhost", *headers, b"", b""))


def post(*headers: bytes, body: bytes = b"") -> bytes:
    """A request with a body, whose framing the headers say."""
    first = (b"POST /v1/chat/completions HTTP/1.1", b"Host: localhost")
    return b"\r\n".join((*first, *headers, b"", b"")) + body


def chunked(body: bytes) -> bytes:
    """A request whose body is framed by hand."""
    return post(b"Transfer-Encoding: chunked", body=body)


def load(name: bytes) -> bytes:
    """A request to load a model of this name."""
    return get(target=b"/openai/load/" + name)


GET: Final = get()
WHOLE: Final = post(b"Content-Length: 2", body=b"{}")
"""A request that is right, and asks for what is not (400)."""


def row(what: str, data: bytes, statuses: int | tuple[int, ...], fate: Fate, ending: Ending = "probe") -> Row:
    """A row; one status stands for itself."""
    given = statuses if isinstance(statuses, tuple) else (statuses,)
    return Row(what=what, data=data, statuses=given, fate=fate, ending=ending)


# fmt: off
GROUPS: Final[dict[str, tuple[Row, ...]]] = {
    "How long a body is": (
        row("two lengths that differ", post(b"Content-Length: 2", b"Content-Length: 3", body=b"{}"), 400, "closes"),
        row("two lengths that agree", post(b"Content-Length: 2", b"Content-Length: 2", body=b"{}"), 400, "goes on"),
        row("a list of lengths that differ", post(b"Content-Length: 2, 3", body=b"{}"), 400, "closes"),
        row("a length with a sign", post(b"Content-Length: +2", body=b"{}"), 400, "closes"),
        row("a negative length", post(b"Content-Length: -2", body=b"{}"), 400, "closes"),
        row("a length in hexadecimal", post(b"Content-Length: 0x2", body=b"{}"), 400, "closes"),
        row("a length with a fraction", post(b"Content-Length: 2.0", body=b"{}"), 400, "closes"),
        row("an empty length", post(b"Content-Length:", body=b"{}"), 400, "closes"),
        row("a length of 40 digits", post(b"Content-Length: " + b"9" * 40, body=b"{}"), 400, "closes"),
        row("a length over the limit", post(b"Content-Length: 4097"), 413, "closes"),
        row("a length over the limit, by far", post(b"Content-Length: 99999999999999999999"), 413, "closes"),
        row("a length and chunks", post(b"Content-Length: 2", b"Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n"), 400, "closes"),
        row("chunks and a length", post(b"Transfer-Encoding: chunked", b"Content-Length: 2", body=b"2\r\n{}\r\n0\r\n\r\n"), 400, "closes"),
        row("chunked twice", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 501, "closes"),
        row("chunked, in a list", post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 501, "closes"),
        row("a coding before chunked", post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501, "closes"),
        row("a coding behind chunked", post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 501, "closes"),
        row("a coding that looks like chunked", post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 501, "closes"),
        row("chunked with a vertical tab", post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400, "closes"),
        row("a body without a length", post(body=b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), (400, 404), "goes on"),
        row("a GET with a body", get(b"Content-Length: 2") + b"{}", 200, "goes on"),
        row("a length with an underscore in its name", post(b"Content_Length: 2", b"Content-Length: 0"), 400, "goes on"),
    ),
    "Chunks": (
        row("a right one", chunked(b"2\r\n{}\r\n0\r\n\r\n"), 400, "goes on"),
        row("an extension", chunked(b'2;a="b"\r\n{}\r\n0\r\n\r\n'), 400, "goes on"),
        row("a trailer", chunked(b"2\r\n{}\r\n0\r\nX: y\r\n\r\n"), 400, "goes on"),
        row("a trailer that is a length", chunked(b"2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n"), 400, "goes on"),
        row("no size", chunked(b"\r\n{}\r\n0\r\n\r\n"), 400, "closes"),
        row("a size that is none", chunked(b"g\r\n"), 400, "closes"),
        row("a size with a sign", chunked(b"-2\r\n{}"), 400, "closes"),
        row("a size with 0x before it", chunked(b"0x2\r\n{}"), 400, "closes"),
        row("a size of 21 digits", chunked(b"0" * 20 + b"2\r\n{}"), 400, "closes"),
        row("a size with an underscore", chunked(b"1_0\r\n{}"), 400, "closes"),
        row("a size behind a blank", chunked(b" 2\r\n{}"), 400, "closes"),
        row("a size that ends with a bare LF", chunked(b"2\n{}\r\n0\r\n\r\n"), 400, "closes"),
        row("data longer than its size", chunked(b"1\r\n{}\r\n0\r\n\r\n"), 400, "closes"),
        row("data that ends with a bare LF", chunked(b"2\r\n{}\n0\r\n\r\n"), 400, "closes"),
        row("a body that ends with bare LFs", chunked(b"2\r\n{}\r\n0\n\n"), 400, "closes"),
        row("a trailer that ends with bare LFs", chunked(b"2\r\n{}\r\n0\r\nX: y\n\n"), 400, "closes"),
        row("a trailer without a colon", chunked(b"2\r\n{}\r\n0\r\nX\r\n\r\n"), 400, "closes"),
        row("an extension without an end", chunked(b"2;" + b"a" * 5000), 431, "closes"),
        row("trailers without an end", chunked(b"0\r\n" + b"X: y\r\n" * 1000), 431, "closes"),
        row("more than a body may have", chunked((b"400\r\n" + b" " * 1024 + b"\r\n") * 5), 413, "closes"),
        row("a chunk of 2⁶⁰ bytes, and silence", chunked(b"1000000000000000\r\n{"), 408, "closes", "silence"),
    ),
    "Lines and headers": (
        row("lines that end with LF", GET.replace(b"\r\n", b"\n"), 400, "closes"),
        row("one line that ends with LF", get(b"X: a\nTransfer-Encoding: chunked"), 400, "closes"),
        row("a bare CR in a value", get(b"X: a\rTransfer-Encoding: chunked"), 400, "closes"),
        row("a bare CR at a line's end", get(b"X: a\r"), 400, "closes"),
        row("NUL in a value", get(b"X: a\0b"), 400, "closes"),
        row("NUL in a name", get(b"X\0: a"), 400, "closes"),
        row("a folded header", get(b"X: a\r\n b"), 400, "closes"),
        row("a folded Transfer-Encoding", post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"), 400, "closes"),
        row("a blank before the colon", post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400, "closes"),
        row("a header without a colon", get(b"X"), 400, "closes"),
        row("a header without a name", get(b": a"), 400, "closes"),
        row("a name beyond ASCII", get("É: a".encode()), 400, "closes"),
        row("a blank before the first header", b"GET /openai/status HTTP/1.1\r\n Host: localhost\r\n\r\n", 400, "closes"),
        row("a value beyond ASCII", get("X: é".encode()), 200, "goes on"),
        row("a header of 5 kB", get(b"X: " + b"a" * 5000), 431, "closes"),
        row("a header without an end", b"GET / HTTP/1.1\r\nX: " + b"a" * 5000, 431, "closes"),
        row("21 headers", get(*(b"X%d: a" % number for number in range(20))), 431, "closes"),
        row("1,000 headers", get(*[b"a:"] * 1000), 431, "closes"),
        row("empty lines before a request", b"\r\n\r\n" + GET, 200, "goes on"),
        row("1,000 empty lines, and silence", b"\r\n" * 1000, (), "closes", "silence"),
    ),
    "Request lines": (
        row("TLS where none is spoken", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "closes"),
        row("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "closes"),
        row("HTTP/0.9", b"GET /openai/status\r\n\r\n", 400, "closes"),
        row("HTTP/1.10", get(version=b"1.10"), 400, "closes"),
        row("HTTP/3.0", get(version=b"3.0"), 505, "closes"),
        row("a lower-case method", GET.replace(b"GET", b"get"), 405, "goes on"),
        row("a method that nobody knows", GET.replace(b"GET", b"BREW"), 405, "goes on"),
        row("TRACE", GET.replace(b"GET", b"TRACE"), 405, "goes on"),
        row("CONNECT", b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "goes on"),
        row("two blanks", GET.replace(b" /", b"  /"), 400, "closes"),
        row("a tab for a blank", GET.replace(b" /", b"\t/"), 400, "closes"),
        row("a blank in the target", get(target=b"/openai/ status"), 400, "closes"),
        row("a target beyond ASCII", get(target="/openai/é".encode()), 400, "closes"),
        row("no target", b"GET HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "closes"),
        row("a target of 5 kB", get(target=b"/" + b"a" * 5000), 431, "closes"),
        row("a request line without an end", b"GET /" + b"a" * 5000, 431, "closes"),
    ),
    "Targets": (
        row("absolute, with the server's name", get(target=b"http://localhost/openai/status"), 200, "goes on"),
        row("absolute, with another's", get(target=b"http://evil.example/openai/status"), 421, "goes on"),
        row("absolute, with a user's name", get(target=b"http://localhost@evil.example/"), 400, "goes on"),
        row("absolute, of another kind", get(target=b"file:///etc/passwd"), 404, "goes on"),
        row("two slashes first", get(target=b"//evil.example/openai/status"), 404, "goes on"),
        row("dots", get(target=b"/openai/../openai/status"), 404, "goes on"),
        row("a fragment", get(target=b"/openai/status#x"), 404, "goes on"),
        row("`*` for a GET", get(target=b"*"), 404, "goes on"),
        row("101 words in the query", get(target=b"/openai/load/x?" + b"a=b&" * 101), 400, "goes on"),
    ),
    "Names of models": (
        row("`../../etc/passwd`, encoded", load(b"..%2f..%2fetc%2fpasswd"), 404, "goes on"),
        row("the same in upper case", load(b"%2E%2E%2F%2E%2E%2Fetc"), 404, "goes on"),
        row("encoded twice", load(b"%252e%252e%252fetc"), 404, "goes on"),
        row("with backslashes", load(b"..%5c..%5cwindows"), 404, "goes on"),
        row("not encoded", load(b"../../etc/passwd"), 404, "goes on"),
        row("a whole path", load(b"%2fetc%2fpasswd"), 404, "goes on"),
        row("NUL", load(b"a%00b"), 404, "goes on"),
        row("a line break", load(b"a%0d%0aX:%20y"), 404, "goes on"),
        row("an overlong dot", load(b"%c0%ae%c0%ae"), 404, "goes on"),
        row("no UTF-8", load(b"%ff%fe"), 404, "goes on"),
        row("no hexadecimal", load(b"%zz"), 404, "goes on"),
        row("3,000 letters", load(b"a" * 3000), 404, "goes on"),
        row("of a device", load(b"CON"), 404, "goes on"),
    ),
    "Who asks": (
        row("no Host", b"GET /openai/status HTTP/1.1\r\n\r\n", 400, "closes"),
        row("two Hosts", get(b"Host: localhost"), 400, "closes"),
        row("an empty Host", GET.replace(b" localhost", b""), 400, "goes on"),
        row("another's Host", GET.replace(b"localhost", b"evil.example"), 421, "goes on"),
        row("a Host that begins like ours", GET.replace(b"localhost", b"localhost.evil.example"), 421, "goes on"),
        row("a Host with a path", GET.replace(b"localhost", b"localhost/x"), 400, "closes"),
        row("another page's Origin", load(b"x").replace(b"\r\n\r\n", b"\r\nOrigin: http://localhost:3000\r\n\r\n"), 403, "goes on"),
        row("an image on another page", load(b"x").replace(b"\r\n\r\n", b"\r\nSec-Fetch-Site: same-site\r\n\r\n"), 403, "goes on"),
        row("a form on another page", post(b"Origin: null", b"Content-Type: text/plain", b"Content-Length: 2", body=b"{}"), 403, "goes on"),
    ),
    "Bodies": (
        row("of another type", post(b"Content-Type: text/plain", b"Content-Length: 2", body=b"{}"), 415, "goes on"),
        row("compressed", post(b"Content-Encoding: gzip", b"Content-Length: 2", body=b"{}"), 415, "goes on"),
        row("no JSON", post(b"Content-Length: 2", body=b"{]"), 400, "goes on"),
        row("500 levels deep", post(b"Content-Length: 1000", body=b"[" * 500 + b"]" * 500), 400, "goes on"),
        row("a number of 500 digits", post(b"Content-Length: 505", body=b'{"n":' + b"9" * 499 + b"}"), 400, "goes on"),
    ),
    "Slow, and unfinished": (
        row("a head that does not end", b"GET /openai/status HTTP/1.1\r\nHost: loc", 408, "closes", "silence"),
        row("a body that does not come", post(b"Content-Length: 2", body=b"{"), 408, "closes", "silence"),
        row("nothing at all", b"", (), "closes", "silence"),
        row("nothing more after an answer", GET, 200, "closes", "silence"),
        row("nothing, and its end", b"", (), "closes", "end"),
        row("half a head, and its end", b"GET /openai/sta", 400, "closes", "end"),
        row("half a body, and its end", post(b"Content-Length: 2", body=b"{"), 400, "closes", "end"),
        row("half a chunk, and its end", chunked(b"5\r\n{"), 400, "closes", "end"),
        row("a request, and its end", GET, 200, "closes", "end"),
        row("a refused body that does not come", post(b"Content-Type: a/b", b"Content-Length: 9"), 415, "closes", "silence"),
    ),
    "Several at once": (
        row("three requests in one piece", GET * 3, (200, 200, 200), "goes on"),
        row("one behind one that is refused", WHOLE + GET, (400, 200), "goes on"),
        row("one behind broken framing", get(b"X") + GET, 400, "closes"),
        row("one behind a length and chunks", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n") + GET, 400, "closes"),
        row("one behind Connection: close", get(b"Connection: close") + GET, 200, "closes"),
        row("one behind a list with close in it", get(b"Connection: keep-alive, close") + GET, 200, "closes"),
        row("100 requests, and the end", GET * 100, (200,) * 100, "closes", "end"),
    ),
    "Other ways to ask": (
        row("HEAD", GET.replace(b"GET", b"HEAD"), 200, "goes on"),
        row("HEAD where a GET would do something", load(b"x").replace(b"GET", b"HEAD"), 405, "goes on"),
        row("OPTIONS", GET.replace(b"GET", b"OPTIONS"), 204, "goes on"),
        row("OPTIONS *", get(target=b"*").replace(b"GET", b"OPTIONS"), 204, "goes on"),
        row("Expect: 100-continue", post(b"Expect: 100-continue", b"Content-Length: 2", body=b"{}"), (100, 400), "goes on"),
        row("Expect, refused before the body", post(b"Expect: 100-continue", b"Content-Length: 5000"), 413, "closes"),
        row("Expect, for the body to come", post(b"Expect: 100-continue", b"Content-Length: 2"), (100, 408), "closes", "silence"),
        row("an expectation that nobody knows", get(b"Expect: a-miracle"), 200, "goes on"),
        row("HTTP/1.0", get(version=b"1.0"), 200, "closes"),
        row("HTTP/1.0 that would stay", get(b"Connection: keep-alive", version=b"1.0"), 200, "closes"),
        row("HTTP/1.0 without a Host", b"GET /openai/status HTTP/1.0\r\n\r\n", 200, "closes"),
        row("HTTP/1.0 with chunks", post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n").replace(b"1.1", b"1.0"), 400, "closes"),
        row("an upgrade to h2c", get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: "), 200, "goes on"),
    ),
}
"""By topic."""
# fmt: on

ROWS: Final = tuple(one for rows in GROUPS.values() for one in rows)


def _shown(statuses: tuple[int, ...]) -> str:
    if len(set(statuses)) == 1 and len(statuses) > 3:
        return f"{len(statuses)} × {statuses[0]}"
    return ", ".join(map(str, statuses)) or "none"


def as_table() -> Iterator[str]:
    """The rows as they stand in the page."""
    yield "| what comes | answered with | the connection |"
    yield "|---|---|---|"
    for group, rows in GROUPS.items():
        for one in rows:
            yield f"| {group}: {one.what} | {_shown(one.statuses)} | {one.fate} |"


if __name__ == "__main__":
    print("\n".join(as_table()))  # noqa: T201
