"""Whole exchanges, for cases that care about the answer alone: a request written well, and its reply.

Knows: how a request looks, a chat's usual body, and how a stream of events is taken apart.
Refuses to know: what an answer should say (`expecting.py`, and the cases).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from foundry_proto.codec import ContentError
from foundry_proto.conformance.expecting import status as expect_status
from foundry_proto.conformance.link import Link, Reply, connect
from foundry_proto.conformance.problems import Unmet
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.jsontext import dump_json, load_json
from foundry_proto.progress import DownloadResult, Progress, ProgressDecoder
from foundry_proto.sentinels import NEED_DATA
from foundry_proto.sse import SSEDecoder

__all__ = [
    "CHAT",
    "DONE",
    "LEFT_OUT",
    "Streamed",
    "ask",
    "ask_on",
    "chat",
    "chat_body",
    "events_of",
    "open_link",
    "progress_of",
    "request",
    "stream",
    "stream_of",
]

CHAT: Final = "/v1/chat/completions"
DONE: Final = "[DONE]"
LEFT_OUT: Final = object()
"""As a property's value: leave it out."""

_EVENT_LIMIT: Final = 1024 * 1024
_QUESTION: Final = ({"role": "user", "content": "Name three primary colors."},)


def _headers_of(target: Target) -> list[tuple[str, str]]:
    """The headers that every request has."""
    key = [("Authorization", f"Bearer {target.key}")] if target.key is not None else []
    return [("Host", target.host), *key]


def request(
    target: Target, method: str, path: str, body: object = None, *more: tuple[str, str], version: str = "1.1"
) -> bytes:
    """Write a request.

    Args:
        target: The server.
        method: Its method.
        path: Its path and query, without the server's prefix.
        body: Bytes, or a value that becomes JSON; `None` for none.
        more: Further headers; a `Content-Type` among them replaces the usual one.
        version: Of HTTP.
    """
    headers = [*_headers_of(target), *more]
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else dump_json(body)
        names = {name.lower() for name, _ in more}
        if "content-type" not in names:
            headers.append(("Content-Type", "application/json"))
        if "transfer-encoding" not in names:
            headers.append(("Content-Length", str(len(data))))
    lines = [
        f"{method} {target.prefix}{path} HTTP/{version}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def open_link(target: Target) -> Script[Link]:
    """Open a connection to the server."""
    return connect(target.patience)


def ask_on(
    link: Link, target: Target, method: str, path: str, body: object = None, *more: tuple[str, str]
) -> Script[Reply]:
    """Ask on a connection that is open, and stays open."""
    yield from link.send(request(target, method, path, body, *more))
    return (yield from link.reply(method))


def ask(target: Target, method: str, path: str, body: object = None, *more: tuple[str, str]) -> Script[Reply]:
    """Ask on a connection of its own."""
    link = yield from open_link(target)
    reply = yield from ask_on(link, target, method, path, body, *more)
    yield from link.close()
    return reply


def chat_body(target: Target, **changes: object) -> dict[str, object]:
    """A short chat; a property that is `LEFT_OUT` is."""
    body: dict[str, object] = {
        "model": target.model,
        "messages": list(_QUESTION),
        "max_tokens": 12,
        "temperature": 0,
        **changes,
    }
    return {name: value for name, value in body.items() if value is not LEFT_OUT}


def chat(target: Target, **changes: object) -> Script[Reply]:
    """Ask for a chat completion."""
    return ask(target, "POST", CHAT, chat_body(target, **changes))


@frozen(kw_only=True)
class Streamed:
    """A stream that came to its end."""

    reply: Reply
    events: tuple[Any, ...]
    """The JSON value of each event but the last."""
    done: bool
    """Whether the last one was `[DONE]`."""

    def text(self, index: int = 0) -> str:
        """All text of a choice of a chat."""
        pieces = [
            choice.get("delta", {}).get("content") or ""
            for event in self.events
            for choice in event.get("choices", ())
            if choice.get("index") == index
        ]
        return "".join(pieces)


def events_of(reply: Reply) -> Streamed:
    """Take a stream of events apart."""
    decoder = SSEDecoder(max_event_size=_EVENT_LIMIT)
    decoder.receive_data(reply.body)
    decoder.receive_eof()
    events: list[Any] = []
    done = False
    # What comes behind the end is judged by a case of its own.
    while not done and (event := decoder.next_event()) is not None and event is not NEED_DATA:
        if event.data == DONE:
            done = True
            continue
        try:
            value = load_json(event.data.encode())
        except ContentError as error:
            raise Unmet("stream", f"expected JSON in each event, got {event.data[:80]!r}: {error}") from None
        if not isinstance(value, Mapping):
            raise Unmet("stream", f"expected an object in each event, got {event.data[:80]!r}")
        events.append(value)
    return Streamed(reply=reply, events=tuple(events), done=done)


def stream(target: Target, **changes: object) -> Script[Streamed]:
    """Ask for a chat as a stream, and expect one."""
    return stream_of(target, CHAT, chat_body(target, stream=True, **changes))


def stream_of(target: Target, path: str, body: object) -> Script[Streamed]:
    """Ask for something as a stream, and expect one."""
    reply = yield from ask(target, "POST", path, body)
    expect_status(reply, 200)
    return events_of(reply)


def progress_of(reply: Reply) -> tuple[list[Progress], DownloadResult]:
    """Take a download's answer apart: its updates, and what became of it."""
    decoder = ProgressDecoder(max_event_size=_EVENT_LIMIT)
    decoder.receive_data(reply.body)
    decoder.receive_eof()
    updates: list[Progress] = []
    try:
        # A stream that is over without a result is an error of the decoder.
        while not isinstance(event := decoder.next_event(), DownloadResult):
            if isinstance(event, Progress):
                updates.append(event)
    except RemoteProtocolError as error:
        raise Unmet("progress", str(error)) from None
    return updates, event
