"""Many streamed chats at once, from one thread: a client that costs the server next to nothing.

Requests are made before; what comes is only cut at the blank lines between events, and each event with text
gets the time at which its bytes were read. Works with any server that speaks OpenAI's API over plain HTTP.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
from collections.abc import Sequence
from time import perf_counter
from urllib.parse import urlsplit

from attrs import Factory, define, frozen

__all__ = ["Chat", "Server", "percentile"]

_CONTENT = re.compile(rb'"content": ?"(?!")|"content": ?"\\"')
_TIMEOUT = 600.0


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which this part of all lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


@define(eq=False)
class Chat:
    """One streamed chat and when its tokens came, in seconds of `perf_counter`."""

    request: bytes
    after: float = 0.0
    """Seconds to wait, from the beginning of all, before it is sent."""
    sent: float = 0.0
    times: list[float] = Factory(list)
    """When each piece of text came."""
    end: float = 0.0
    status: int = 0
    data: bytearray = Factory(bytearray)
    seen: int = 0

    @property
    def first(self) -> float:
        """Seconds from the request to the first text; to the end of an answer without any."""
        return (self.times[0] if self.times else self.end) - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between two pieces of text."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    @property
    def text(self) -> str:
        """The whole answer."""
        pieces = re.findall(rb"data: (\{.*?\})\n\n", bytes(self.data), re.DOTALL)
        deltas = [one["choices"][0]["delta"] for one in map(json.loads, pieces) if one.get("choices")]
        return "".join(delta.get("content") or "" for delta in deltas)

    def usage(self, name: str) -> int:
        """A number of the usage object."""
        found = re.search(rb'"%b": ?(\d+)' % name.encode(), self.data)
        assert found is not None, f"no {name} in {bytes(self.data[-500:])!r}"
        return int(found[1])

    def take(self, data: bytes, now: float) -> bool:
        """Take what was read; whether the answer is whole."""
        self.data += data
        # Only whole events are looked at; chunk framing stands between them and does no harm.
        whole = self.data.rfind(b"\n\n") + 2
        if whole > self.seen:
            self.times += [now] * len(_CONTENT.findall(self.data, self.seen, whole))
            self.seen = whole
        if not self.status and len(self.data) > 12:
            self.status = int(self.data[9:12])
        return b"data: [DONE]" in self.data[-64:] or (self.status >= 400 and b"\r\n\r\n" in self.data)


@frozen
class Server:
    """A server, by its base URL such as `http://127.0.0.1:5272/v1`."""

    url: str
    model: str

    def body(self, messages: Sequence[object], **options: object) -> bytes:
        """A streamed request with its usage at the end."""
        return json.dumps(
            {
                "model": self.model,
                "messages": messages,
                "stream": True,
                "stream_options": {"include_usage": True},
                **options,
            },
            ensure_ascii=False,
        ).encode()

    def run(self, chats: Sequence[Chat]) -> Sequence[Chat]:
        """Send all, each in a connection of its own, and read them to their ends."""
        parts = urlsplit(self.url)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        path = parts.path.rstrip("/") + "/chat/completions"
        with selectors.DefaultSelector() as selector:
            begin = perf_counter()
            waiting = sorted(chats, key=lambda chat: chat.after)
            open_chats = 0
            while waiting or open_chats:
                now = perf_counter()
                assert now - begin < _TIMEOUT, "the server does not end its answers"
                while waiting and begin + waiting[0].after <= now:
                    chat = waiting.pop(0)
                    head = (
                        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
                        f"Connection: close\r\nContent-Length: {len(chat.request)}\r\n\r\n"
                    )
                    connection = socket.create_connection(address)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    chat.sent = perf_counter()
                    connection.sendall(head.encode() + chat.request)
                    selector.register(connection, selectors.EVENT_READ, chat)
                    open_chats += 1
                wait = begin + waiting[0].after - perf_counter() if waiting else 1.0
                for key, _ in selector.select(max(wait, 0.0)):
                    assert isinstance(key.fileobj, socket.socket)
                    data, now = key.fileobj.recv(1 << 16), perf_counter()
                    if not data or key.data.take(data, now):
                        key.data.end = now
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        open_chats -= 1
        for chat in chats:
            assert chat.status == 200, f"{self.url}: {bytes(chat.data[:500])!r}"
        return chats
