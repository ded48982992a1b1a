"""The application under an ASGI server: uvicorn, hypercorn, or whatever another application is mounted in.

Knows: ASGI's messages, how its scope becomes a request's head, that a client which hangs up wants no more
work done for it, and how a WebSocket is refused; what an accepted one is, `foundry_runtime/websocket/` knows.
Refuses to know: HTTP's bytes and a WebSocket's frames, connections and their keep-alive, which are the
server's; and what a request means, which `ServerExchange` says here as it does for the native server.

    application = ASGIApplication(Application(operations, handlers, lifespan))

Its lifespan keeps the application `running`. A framework that mounts it does not hand the lifespan on: there
the outer application's own enters `application.running()`; without either every request is answered by 503.

Source: the ASGI specification 3.0, "HTTP & WebSocket ASGI Message Format" 2.5 and "Lifespan Protocol" 2.0.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final, assert_never
from urllib.parse import quote, unquote

import anyio
import anyio.to_thread
from attrs import define, field

from foundry_proto.connection import Limits
from foundry_proto.events import Failure, Head, Headers, Request, Response, Upgrade
from foundry_proto.exchange import Answer, Data, End, Piece, ServerExchange, Start
from foundry_proto.upgrade import as_handshake
from foundry_runtime.application import Application, Hangup
from foundry_runtime.server import LARGE_BODY, TimeOuts, request_timed_out

if TYPE_CHECKING:
    from foundry_runtime.websocket import Conversing

__all__ = ["ASGIApplication", "Message", "Receive", "Scope", "SendMessage", "address_of", "target_of"]

logger = logging.getLogger(__name__)

_NO_WEBSOCKET: Final = Failure(
    status=501, message="the server that carries this application opens no WebSockets", type="server_error"
)
_GONE: Final = ("http.disconnect", "websocket.disconnect")
_KEPT: Final = "%!$&'()*+,-./:;=?@[]_~"
"""What a target keeps as it came; anything beyond a target's letters is written in percent."""

Scope = MutableMapping[str, Any]
"""What an ASGI server says of a connection."""

Message = MutableMapping[str, Any]
"""What goes between an ASGI server and its application."""

Receive = Callable[[], Awaitable[Message]]
"""Waits for the server's next message."""

SendMessage = Callable[[Message], Awaitable[None]]
"""Gives the server a message."""


class ASGIApplication:
    """An `Application` as an ASGI server calls it.

    Args:
        application: What answers, and its gate decides who may ask.
        limits: `body` and `depth` count; the others are the server's own.
        time_outs: `body` is how long a request's body may take, `write` how long a reader may leave what is
            written, `linger` how long it takes to part from a WebSocket; the others are the server's own.
    """

    def __init__(
        self,
        application: Application[Any],
        *,
        limits: Limits | None = None,
        time_outs: TimeOuts | None = None,
    ) -> None:
        self._application = application
        self._limits = limits or Limits()
        self._time_outs = time_outs or TimeOuts()
        self._conversations: set[Conversing] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: SendMessage) -> None:
        """Serve one connection, as ASGI has it: a request, a WebSocket, or the server's life.

        Raises:
            RuntimeError: A scope that is none of ASGI's.
        """
        match scope["type"]:
            case "http":
                served = self._served(scope, receive, send)
                event = await served.read(scope["method"], _headers_of(scope))
                await served.answer(_NO_WEBSOCKET if isinstance(event, Upgrade) else event)
            case "websocket":
                await self._open(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case other:
                raise RuntimeError(f"scope: expected http, lifespan or websocket, got {other}")

    def _served(self, scope: Scope, receive: Receive, send: SendMessage) -> _Served:
        exchange = ServerExchange(
            self._application.operations,
            client=address_of(scope.get("client")),
            gate=self._application.gate,
            body_limit=self._limits.body,
            depth=self._limits.depth,
        )
        return _Served(self._application, exchange, self._time_outs, scope, receive, send)

    async def _open(self, scope: Scope, receive: Receive, send: SendMessage) -> None:
        """Serve a WebSocket, or say why it is refused: as is a request over HTTP that asks for one."""
        if (await receive())["type"] in _GONE:
            return
        served = self._served(scope, receive, _denying(scope, send))
        event = await served.read("GET", as_handshake(_headers_of(scope)))
        if isinstance(event, Upgrade):
            await self._converse(event.head, receive, send)
        else:
            await served.answer(event)

    async def _converse(self, head: Head, receive: Receive, send: SendMessage) -> None:
        # Only now: an application without the row needs no package for it.
        from foundry_runtime.websocket import Conversing, Patience, text_limit  # noqa: PLC0415
        from foundry_runtime.websocket.asgi import open_asgi_socket  # noqa: PLC0415

        patience = Patience(write=self._time_outs.write, linger=self._time_outs.linger)
        limit = text_limit(self._limits)
        async with open_asgi_socket(receive, send, limit=limit, patience=patience) as socket:
            conversation = Conversing(socket, self._application, head, self._limits)
            self._conversations.add(conversation)
            try:
                await conversation.run()
            finally:
                self._conversations.discard(conversation)

    async def _live(self, receive: Receive, send: SendMessage) -> None:
        """Keep the application running from the server's start to its end."""
        started = False
        await receive()
        try:
            async with self._application.running():
                started = True
                await send({"type": "lifespan.startup.complete"})
                await receive()
                for conversation in self._conversations:
                    conversation.stop()
        # The server is told, and ends; a cancellation is its own doing, and passes.
        except Exception as error:
            logger.exception("the application failed")
            kind = "shutdown" if started else "startup"
            await send({"type": f"lifespan.{kind}.failed", "message": _reason(error)})
        else:
            await send({"type": "lifespan.shutdown.complete"})


def _reason(error: BaseException) -> str:
    """The first failure in its own words: task groups wrap it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


@define(eq=False)
class _Served:
    """One request while it is served."""

    _application: Application[Any]
    _exchange: ServerExchange
    _time_outs: TimeOuts
    _scope: Scope
    _receive: Receive
    _send_message: SendMessage
    _head: Head | None = field(init=False, default=None)
    _unsent: list[Piece] = field(init=False, factory=list)
    """What the exchange has given and was not sent: the rest of a call that misused it."""
    _writing: bool = field(init=False, default=False)
    """Whether the server has a message of ours and did not return yet."""
    _written: int = field(init=False, default=0)
    """How many messages the server was given."""

    async def read(
        self, method: str, headers: Headers
    ) -> Request[Any] | Upgrade | Response[None] | Failure | None:
        """Read the request, or as much of it as it takes to refuse it; nothing if the client leaves."""
        event = self._exchange.receive_head(method, target_of(self._scope), headers)
        if not isinstance(event, Head):
            return event
        self._head = event
        return self._application.check(event) or await self._read_body(event)

    async def answer(self, event: Request[Any] | Response[None] | Failure | None) -> None:
        """Answer what was read."""
        try:
            match event:
                case Request():
                    await self._application.handle(event, self)
                case Failure():
                    await self.send(self._application.refused(event, self._head))
                case Response():
                    await self.send(event)
        except Hangup:
            pass

    async def _read_body(self, head: Head) -> Request[Any] | Upgrade | Failure | None:
        """Read the body to its end, or to where it is too large or too slow; nothing if the client leaves."""
        if not head.operation.has_body:
            # Choice: what else came with the request is the server's to drop.
            return self._exchange.receive_end()
        size, seconds = 0, self._time_outs.body
        with anyio.move_on_after(seconds) as patience:
            more = True
            while more:
                message = await self._receive()
                if message["type"] in _GONE:
                    return None
                body, more = message.get("body", b""), message.get("more_body", False)
                size += len(body)
                if (failure := self._exchange.receive_body(body)) is not None:
                    return failure
        if patience.cancelled_caught:
            return request_timed_out("body", seconds)
        if size < LARGE_BODY:
            return self._exchange.receive_end()
        return await anyio.to_thread.run_sync(self._exchange.receive_end)

    @property
    def answered(self) -> bool:
        """Whether the whole answer was sent."""
        return self._exchange.answered

    async def is_gone(self) -> bool:
        """Wait for the client to hang up, or to read nothing in all of the time that it is given.

        The time is looked at rarely, and not with each message: so a reader has up to twice as much of it.
        """
        before = -1
        while True:
            with anyio.move_on_after(self._time_outs.write) as patience:
                if (await self._receive())["type"] in _GONE:
                    # Some servers say so while they take the end of the answer: that must not be cut.
                    return not self.answered
            if patience.cancelled_caught:
                if self._writing and self._written == before:
                    return True
                before = self._written

    async def send(self, *events: Answer) -> None:
        """Answer, in as few messages as may be."""
        if len(events) == 1 and not self._unsent and (item := self._exchange.send_item(events[0])):
            await self._write(_body(item, more=True))  # Nearly always: a token of a chat.
            return
        for event in events:
            self._unsent += self._exchange.send(event)
        unsent, self._unsent = self._unsent, []
        for message, after in _messages(unsent):
            if after:
                await anyio.sleep(after)
            await self._write(message)

    async def _write(self, message: Message) -> None:
        self._written += 1
        self._writing = True
        try:
            await self._send_message(message)
        except OSError as error:  # How a server tells that the client is gone, if it does.
            raise Hangup from error
        finally:
            self._writing = False


def _messages(pieces: Sequence[Piece]) -> Iterator[tuple[Message, float]]:
    """Pieces of an answer as messages, each with the seconds to wait before; none is joined across a wait."""
    body, after = b"", 0.0
    for piece in pieces:
        match piece:
            case Start():
                headers = list(piece.headers)
                yield {"type": "http.response.start", "status": piece.status, "headers": headers}, 0.0
            case Data() if piece.after and body:
                yield _body(body, more=True), after
                body, after = piece.data, piece.after
            case Data():
                body, after = body + piece.data, after or piece.after
            case End():
                yield _body(body, more=False), after
                return
            case _:
                assert_never(piece)
    if body:
        yield _body(body, more=True), after


def _body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def _headers_of(scope: Scope) -> Headers:
    # The specification has the names in lower case; uvicorn does not where `websockets` reads them.
    return tuple((name.lower(), value) for name, value in scope["headers"])


def _denying(scope: Scope, send: SendMessage) -> SendMessage:
    """Answer over HTTP who asked for a WebSocket: by the server's extension for that, or a mere 403."""
    extended = "websocket.http.response" in (scope.get("extensions") or {})

    async def deny(message: Message) -> None:
        if extended:
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})  # Nobody sees the code.

    return deny


def target_of(scope: Scope) -> str:
    """The request's target, below the prefix that the application is mounted at.

    Choice: where a proxy has taken the prefix away already, `root_path` names it nevertheless; so a path that
    does not begin with it is taken as it is, as Starlette does.
    """
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"] if raw is None else raw, safe=_KEPT if raw else "/")
    prefix: str = scope.get("root_path", "").rstrip("/")
    if prefix:
        segments, depth = path.split("/"), prefix.count("/") + 1
        if unquote("/".join(segments[:depth])) == prefix:
            path = "/" + "/".join(segments[depth:])
    query: bytes = scope.get("query_string", b"")
    return f"{path}?{quote(query, safe=_KEPT)}" if query else path


def address_of(client: Sequence[Any] | None) -> str | None:
    """A peer's address, as `Head.client` has it; `None` where the server knows none."""
    if not client or client[1] is None:
        return None
    host, port = client[0], client[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
