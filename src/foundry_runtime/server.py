"""Serves an application over transports: moves bytes between them and `ServerConnection`.

Knows: which phase of a connection is given how long, that a client which hangs up wants no more work done for
it, and how to stop without cutting answers.
Refuses to know: HTTP (the connection object), what answers are (the application), sockets (the transport).

Two functions touch the connection object: `_next_event` brings bytes in, `send` takes bytes out. A watcher
reads only while a `long` operation runs; what it reads it feeds to the same object, so no byte is lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any, Final, assert_never

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus
from attrs import define, field, frozen

from foundry_proto import __version__
from foundry_proto.connection import Limits, Phase, ServerConnection
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Disconnected, Failure, Head, Headers, Request, Response, Upgrade
from foundry_proto.exchange import Answer
from foundry_proto.sentinels import NEED_DATA, NeedData
from foundry_runtime.application import Application, Hangup
from foundry_runtime.crowd import Crowd, CrowdLimits
from foundry_runtime.transport import Listener, Transport, TransportBroken, TransportClosed

if TYPE_CHECKING:
    from foundry_runtime.websocket import Conversing

__all__ = ["LARGE_BODY", "TimeOuts", "request_timed_out", "serve", "serve_connection"]

logger = logging.getLogger(__name__)


@frozen(kw_only=True)
class TimeOuts:
    """How long a connection may wait, in seconds."""

    idle: float = 75.0
    """For the first byte of a request."""
    head: float = 10.0
    """For a whole head, from its first byte on."""
    body: float = 60.0
    """For a whole body, from the head's end on."""
    write: float = 30.0
    """For a reader to take something of what is written, each time."""
    linger: float = 2.0
    """For a client to read the last answer, when more came than was read, or to part from a WebSocket."""
    silence: float = 40.0
    """For a sign of life on a WebSocket; it is asked for at half of that."""

    def of(self, phase: Phase) -> float:
        """How long a phase may last."""
        return {Phase.IDLE: self.idle, Phase.HEAD: self.head, Phase.BODY: self.body}.get(phase, self.linger)


class _StandardHeaders:
    """`Server` and `Date` (RFC 9110, section 6.6.1), the date written once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._headers: Headers = ()

    def __call__(self) -> Headers:
        now = int(time.time())
        if now != self._second:
            self._second = now
            date = formatdate(now, usegmt=True).encode()
            self._headers = ((b"server", _SERVER), (b"date", date))
        return self._headers


_SERVER: Final = b"foundry-proto/" + __version__.encode()
_standard_headers: Final = _StandardHeaders()
LARGE_BODY: Final = 64 * 1024
"""Bytes of input from which on it is read in a thread; to hand it over takes 0.1 ms."""
_LOST: Final = (TransportBroken, TransportClosed, TimeoutError)


def request_timed_out(part: str, seconds: float) -> Failure:
    """What a client is told whose request's head or body did not come in time."""
    message = f"expected the request's whole {part} within {seconds:g} seconds"
    return Failure(status=408, message=message, code="request_timeout")


async def serve_connection(
    transport: Transport,
    application: Application[Any],
    *,
    limits: Limits | None = None,
    time_outs: TimeOuts | None = None,
) -> None:
    """Serve one connection to its end, and close it.

    Args:
        transport: The connection; this call owns it.
        application: What answers; it is `running`.
        limits: How much the peer may make us hold.
        time_outs: How long we wait for it.
    """
    await _Served(transport, application, limits or Limits(), time_outs or TimeOuts()).run()


@define(eq=False)
class _Served:
    """One connection while it is served."""

    _transport: Transport
    _application: Application[Any]
    _limits: Limits
    _time_outs: TimeOuts
    _connection: ServerConnection = field(init=False)
    _timed: Phase | None = field(init=False, default=None)
    """The phase whose input is waited for, and that the transport's deadline belongs to."""
    _stopping: bool = field(init=False, default=False)
    _conversation: Conversing | None = field(init=False, default=None)
    """What is said on the connection since it is a WebSocket."""
    _head: Head | None = field(init=False, default=None)
    """Of the request that comes, once it is there."""
    _taken: int = field(init=False, default=0)
    """Bytes that came since the last request was whole."""

    def __attrs_post_init__(self) -> None:
        self._connection = ServerConnection(
            self._application.operations,
            limits=self._limits,
            headers=_standard_headers,
            client=self._transport.peer,
            gate=self._application.gate,
        )
        self._transport.send_patience = self._time_outs.write

    def stop(self) -> None:
        """End the connection as soon as no answer is under way."""
        self._stopping = True
        if self._conversation is not None:
            self._conversation.stop()
        # Not the connection's own phase: an answer's end may still be leaving when it waits for a request.
        if self._timed in (Phase.IDLE, Phase.HEAD):
            self._transport.deadline = 0.0

    async def run(self) -> None:
        """Serve until either side is done."""
        try:
            while await self._serve_next():
                pass
            if self._connection.phase is Phase.CLOSING:
                await self._linger()
        except (Hangup, *_LOST):
            pass  # The peer is gone, or was waited for long enough.
        finally:
            await self._transport.aclose()

    async def _serve_next(self) -> bool:
        """Serve one event; whether to go on."""
        if self._stopping and self._connection.phase in (Phase.IDLE, Phase.HEAD):
            return False
        match event := await self._next_event():
            case Head():
                self._head = event
                await self._decide(event)
            case Request():
                self._head = None
                await self._respond(event)
            case Upgrade():
                await self._converse(event)
                return False
            case Failure():
                await self._refuse(event)
            case Response():
                await self.send(event)
            case Disconnected() | None:
                return False
            case _:
                assert_never(event)
        return True

    async def _next_event(
        self,
    ) -> Head | Request[Any] | Upgrade | Failure | Response[None] | Disconnected | None:
        """Bring bytes in until they mean something; `None` when the connection closes."""
        while True:
            try:
                event = self._connection.next_event() if self._is_small else await self._interpret()
            except RemoteProtocolError as error:
                return error.failure
            if event is not NEED_DATA:
                if not isinstance(event, Head):
                    self._taken = 0
                return event
            phase = self._connection.phase
            if phase is Phase.CLOSING:
                return None
            if phase is not self._timed:
                self._timed = phase
                self._transport.deadline = anyio.current_time() + self._time_outs.of(phase)
            try:
                data = await self._transport.receive()
            except TimeoutError:
                if phase is Phase.IDLE or self._stopping:
                    raise
                await self._time_out(phase)
                return None
            self._take(data)

    @property
    def _is_small(self) -> bool:
        """Whether what the bytes mean is told in no time."""
        return self._taken < LARGE_BODY or self._connection.phase is not Phase.BODY

    async def _interpret(
        self,
    ) -> Head | Request[Any] | Upgrade | Failure | Response[None] | Disconnected | NeedData:
        """Ask the connection what the bytes of a large body mean, in a thread.

        To parse and to check 1 MB of dense JSON takes 100 ms, in which the loop would do nothing else.
        """
        # Nobody else touches the connection meanwhile, for a thread's work cannot be cancelled.
        return await anyio.to_thread.run_sync(self._connection.next_event)

    def _take(self, data: bytes) -> None:
        self._taken += len(data)
        if data:
            self._connection.receive_data(data)
        else:
            self._connection.receive_eof()

    async def _time_out(self, phase: Phase) -> None:
        failure = request_timed_out(phase.value, self._time_outs.of(phase))
        for write in self._connection.give_up(self._application.refused(failure, self._head)):
            await self._write(write.data)

    @property
    def answered(self) -> bool:
        """Whether the request that was read last has its whole answer."""
        return self._connection.phase is not Phase.RESPONDING

    async def send(self, *events: Answer) -> None:
        """Take an answer's bytes out."""
        self._wait_for_nothing()
        try:
            if len(events) == 1 and (data := self._connection.send_item(events[0])) is not None:
                await self._transport.send(data)  # Nearly always: a token of a chat.
                return
            for write in self._connection.send(*events):
                if write.after:
                    await anyio.sleep(write.after)
                await self._transport.send(write.data)
        except _LOST as error:
            raise Hangup from error

    async def _write(self, data: bytes) -> None:
        self._wait_for_nothing()
        try:
            await self._transport.send(data)
        except _LOST as error:
            raise Hangup from error

    def _wait_for_nothing(self) -> None:
        """What was waited for has come, or is no longer waited for."""
        if self._timed is not None:
            self._timed = self._transport.deadline = None

    async def _decide(self, head: Head) -> None:
        if (failure := self._application.check(head)) is not None:
            await self._refuse(failure)
        elif data := self._connection.accept_body():
            await self._write(data)

    async def _refuse(self, failure: Failure) -> None:
        """Answer what no handler sees."""
        head, self._head = self._head, None
        await self.send(self._application.refused(failure, head))

    async def _respond(self, request: Request[Any]) -> None:
        self._timed = self._transport.deadline = None
        await self._application.handle(request, self)

    async def _converse(self, upgrade: Upgrade) -> None:
        """Go on as a WebSocket, to the connection's end."""
        # Only now: a server without the row needs no package for it.
        from foundry_runtime.websocket import (  # noqa: PLC0415
            Conversing,
            Frames,
            Patience,
            open_websocket,
            text_limit,
        )

        self._timed = None
        answer, behind = self._connection.switch(upgrade)
        frames = Frames(limit=text_limit(self._limits))
        frames.receive_data(behind)
        patience = Patience(
            write=self._time_outs.write, silence=self._time_outs.silence, linger=self._time_outs.linger
        )
        async with open_websocket(self._transport, frames, patience=patience, first=answer) as socket:
            self._conversation = Conversing(socket, self._application, upgrade.head, self._limits)
            if self._stopping:
                self._conversation.stop()
            await self._conversation.run()

    async def is_gone(self) -> bool:
        """Read while an answer is made, so that a hang-up is noticed and ends the work."""
        connection = self._connection
        try:
            while connection.phase is Phase.RESPONDING and connection.wants_data:
                self._take(await self._transport.receive())
                if self._nobody_waits():
                    return True
        except _LOST:
            return True
        return False

    def _nobody_waits(self) -> bool:
        """Whether the answer's reader is gone; what comes behind a whole answer is the next request."""
        connection = self._connection
        return connection.phase is Phase.RESPONDING and isinstance(connection.next_event(), Disconnected)

    async def _linger(self) -> None:
        """Let the client read the last answer before the close: unread input would reset the connection."""
        self._transport.deadline = anyio.current_time() + self._time_outs.linger
        await self._transport.send_eof()
        while await self._transport.receive():
            pass


async def serve(
    application: Application[Any],
    listeners: Sequence[Listener],
    *,
    limits: Limits | None = None,
    time_outs: TimeOuts | None = None,
    crowd: CrowdLimits | None = None,
    stop: anyio.Event | None = None,
    drain: float = 10.0,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application on listeners until stopped.

    Args:
        application: What answers; this call keeps it `running`.
        listeners: Where connections come from; this call closes them.
        limits: How much a peer may make us hold.
        time_outs: How long we wait for it.
        crowd: How many connections there may be.
        stop: When set, no connection is accepted any more, idle ones end, and running answers are finished.
        drain: Seconds that running answers have then.
        task_status: Told when requests can be served.
    """
    limits, time_outs, stop = limits or Limits(), time_outs or TimeOuts(), stop or anyio.Event()
    connections: set[_Served] = set()
    everybody = Crowd(crowd or CrowdLimits())

    async def serve_one(transport: Transport) -> None:
        served = _Served(transport, application, limits, time_outs)
        connections.add(served)
        try:
            if stop.is_set():
                served.stop()
            await served.run()
        except Exception:
            # A mistake of ours, or of a library below, costs this connection and no other; cancelling passes.
            logger.exception("serving a connection failed")
        finally:
            connections.discard(served)

    async with application.running(), anyio.create_task_group() as all_of_it:
        async with anyio.create_task_group() as accepting:
            try:
                for listener in listeners:
                    accepting.start_soon(partial(listener.serve, serve_one, crowd=everybody))
                task_status.started()
                await stop.wait()
            finally:
                for listener in listeners:
                    await listener.aclose()  # does not wait, so that it happens when cancelled, too
            for served in connections:
                served.stop()
            all_of_it.start_soon(_cancel_after, drain, accepting.cancel_scope)
        all_of_it.cancel_scope.cancel()


async def _cancel_after(seconds: float, scope: anyio.CancelScope) -> None:
    await anyio.sleep(seconds)
    scope.cancel()
