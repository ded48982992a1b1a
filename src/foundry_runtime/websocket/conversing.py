"""Serves a conversation over whatever carries its texts: chats side by side, and one watch.

Knows: that each chat is a task of its own which its client may cancel, that a new watch ends the one before,
who is let go for reading too slowly, and how to stop without cutting answers.
Refuses to know: what texts mean (`foundry_proto.conversation`), frames, and what handlers do.
"""

from __future__ import annotations

from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from attrs import define, field

from foundry_proto.connection import Limits
from foundry_proto.conversation import Called, Cancelled, Refused, ServerConversation, WatchBegun
from foundry_proto.errors import LocalProtocolError
from foundry_proto.events import Failure, Head
from foundry_proto.exchange import Answer
from foundry_proto.operations import MAX_REQUEST_BODY
from foundry_runtime.application import Application, Hangup
from foundry_runtime.feed import TooSlow
from foundry_runtime.websocket.frames import GOING_AWAY, POLICY
from foundry_runtime.websocket.socket import TextSocket

__all__ = ["Conversing", "text_limit"]

_LARGE_TEXT: Final = 64 * 1024
"""Bytes of a text from which on it is read in a thread; to hand it over takes 0.1 ms."""

_ENVELOPE: Final = 64 * 1024
"""Bytes of a text beside a body."""

_STOPPING: Final = "the server is stopping"


def text_limit(limits: Limits) -> int:
    """The most bytes of a text: as large a body as over HTTP, and what stands around it.

    Args:
        limits: Those of the server's connections.
    """
    return (limits.body or MAX_REQUEST_BODY) + _ENVELOPE


@define(eq=False)
class Conversing:
    """One conversation while it is served.

    Args:
        socket: Carries the texts; who opened it closes it.
        application: What answers; it is `running`.
        head: The request that opened it.
        limits: How much a body may have.
    """

    _socket: TextSocket
    _application: Application[Any]
    _head: Head
    _limits: Limits = field(factory=Limits)
    _conversation: ServerConversation = field(init=False)
    _chats: dict[str, anyio.CancelScope] = field(init=False, factory=dict)
    _watch: anyio.CancelScope | None = field(init=False, default=None)
    _stopping: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._conversation = ServerConversation(
            self._application.operations,
            head=self._head,
            check=self._check,
            body_limit=self._limits.body,
            depth=self._limits.depth,
        )

    def _check(self, head: Head) -> Failure | None:
        if self._stopping:
            return Failure(status=503, message=_STOPPING, type="server_error")
        return self._application.check(head)

    def stop(self) -> None:
        """Take no more chats, and close when those that run are answered."""
        self._stopping = True
        self._end_watch()
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._stopping and not self._chats:
            self._socket.close(GOING_AWAY, _STOPPING)

    async def run(self) -> None:
        """Serve until the client or the server closes; what still runs then is cancelled."""
        async with anyio.create_task_group() as group:
            try:
                while (text := await self._socket.receive()) is not None:
                    await self._take(text, group)
            except Hangup:
                pass
            group.cancel_scope.cancel()

    async def _take(self, text: bytes, group: TaskGroup) -> None:
        if len(text) < _LARGE_TEXT:
            event = self._conversation.receive(text)
        else:
            # Chats are answered meanwhile; the conversation allows it.
            event = await anyio.to_thread.run_sync(self._conversation.receive, text)
        match event:
            case Called():
                scope = self._chats[event.id] = anyio.CancelScope()
                group.start_soon(self._answer, event, scope)
            case Cancelled() if event.id in self._chats:
                self._chats[event.id].cancel()
            case WatchBegun():
                self._end_watch()
                self._watch = anyio.CancelScope()
                group.start_soon(self._tell, event, self._watch)
            case Refused():
                await self._socket.send(event.data)

    async def _answer(self, call: Called, scope: anyio.CancelScope) -> None:
        carrier = _Chat(self._socket, self._conversation, call.id)
        try:
            with scope:
                await self._application.handle(call.request, carrier)
            if not carrier.answered:
                await self._socket.send(*self._conversation.cancelled(call.id))
        except Hangup:
            pass  # The reader will notice, too.
        finally:
            if self._chats.get(call.id) is scope:
                del self._chats[call.id]
            self._close_when_done()

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def _tell(self, watch: WatchBegun, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await self._application.handle(watch.request, _Watch(self._socket, self._conversation, scope))
            except TooSlow as error:
                self._socket.close(POLICY, str(error))
            except Hangup:
                pass


@define(eq=False)
class _Chat:
    """What carries one chat's answer."""

    _socket: TextSocket
    _conversation: ServerConversation
    _id: str
    answered: bool = field(init=False, default=False)
    """From there on the id may be another chat's."""

    async def send(self, *events: Answer) -> None:
        if self.answered:
            raise LocalProtocolError("cannot send after a whole answer")
        texts = self._conversation.send(self._id, *events)
        self.answered = self._id not in self._conversation.running
        await self._socket.send(*texts)

    async def is_gone(self) -> bool:
        return False  # Who notices that is the reader, which ends all that runs.


@define(eq=False)
class _Watch:
    """What carries what is watched."""

    _socket: TextSocket
    _conversation: ServerConversation
    _scope: anyio.CancelScope
    answered: bool = field(init=False, default=False)

    async def send(self, *events: Answer) -> None:
        # What one watch has to tell must not come behind what the next one says.
        if self._scope.cancel_called:
            await anyio.lowlevel.checkpoint()
        await self._socket.send(*self._conversation.send(None, *events))

    async def is_gone(self) -> bool:
        return False
