"""A WebSocket's client that plays it frame by frame, over a memory transport."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Any, cast

import anyio

from foundry_runtime.transport import Handler, Listener, Transport, TransportBroken, memory_transport_pair
from tests.support.masking import CLOSE, PING, PONG, TEXT, frame
from tests.support.serving import Served

__all__ = ["UPGRADE", "OneConnection", "RawClient", "upgrade", "upgrade_on"]

UPGRADE = (
    b"GET /foundry/watch HTTP/1.1\r\nHost: localhost:5272\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class RawClient:
    """What a client sends, and what it gets, frame by frame."""

    def __init__(self, transport: Transport, behind: bytes) -> None:
        self.transport = transport
        self._held = behind

    async def send(self, *frames: bytes) -> None:
        await self.transport.send(b"".join(frames))

    async def say(self, **message: Any) -> None:
        await self.send(frame(TEXT, json.dumps(message).encode()))

    async def receive(self) -> tuple[int, bytes] | None:
        """The next frame's opcode and payload; `None` at the end."""
        while (found := self._take()) is None:
            if not (data := await self.transport.receive()):
                assert self._held == b""
                return None
            self._held += data
        return found

    def _take(self) -> tuple[int, bytes] | None:
        if len(self._held) < 4:
            short = len(self._held) < 2 or self._held[1] > len(self._held) - 2
            if short:
                return None
        size, start = self._held[1], 2
        if size == 126:
            size, start = struct.unpack("!H", self._held[2:4])[0], 4
        elif size == 127:
            if len(self._held) < 10:
                return None
            size, start = struct.unpack("!Q", self._held[2:10])[0], 10
        if len(self._held) < start + size:
            return None
        opcode, payload = self._held[0] & 0xF, self._held[start : start + size]
        self._held = self._held[start + size :]
        return opcode, payload

    async def hear(self) -> dict[str, Any]:
        """The next text; pings are answered, as by any client."""
        while (found := await self.receive()) is not None:
            opcode, payload = found
            if opcode == PING:
                await self.send(frame(PONG, payload))
            elif opcode == TEXT:
                plain: dict[str, Any] = json.loads(payload)
                return plain
            else:
                raise AssertionError(f"expected a text, got {found}")
        raise AssertionError("expected a text, got the end")

    async def closed(self, said: list[dict[str, Any]] | None = None) -> tuple[int, str]:
        """The code and the reason of the server's close, which is echoed; texts before it are kept."""
        while (found := await self.receive()) is not None:
            if found[0] == TEXT and said is not None:
                said.append(json.loads(found[1]))
            if found[0] == CLOSE:
                code = struct.unpack("!H", found[1][:2])[0] if found[1] else 1005
                with suppress(TransportBroken):
                    await self.send(frame(CLOSE, found[1][:2]))
                    while await self.transport.receive():
                        pass
                await self.transport.aclose()
                return code, found[1][2:].decode()
        raise AssertionError("expected a close, got the end")


async def upgrade(served: Served, behind: bytes = b"") -> RawClient:
    """Open a WebSocket."""
    return await upgrade_on(await served.connect(), behind)


async def upgrade_on(transport: Transport, behind: bytes = b"") -> RawClient:
    """Open a WebSocket on a connection; what is behind the request is sent with it."""
    await transport.send(UPGRADE + behind)
    data = b""
    while b"\r\n\r\n" not in data:
        data += await transport.receive()
    head, _, rest = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    name = head.partition(b": s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")[0]
    assert name.lower().endswith(b"\r\nsec-websocket-accept"), head
    return RawClient(transport, rest)


class OneConnection:
    """A listener that accepts one connection, through memory."""

    def __init__(self) -> None:
        self.client, self._server = memory_transport_pair(peer="127.0.0.1:50123")
        self._closed = anyio.Event()

    def as_listener(self) -> Listener:
        return cast("Listener", self)

    async def serve(self, handler: Handler, *, crowd: object = None) -> None:
        await handler(self._server)
        await self._closed.wait()

    async def aclose(self) -> None:
        self._closed.set()
