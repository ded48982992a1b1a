"""HTTP as it is meant: methods, targets, headers and limits, whatever the route.

Knows: RFC 9110. Refuses to know: any route; `Target.get` and a chat of one token stand for all.
"""

from __future__ import annotations

from typing import Final

from foundry_proto.conformance.asking import CHAT, ask, chat_body, open_link, request
from foundry_proto.conformance.case import ALL_PROFILES, Section
from foundry_proto.conformance.expecting import error, json_of, refused, require, status
from foundry_proto.conformance.problems import Untestable
from foundry_proto.conformance.steps import Script, Together
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_http = Section("http", group="http", profiles=ALL_PROFILES, source="RFC 9110")

_LARGE: Final = 256 * 1024
"""Bytes of a request's head: more than any server should take."""
_HUGE: Final = 8 * 1024 * 1024 * 1024
_AT_ONCE: Final = 16


@_http.case("date", "An answer says when it was made.", level="SHOULD", source="RFC 9110, section 6.6.1")
def _date(target: Target) -> Script[None]:
    reply = yield from ask(target, "GET", target.get)
    require(reply.header("date"), "headers", "date: expected a time, got none")


@_http.case(
    "head", "HEAD is answered like GET, without a body.", level="SHOULD", source="RFC 9110, section 9.3.2"
)
def _head(target: Target) -> Script[None]:
    whole = yield from ask(target, "GET", target.get)
    head = yield from ask(target, "HEAD", target.get)
    status(head, whole.status)
    for name in ("content-type", "content-length"):
        got = head.header(name)
        same = got is None or got == whole.header(name)
        require(same, "headers", f"{name}: expected {whole.header(name)}, got {got}")


@_http.case(
    "head.sync",
    "Behind the answer to HEAD comes the next one, and no body.",
    level="SHOULD",
    source="RFC 9110, section 9.3.2",
)
def _head_sync(target: Target) -> Script[None]:
    link = yield from open_link(target)
    head = request(target, "HEAD", target.get)
    yield from link.send(head + request(target, "GET", target.get))
    status((yield from link.reply("HEAD")), 200)
    status((yield from link.reply()), 200)


@_http.case(
    "method.unknown",
    "A method that the server does not know is refused.",
    level="SHOULD",
    source="RFC 9110, section 9.1",
)
def _unknown_method(target: Target) -> Script[None]:
    status((yield from ask(target, "BREW", target.get)), 405, 501)


@_http.case(
    "method.case",
    "A method's letters have a case: get is not GET.",
    level="SHOULD",
    source="RFC 9110, section 9.1",
)
def _method_case(target: Target) -> Script[None]:
    status((yield from ask(target, "get", target.get)), 400, 405, 501)


@_http.case(
    "method.allow",
    "A method that a path does not have is refused with 405, and Allow names those that it has.",
    level="SHOULD",
    source="RFC 9110, section 15.5.6",
)
def _method_allow(target: Target) -> Script[None]:
    reply = yield from ask(target, "DELETE", target.get)
    status(reply, 405)
    allow = [word.strip() for word in (reply.header("allow") or "").split(",")]
    require("GET" in allow, "headers", f"allow: expected GET among them, got {allow}")


@_http.case(
    "options", "OPTIONS says which methods a path has.", level="INFO", source="RFC 9110, section 9.3.7"
)
def _options(target: Target) -> Script[None]:
    reply = yield from ask(target, "OPTIONS", target.get)
    status(reply, 200, 204)
    allow = reply.header("allow") or reply.header("access-control-allow-methods") or ""
    require("GET" in allow, "headers", f"allow: expected GET among them, got {allow or 'none'}")


@_http.case(
    "path.unknown",
    "A path that is not there is answered with 404 and JSON that says so.",
    source="RFC 9110, section 15.5.5",
)
def _unknown_path(target: Target) -> Script[None]:
    status((yield from ask(target, "GET", "/no/such/path")), 404)


@_http.case(
    "path.unknown.body",
    "What is wrong with a path is said in OpenAI's error object.",
    level="SHOULD",
    source="OpenAI's API reference, Errors",
)
def _unknown_path_body(target: Target) -> Script[None]:
    error((yield from ask(target, "GET", "/v1/no/such/path")), 404)


@_http.case(
    "path.absolute", "A target in absolute form means the same as a path.", source="RFC 9112, section 3.2.2"
)
def _absolute_form(target: Target) -> Script[None]:
    link = yield from open_link(target)
    path = f"{target.prefix}{target.get}"
    raw = request(target, "GET", target.get).replace(path.encode(), f"http://{target.host}{path}".encode(), 1)
    yield from link.send(raw)
    status((yield from link.reply()), 200)


@_http.case(
    "path.asterisk",
    "OPTIONS of the server as a whole is answered.",
    level="INFO",
    source="RFC 9112, section 3.2.4",
)
def _asterisk(target: Target) -> Script[None]:
    link = yield from open_link(target)
    path = f"{target.prefix}{target.get}"
    yield from link.send(request(target, "OPTIONS", target.get).replace(path.encode(), b"*", 1))
    status((yield from link.reply("OPTIONS")), 200, 204)


@_http.case(
    "path.encoded",
    "A letter of a path may be percent-encoded.",
    level="SHOULD",
    source="RFC 3986, section 6.2.2.2",
)
def _encoded_letter(target: Target) -> Script[None]:
    path = target.get[:-1] + f"%{ord(target.get[-1]):02X}"
    status((yield from ask(target, "GET", path)), 200)


@_http.case("path.slash", "An encoded slash is no slash.", level="SHOULD", source="RFC 3986, section 2.2")
def _encoded_slash(target: Target) -> Script[None]:
    first, slash, rest = target.get[1:].partition("/")
    if not slash:
        raise Untestable(f"{target.get} has one segment")
    status((yield from ask(target, "GET", f"/{first}%2F{rest}")), 404)


@_http.case(
    "query.unknown",
    "A query that a route does not know is ignored.",
    source="OpenAI's API reference, Backward compatibility",
)
def _unknown_query(target: Target) -> Script[None]:
    status((yield from ask(target, "GET", f"{target.get}?no-such-word=1&&=&empty")), 200)


@_http.case(
    "header.unknown",
    "A header that the server does not know is ignored, also one without a value.",
    source="RFC 9110, section 5.1",
)
def _unknown_header(target: Target) -> Script[None]:
    status((yield from ask(target, "GET", target.get, None, ("X-Odd", "1"), ("X-Empty", ""))), 200)


@_http.case(
    "header.case",
    "Names of headers may be written in any letter case.",
    source="RFC 9110, section 5.1",
    needs=("model",),
)
def _header_case(target: Target) -> Script[None]:
    link = yield from open_link(target)
    raw = request(target, "POST", CHAT, chat_body(target, max_tokens=1))
    head, end, body = raw.partition(b"\r\n\r\n")
    head = head.replace(b"Content-Length", b"cONTENT-lENGTH").replace(b"Host", b"hOsT")
    yield from link.send(head + end + body)
    status((yield from link.reply("POST")), 200)


@_http.case(
    "header.space",
    "White space around a header's value does not matter.",
    source="RFC 9110, section 5.5",
    needs=("model",),
)
def _header_space(target: Target) -> Script[None]:
    link = yield from open_link(target)
    raw = request(target, "POST", CHAT, chat_body(target, max_tokens=1))
    yield from link.send(
        raw.replace(b"Content-Length: ", b"Content-Length:\t  ").replace(b"Host: ", b"Host:")
    )
    status((yield from link.reply("POST")), 200)


@_http.case(
    "header.upgrade", "An upgrade that the server does not offer is ignored.", source="RFC 9110, section 7.8"
)
def _upgrade(target: Target) -> Script[None]:
    more = (("Connection", "Upgrade"), ("Upgrade", "no-such-protocol/1"))
    status((yield from ask(target, "GET", target.get, None, *more)), 200)


@_http.case(
    "header.accept",
    "A client that accepts JSON among others is answered with JSON.",
    source="RFC 9110, section 12.5.1",
)
def _accept(target: Target) -> Script[None]:
    reply = yield from ask(
        target, "GET", target.get, None, ("Accept", "text/html, application/json;q=0.9, */*;q=0.1")
    )
    status(reply, 200)
    json_of(reply)


@_http.case(
    "header.key",
    "A bearer token is accepted, whatever it is, by a server that asks for none.",
    profiles=("sdk-0.5", "documented", "openai", "core"),
    source="the official clients, which send one with each chat",
    needs=("model",),
)
def _key(target: Target) -> Script[None]:
    if target.key is not None:
        raise Untestable("the server asks for a key")
    more = ("Authorization", "Bearer OPENAI_API_KEY")
    status((yield from ask(target, "POST", CHAT, chat_body(target, max_tokens=1), more)), 200)


@_http.case(
    "media.parameters",
    "A body's media type may have a charset.",
    source="RFC 9110, section 8.3.1",
    needs=("model",),
)
def _media_parameters(target: Target) -> Script[None]:
    more = ("Content-Type", "application/json; charset=utf-8")
    status((yield from ask(target, "POST", CHAT, chat_body(target, max_tokens=1), more)), 200)


@_http.case(
    "media.case",
    "A body's media type may be written in any letter case.",
    source="RFC 9110, section 8.3.1",
    needs=("model",),
)
def _media_case(target: Target) -> Script[None]:
    more = ("Content-Type", "Application/JSON;Charset=UTF-8")
    status((yield from ask(target, "POST", CHAT, chat_body(target, max_tokens=1), more)), 200)


@_http.case(
    "media.other",
    "A body of another media type is refused.",
    level="SHOULD",
    source="RFC 9110, section 15.5.16",
)
def _media_other(target: Target) -> Script[None]:
    reply = yield from ask(target, "POST", CHAT, b"<model/>", ("Content-Type", "application/xml"))
    status(reply, 415, 400)


@_http.case(
    "media.coding",
    "A compressed body that the server does not read is refused, not misread.",
    level="SHOULD",
    source="RFC 9110, section 8.4",
)
def _content_coding(target: Target) -> Script[None]:
    more = (("Content-Encoding", "br"),)
    status((yield from ask(target, "POST", CHAT, b"\x0b\x02\x80{}\x03", *more)), 415, 400)


@_http.case(
    "limit.head",
    "A head that is too large is refused, or the connection ends.",
    level="SHOULD",
    source="RFC 6585, section 5",
)
def _large_head(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(request(target, "GET", target.get, None, ("X-Large", "x" * _LARGE)))
    reply = yield from link.reply_or_end()
    refused(reply, 431, 400, 413)


@_http.case(
    "limit.target",
    "A target that is too long is refused, or the connection ends.",
    level="SHOULD",
    source="RFC 9110, section 15.5.15",
)
def _long_target(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(request(target, "GET", f"{target.get}?{'x' * _LARGE}"))
    reply = yield from link.reply_or_end()
    refused(reply, 414, 431, 400)


@_http.case(
    "limit.body",
    "A body that is announced far too large is refused before it comes.",
    level="SHOULD",
    source="RFC 9110, section 15.5.14",
)
def _large_body(target: Target) -> Script[None]:
    link = yield from open_link(target)
    raw = request(target, "POST", CHAT, b"{}").replace(b"Content-Length: 2", b"Content-Length: %d" % _HUGE)
    yield from link.send(raw)
    reply = yield from link.reply_or_end("POST")
    refused(reply, 413, 400)


@_http.case("at-once", "Several connections are served at the same time.")
def _at_once(target: Target) -> Script[None]:
    replies = yield Together(tuple(ask(target, "GET", target.get) for _ in range(_AT_ONCE)))
    for reply in replies:
        status(reply, 200)


CASES = tuple(_http.cases)
