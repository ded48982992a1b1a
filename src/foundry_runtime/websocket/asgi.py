"""A WebSocket that an ASGI server has framed: whole texts, as a conversation is held over them.

Knows: ASGI's messages of a WebSocket from its acceptance on; that one task gives the server what is sent; how
long a reader may take, and how to part from it.
Refuses to know: frames, signs of life and the closing handshake, which are the server's; which request may
have a WebSocket (`foundry_runtime/asgi.py`); what the texts mean.

Memory: as of any `WebSocket`; what comes in waits in the server.

Source: the ASGI specification 3.0, "HTTP & WebSocket ASGI Message Format" 2.5.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import anyio
from attrs import define, field

from foundry_runtime.application import Hangup
from foundry_runtime.websocket.frames import (
    ABNORMAL,
    GOING_AWAY,
    NO_TEXT,
    NORMAL,
    TOO_BIG,
    UNSUPPORTED,
    too_big,
)
from foundry_runtime.websocket.outbox import Outbox
from foundry_runtime.websocket.socket import Patience, parting_from

if TYPE_CHECKING:
    from foundry_runtime.asgi import Message, Receive, SendMessage

__all__ = ["ASGISocket", "open_asgi_socket"]

_GONE: Final = (OSError, RuntimeError)
"""How a server tells that the client is gone: the first since version 2.4 of the messages; uvicorn has the
second for what crosses a close of its own."""
_NO_CODE: Final = 1005
_LONGEST_REASON: Final = 123


@asynccontextmanager
async def open_asgi_socket(
    receive: Receive, send: SendMessage, *, limit: int, patience: Patience | None = None
) -> AsyncIterator[ASGISocket]:
    """Accept a WebSocket; the end of the context closes it.

    Args:
        receive: Gives the server's messages, of which the first, `websocket.connect`, was taken.
        send: Gives the server a message.
        limit: The most bytes of a text.
        patience: How long the peer may take; its silence is the server's to notice.
    """
    socket = ASGISocket(receive, send, limit, patience or Patience())
    async with parting_from(socket, socket.keep_writing, socket.keep_time):
        yield socket


@define(eq=False)
class ASGISocket:
    """A `TextSocket`; made by `open_asgi_socket`."""

    _receive_message: Receive
    _send_message: SendMessage
    _limit: int
    _patience: Patience
    code: int | None = field(init=False, default=None)
    """Why it is closed, once it is: the peer's reason, or what it did wrong; 1006 where it was lost."""
    reason: str = field(init=False, default="")
    """The same in words."""
    _outbox: Outbox[Message] = field(init=False, factory=Outbox)
    _good_bye: Message | None = field(init=False, default=None)
    """What is said at last, once that is known."""
    _parted: bool = field(init=False, default=False)
    """Whether it was said."""
    _writing_since: float = field(init=False, default=math.inf)
    """When the server got a message that it has not taken yet."""
    _reading: anyio.CancelScope = field(init=False, factory=anyio.CancelScope)
    """Around what waits for the peer."""
    _part_by: float = field(init=False, default=math.inf)

    async def receive(self) -> bytes | None:
        """Wait for the peer's next text; `None` once there will be none."""
        while self.code is None:
            with anyio.CancelScope(deadline=self._part_by) as self._reading:
                message = await self._receive_message()
                if message["type"] == "websocket.disconnect":
                    self._end(message.get("code") or _NO_CODE, message.get("reason") or "")
                elif self._good_bye is None and (text := self._checked(message)) is not None:
                    return text
            if self._reading.cancelled_caught:
                self._end()
        return None

    def _checked(self, message: Message) -> bytes | None:
        """A message's text; without one, and with one that is too large, good-bye is said."""
        text: str | None = message.get("text")
        if text is None:
            self._fail(UNSUPPORTED, NO_TEXT)
        elif len(data := text.encode()) > self._limit:
            self._fail(TOO_BIG, too_big(self._limit))
        else:
            return data
        return None

    def _fail(self, code: int, reason: str) -> None:
        self.close(code, reason)
        self.code, self.reason = code, reason

    async def send(self, *texts: bytes) -> None:
        """Send texts, and wait until they have left; see `TextSocket.send`."""
        if self._outbox.gone or self._good_bye is not None:
            raise Hangup
        messages: list[Message] = [{"type": "websocket.send", "text": text.decode()} for text in texts]
        if messages and not await self._outbox.put_through(*messages):
            raise Hangup

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Say good-bye behind what is on its way; see `TextSocket.close`."""
        if self._good_bye is not None:
            return
        self._good_bye = _close(code, reason)
        self._outbox.put(self._good_bye)
        self._part_by = self._reading.deadline = anyio.current_time() + self._patience.linger

    async def keep_writing(self) -> None:
        """Accept, and write what waits, until nothing can be written; a task of the context's."""
        await self._write([{"type": "websocket.accept"}])
        await self._outbox.keep_writing(self._write)

    async def _write(self, messages: list[Message]) -> None:
        for message in messages:
            self._writing_since = anyio.current_time()
            try:
                await self._send_message(message)
            except _GONE:
                self._lose()
                return
            self._parted = message is self._good_bye
        self._writing_since = math.inf

    async def keep_time(self) -> None:
        """Give up a reader that takes nothing; a task of the context's.

        The time is looked at rarely, and not with each message: so a reader has up to twice as much of it. A
        send has no deadline of its own, since hypercorn on trio lets nobody cancel it.
        """
        while True:
            begun = min(self._writing_since, anyio.current_time())
            await anyio.sleep_until(begun + self._patience.write)
            if anyio.current_time() - self._writing_since >= self._patience.write:
                self._lose()
                return

    async def part(self) -> None:
        """Say good-bye, if nobody has, and wait a little until the server has parted from the peer."""
        self.close()
        with anyio.move_on_after(self._patience.linger):
            await self._outbox.put_through()
            while not self._outbox.gone:
                if (await self._receive_message())["type"] == "websocket.disconnect":
                    self._outbox.give_up()

    async def farewell(self) -> None:
        """Say good-bye where all is cut in the middle."""
        if not self._parted and not self._outbox.gone:
            with suppress(*_GONE):
                await self._send_message(self._good_bye or _close(GOING_AWAY))

    def _lose(self) -> None:
        """Give the connection up: whoever waits for it is woken."""
        self._end()
        self._reading.cancel()

    def _end(self, code: int = ABNORMAL, reason: str = "the connection was lost") -> None:
        if self.code is None:
            self.code, self.reason = code, reason
        self._outbox.give_up()


def _close(code: int, reason: str = "") -> Message:
    shortened = reason.encode()[:_LONGEST_REASON].decode(errors="ignore")
    return {"type": "websocket.close", "code": code, "reason": shortened}
