"""The WebSocket of programs that watch rather than poll: a group that a server may leave out.

Knows: the opening handshake and the frames of RFC 6455, as far as these few cases need them, and what is said
first. Refuses to know: everything else that is said there.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any, Final

from foundry_proto.conformance.asking import open_link, request
from foundry_proto.conformance.case import Section
from foundry_proto.conformance.expecting import equal, require, status
from foundry_proto.conformance.link import Link, Reply
from foundry_proto.conformance.problems import Unmet
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target
from foundry_proto.jsontext import ContentError, dump_json, load_json

__all__ = ["CASES"]

_watch = Section(
    "websocket",
    group="websocket",
    profiles=("extra",),
    source="RFC 6455",
)
_PATH: Final = "/foundry/watch"
_KEY: Final = base64.b64encode(b"conformance-test").decode()
_ACCEPT: Final = base64.b64encode(
    hashlib.sha1(f"{_KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
).decode()
_MASK: Final = b"\x01\x02\x03\x04"
_TEXT: Final = 1
_CLOSE: Final = 8
_PING: Final = 9
_PONG: Final = 10


def _upgrade(target: Target, *more: tuple[str, str], version: str = "13", key: str = _KEY) -> bytes:
    headers = (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", version),
        ("Sec-WebSocket-Key", key),
    )
    return request(target, "GET", _PATH, None, *headers, *more)


def _handshake(link: Link, target: Target, *more: tuple[str, str], **changes: str) -> Script[Reply]:
    yield from link.send(_upgrade(target, *more, **changes))
    return (yield from link.head())


def _frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame: whole, masked, and short."""
    masked = bytes(byte ^ _MASK[place % 4] for place, byte in enumerate(payload))
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack("!BH", 0xFE, len(payload))
    return bytes([0x80 | opcode]) + length + _MASK + masked


def _next(link: Link, opcode: int) -> Script[bytes]:
    """The payload of the next frame of a kind."""
    while True:
        head = yield from link.take(2, "a frame")
        length = head[1] & 0x7F
        if length == 126:
            length = int.from_bytes((yield from link.take(2, "a frame's length")), "big")
        require(not head[1] & 0x80, "framing", "expected a server's frame without a mask, got one")
        payload = yield from link.take(length, "a frame's payload")
        if head[0] & 0x0F == opcode:
            return payload


def _told(link: Link) -> Script[Any]:
    payload = yield from _next(link, _TEXT)
    try:
        return load_json(payload)
    except ContentError as error:
        raise Unmet("body", f"expected JSON in each text, got {payload[:80]!r}: {error}") from None


def _opened(target: Target) -> Script[Link]:
    link = yield from open_link(target)
    status((yield from _handshake(link, target)), 101)
    return link


@_watch.case(
    "handshake",
    "A handshake is answered with 101 and the accept key that belongs to it.",
    source="RFC 6455, section 4.2.2",
)
def _accepted(target: Target) -> Script[None]:
    link = yield from open_link(target)
    reply = yield from _handshake(link, target)
    status(reply, 101)
    got = reply.header("sec-websocket-accept")
    require(got == _ACCEPT, "headers", f"sec-websocket-accept: expected {_ACCEPT}, got {got}")


@_watch.case("plain", "A request without an upgrade is refused.", source="RFC 6455, section 4.2.1")
def _plain(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(request(target, "GET", _PATH))
    status((yield from link.reply()), 400, 426)


@_watch.case("key", "A handshake whose key is none is refused.", source="RFC 6455, section 4.2.1")
def _key(target: Target) -> Script[None]:
    link = yield from open_link(target)
    status((yield from _handshake(link, target, key="short")), 400)


@_watch.case(
    "version",
    "A handshake of another version is refused with the versions that are spoken.",
    source="RFC 6455, section 4.4",
)
def _version(target: Target) -> Script[None]:
    link = yield from open_link(target)
    reply = yield from _handshake(link, target, version="7")
    status(reply, 426, 400)
    equal({"spoken": reply.header("sec-websocket-version")}, "spoken", "13")


@_watch.case(
    "origin",
    "A handshake of a web page from elsewhere is refused.",
    level="SHOULD",
    source="RFC 6455, section 10.2",
)
def _origin(target: Target) -> Script[None]:
    link = yield from open_link(target)
    status((yield from _handshake(link, target, ("Origin", "http://elsewhere.example"))), 403)


@_watch.case("ping", "A ping is answered with a pong of the same payload.", source="RFC 6455, section 5.5.2")
def _ping(target: Target) -> Script[None]:
    link = yield from _opened(target)
    yield from link.send(_frame(_PING, b"hello"))
    got = yield from _next(link, _PONG)
    require(got == b"hello", "body", f"expected a pong with b'hello', got {got!r}")


@_watch.case("close", "A close is answered with a close.", source="RFC 6455, section 5.5.1")
def _close(target: Target) -> Script[None]:
    link = yield from _opened(target)
    yield from link.send(_frame(_CLOSE, b"\x03\xe8"))
    got = yield from _next(link, _CLOSE)
    require(got[:2] == b"\x03\xe8", "body", f"expected the close's own code, got {got[:2]!r}")


@_watch.case("watch", "Who asks for a topic is told that it is watched.", source="this project's own")
def _watched(target: Target) -> Script[None]:
    link = yield from _opened(target)
    yield from link.send(_frame(_TEXT, dump_json({"type": "watch", "topics": ["models"]})))
    told = yield from _told(link)
    equal(told, "type", "watching")
    equal(told, "topics", ["models"])


@_watch.case(
    "wrong",
    "What is no message is answered with an error, and the connection lives on.",
    source="this project's own",
)
def _wrong(target: Target) -> Script[None]:
    link = yield from _opened(target)
    yield from link.send(_frame(_TEXT, b'{"type": "banana"}'))
    equal((yield from _told(link)), "type", "error")
    yield from link.send(_frame(_PING, b"still here"))
    require((yield from _next(link, _PONG)), "connection", "expected a pong, got none")


CASES = tuple(_watch.cases)
