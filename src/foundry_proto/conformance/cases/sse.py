"""Server-sent events as they are framed: what a stream's bytes are, for strict readers and for simple ones.

Knows: WHATWG HTML, section 9.2, and what simple clients do in its place (split at `data: `).
Refuses to know: what the events say (`chat_stream.py`).
"""

from __future__ import annotations

from typing import Final

from foundry_proto.conformance.asking import DONE, chat, events_of, stream
from foundry_proto.conformance.case import ALL_PROFILES, Section
from foundry_proto.conformance.expecting import find, json_of, require, status
from foundry_proto.conformance.link import Reply
from foundry_proto.conformance.problems import Unmet
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_sse = Section(
    "sse",
    group="chat",
    profiles=ALL_PROFILES,
    source="WHATWG HTML, section 9.2",
    needs=("model",),
)
_CORE: Final = "the newer service's streams"
_LIKELY: Final = "the REST reference page, POST /v1/chat/completions"
_SCRIPTS: Final = "Repeat exactly: ☕ Grüße 日本語 🇫🇷 👩‍👩‍👧"


def _bytes(target: Target, **changes: object) -> Script[Reply]:
    reply = yield from chat(target, stream=True, **changes)
    status(reply, 200)
    return reply


def _frames(reply: Reply) -> list[bytes]:
    """The events' bytes, each without the blank line that ends it."""
    *frames, rest = reply.body.split(b"\n\n")
    require(not rest, "framing", f"expected a blank line behind the last event, got {rest[:80]!r}")
    return frames


@_sse.case("media", "A stream's media type is text/event-stream.")
def _media(target: Target) -> Script[None]:
    reply = yield from _bytes(target, max_tokens=1)
    media = (reply.header("content-type") or "").partition(";")[0]
    require(media == "text/event-stream", "headers", f"content-type: expected text/event-stream, got {media}")


@_sse.case("charset", "If a stream's media type has a charset, it is UTF-8.")
def _charset(target: Target) -> Script[None]:
    reply = yield from _bytes(target, max_tokens=1)
    charset = (reply.header("content-type") or "").lower().partition("charset=")[2].strip('" ')
    require(charset in ("", "utf-8"), "headers", f"charset: expected utf-8, got {charset}")


@_sse.case("cache", "A stream is not to be kept by caches.", level="SHOULD", source=_CORE)
def _cache(target: Target) -> Script[None]:
    control = (yield from _bytes(target, max_tokens=1)).header("cache-control") or ""
    require(
        "no-" in control, "headers", f"cache-control: expected no-cache or no-store, got {control or 'none'}"
    )


@_sse.case(
    "chunked",
    "A stream is framed in chunks, so that the connection outlives it.",
    level="SHOULD",
    source="RFC 9112, section 7.1",
)
def _chunked(target: Target) -> Script[None]:
    reply = yield from _bytes(target, max_tokens=1)
    require(reply.framing == "chunked", "framing", f"expected chunks, got {reply.framing}")


@_sse.case(
    "frames",
    "Each event is one line, data: and its value, and a blank line; lines end with LF.",
    source=_LIKELY,
)
def _one_line(target: Target) -> Script[None]:
    for frame in _frames((yield from _bytes(target))):
        plain = frame.startswith(b"data: ") and b"\n" not in frame and b"\r" not in frame
        require(plain, "framing", f"expected data: and one line, got {frame[:80]!r}")


@_sse.case("comments", "A stream has no comments and no fields but data.", level="INFO", source=_CORE)
def _no_comments(target: Target) -> Script[None]:
    for line in (yield from _bytes(target)).body.splitlines():
        require(line.startswith(b"data:") or not line, "framing", f"expected data, got {line[:80]!r}")


@_sse.case("bom", "A stream begins with its first event, not with a byte order mark.", source=_LIKELY)
def _no_bom(target: Target) -> Script[None]:
    body = (yield from _bytes(target, max_tokens=1)).body
    require(not body.startswith(b"\xef\xbb\xbf"), "framing", "expected an event first, got a byte order mark")


@_sse.case("utf-8", "A stream is UTF-8, and no character is split between two events.")
def _utf8(target: Target) -> Script[None]:
    reply = yield from _bytes(target, messages=[{"role": "user", "content": _SCRIPTS}], max_tokens=24)
    for frame in _frames(reply):
        try:
            frame.decode("utf-8")
        except UnicodeDecodeError:
            raise Unmet("framing", f"expected UTF-8 in each event, got {frame[:80]!r}") from None
    # An answer that is cut may end within a character.
    said = events_of(reply).text().rstrip("\ufffd")
    require("\ufffd" not in said, "stream", f"expected whole characters in each event, got {said!r}")


@_sse.case("surrogates", "No character is split between two events as halves of a surrogate pair.")
def _surrogates(target: Target) -> Script[None]:
    reply = yield from _bytes(target, messages=[{"role": "user", "content": _SCRIPTS}], max_tokens=24)
    said = events_of(reply).text()
    halves = [char for char in said if "\ud800" <= char <= "\udfff"]
    require(not halves, "stream", f"expected whole characters, got {halves[:3]!r}")


@_sse.case("done.exact", "The end is data: [DONE] to the byte.", source=_LIKELY)
def _done_exact(target: Target) -> Script[None]:
    body = (yield from _bytes(target, max_tokens=1)).body
    require(
        body.endswith(b"data: [DONE]\n\n"), "stream", f"expected data: {DONE} at the end, got {body[-40:]!r}"
    )


@_sse.case("done.last", "Nothing comes behind data: [DONE].", source=_LIKELY)
def _done_last(target: Target) -> Script[None]:
    body = (yield from _bytes(target)).body
    _, _, behind = body.partition(b"data: [DONE]")
    require(not behind.strip(), "stream", f"expected nothing behind data: {DONE}, got {behind[:80]!r}")


@_sse.case("json", "Each event but the last is one JSON object in one line.", source=_LIKELY)
def _json(target: Target) -> Script[None]:
    streamed = yield from stream(target)
    require(streamed.events, "stream", "expected events before the end, got none")


@_sse.case("error", "No event of a whole stream is an error.", source=_LIKELY)
def _no_error(target: Target) -> Script[None]:
    for event in (yield from stream(target)).events:
        require("error" not in event, "stream", f"expected a chunk, got {str(event.get('error'))[:80]}")


@_sse.case(
    "pieces",
    "Events leave as they are made: the first text comes before the last is made.",
    level="SHOULD",
    source=_LIKELY,
)
def _pieces(target: Target) -> Script[None]:
    reply = yield from _bytes(target, max_tokens=24)
    moments = {piece.at for piece in reply.pieces}
    enough = len(moments) > 1 or len(reply.pieces) > 2
    require(enough, "time", f"expected events in several pieces, got {len(reply.pieces)}")


@_sse.case("newlines", "A line break in a text does not break its event.")
def _newlines(target: Target) -> Script[None]:
    asked = [{"role": "user", "content": "Write the letters a, b and c, each on a line of its own."}]
    streamed = yield from stream(target, messages=asked, max_tokens=24)
    whole = yield from chat(target, messages=asked, max_tokens=24)
    said = find(json_of(whole), "choices[0].message.content")
    require(streamed.text() == said, "stream", f"expected {said!r}, got {streamed.text()!r}")


CASES = tuple(_sse.cases)
