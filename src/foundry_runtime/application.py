"""What answers requests, whatever carries them: a socket of ours, an ASGI server, memory.

Knows: which handler serves which operation, what all handlers share and how long that lives, and that a
handler which fails still owes its client an answer.
Refuses to know: connections (`server.py`), and what any operation does.

A handler is a coroutine function: it awaits `send(event)`, once or, for a stream, often. It is no async
generator: a cancel scope must not be left open across a yield.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Generic, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup
from attrs import frozen

from foundry_proto.events import Failure, Head, Request
from foundry_proto.exchange import Answer, Gate
from foundry_proto.operations import Operations
from foundry_proto.upgrade import check_origin

__all__ = [
    "Answering",
    "Application",
    "Carrier",
    "Handler",
    "Hangup",
    "Lifespan",
    "Observer",
    "Send",
    "WorkLimits",
    "is_local",
]

logger = logging.getLogger(__name__)

ContextT = TypeVar("ContextT")


class Hangup(Exception):
    """The client is gone, or reads too slowly: raised by `send`. A handler lets it pass."""


class Send(Protocol):
    """How a handler answers."""

    async def __call__(self, *events: Answer) -> None:
        """Send a response, a failure, or the next items of a stream; several events leave as one write.

        Raises:
            Hangup: Nobody reads any more.
            LocalProtocolError: Not at this point of an answer.
        """


@frozen(kw_only=True)
class WorkLimits:
    """How much may be worked on, of operations whose row says `long`."""

    requests: int = 256
    """Requests at a time, those included that wait for others; one more is told to come again."""
    seconds: float = 3600.0
    """For one request; a row that says `timeless`, as a download's, is not held to it."""


class Carrier(Protocol):
    """What brings a request and takes its answer: a connection, an ASGI server, a WebSocket."""

    @property
    def answered(self) -> bool:
        """Whether the whole answer was sent."""

    async def send(self, *events: Answer) -> None:
        """Send a part of the answer; see `Send`, which a handler gets this as."""

    async def is_gone(self) -> bool:
        """Wait until the client hangs up; false when that can no longer be told.

        Awaited, and cancelled, only while the answer of a `long` operation is made.
        """
        ...


Handler = Callable[[ContextT, Request[Any], Send], Awaitable[None]]
"""Serves one request of one operation."""

Answering = Callable[[Request[Any], Send], Awaitable[None]]
"""Serves a request to its end, whatever its handler does."""

ObservedT_contra = TypeVar("ObservedT_contra", contravariant=True)


class Observer(Protocol[ObservedT_contra]):
    """What stands around every request: it may note what happens, and add headers to answers."""

    async def around(
        self, context: ObservedT_contra, request: Request[Any], send: Send, answer: Answering
    ) -> None:
        """Have a request answered by `answer`, with this `send` or one that calls it."""

    def refused(self, context: ObservedT_contra | None, failure: Failure, head: Head | None) -> Failure:
        """Give what is sent instead of the answer to a request that no handler sees.

        Args:
            context: What handlers share; `None` while the application does not run.
            failure: Why.
            head: The request's, if it came so far.
        """


Lifespan = Callable[[TaskGroup], AbstractAsyncContextManager[ContextT]]
"""Makes what handlers share. The task group is for all that outlives a request; the end cancels it."""


_NOT_RUNNING: Final = Failure(status=503, message="the server is not running", type="server_error")
_NOT_LOCAL: Final = Failure(
    status=403,
    message="expected a client on the server's own machine: this route serves loopback addresses alone",
    code="forbidden",
)
_LATER: Final = ((b"retry-after", b"5"),)
_BUSY: Final = Failure(
    status=503,
    message="as many requests are being worked on as there may be: try again later",
    type="server_error",
    code="overloaded",
    headers=_LATER,
)
_FAILED: Final = Failure(status=500, message="the server failed on this request", type="server_error")


def is_local(client: str | None) -> bool:
    """Whether a peer's address is a loopback one, so that it can only be on this machine.

    Choice: a peer without an address, as on a Unix socket, may stand for anybody: proxies listen there.
    """
    host = (client or "").rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class Application(Generic[ContextT]):
    """Handlers, and what they share.

    Args:
        operations: What is offered.
        handlers: By the operation's name.
        lifespan: Makes what every handler gets as its first argument.
        gate: Decides who may ask; without one everybody may. Whatever carries requests asks it.
        work: How much may be worked on.
        observer: Stands around every request; without one nobody does.

    Raises:
        ValueError: An operation has no handler, or a handler no operation.
    """

    def __init__(
        self,
        operations: Operations,
        handlers: Mapping[str, Handler[ContextT]],
        lifespan: Lifespan[ContextT],
        *,
        gate: Gate | None = None,
        work: WorkLimits | None = None,
        observer: Observer[ContextT] | None = None,
    ) -> None:
        names = {operation.name for operation in operations}
        if odd := sorted(names ^ set(handlers)):
            raise ValueError(f"expected one handler for each operation, which fails for {', '.join(odd)}")
        self.operations = operations
        self.gate = gate
        self._work = work or WorkLimits()
        self._working = 0
        """How many `long` requests are being worked on."""
        self._handlers = dict(handlers)
        self._lifespan = lifespan
        self._observer = observer
        self._running: list[ContextT] = []
        """What handlers share, while there is any."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ContextT]:
        """Keep what handlers share alive; requests are served within.

        Whoever serves the application enters this, once: the native server, an ASGI lifespan, or the
        application that this one is mounted in.
        """
        async with anyio.create_task_group() as task_group:
            async with self._lifespan(task_group) as context:
                self._running.append(context)
                try:
                    yield context
                finally:
                    self._running.clear()
            task_group.cancel_scope.cancel()

    def check(self, head: Head) -> Failure | None:
        """Decide, before a byte of the body is read, whether this request is served.

        Args:
            head: The request's.

        Returns:
            What to answer instead; `None` if it is served.
        """
        if not self._running:
            return _NOT_RUNNING
        if head.operation.local and not is_local(head.client):
            return _NOT_LOCAL
        if head.operation.upgrade and self.gate is None:
            # A gate has its own rules for web pages.
            return check_origin(head.headers)
        return None

    def refused(self, failure: Failure, head: Head | None = None) -> Failure:
        """Give what is sent for a request that no handler sees; whoever refuses one calls this.

        Args:
            failure: Why.
            head: The request's, if it came so far.

        Returns:
            The failure, with what the observer adds to it.
        """
        if self._observer is None:
            return failure
        return self._observer.refused(self._running[0] if self._running else None, failure, head)

    async def handle(self, request: Request[Any], carrier: Carrier) -> None:
        """Serve one request to its end, or for as long as somebody waits for it.

        A handler's exception becomes a 500, or the end of the stream, whose text tells nothing of the inside;
        the log tells all.

        Args:
            request: What is asked; `check` has let it pass.
            carrier: Takes the answer to its client, and knows when that is gone.

        Raises:
            Hangup: The client is gone; any other exception is a bug.
        """
        if not request.head.operation.long:
            await self._handle(request, carrier)
            return
        gone = False

        async def watch() -> None:
            nonlocal gone
            if await carrier.is_gone():
                gone = True
                task_group.cancel_scope.cancel()

        async with anyio.create_task_group() as task_group:
            task_group.start_soon(watch)
            try:
                await self._handle(request, carrier)
            except Hangup:
                gone = True
            task_group.cancel_scope.cancel()
        if gone:
            raise Hangup

    async def _handle(self, request: Request[Any], carrier: Carrier) -> None:
        async def answer(request: Request[Any], send: Send) -> None:
            await self._answer(request, send, carrier)

        if not self._running:
            await carrier.send(self.refused(_NOT_RUNNING, request.head))
        elif self._observer is None:
            await answer(request, carrier.send)
        else:
            await self._observer.around(self._running[0], request, carrier.send, answer)

    async def _answer(self, request: Request[Any], send: Send, carrier: Carrier) -> None:
        name = request.head.operation.name
        try:
            if request.head.operation.long:
                await self._work_on(request, send)
            else:
                await self._handlers[name](self._running[0], request, send)
        except Hangup:
            raise
        # The border to all handlers: whatever one fails by is logged, and answered below. To be cancelled is
        # no `Exception`, and passes.
        except Exception as error:
            if isinstance(error, ExceptionGroup) and error.split(Hangup)[1] is None:
                raise Hangup from error  # it came through a task group of the handler's
            logger.exception("%s failed", name)
        else:
            if not carrier.answered:
                logger.error("%s ended without a whole answer", name)
        if not carrier.answered:
            await send(_FAILED)

    async def _work_on(self, request: Request[Any], send: Send) -> None:
        """Serve a request that may take long, if there is room for it, and as long as it may take."""
        if self._working >= self._work.requests:
            await send(_BUSY)
            return
        operation, seconds = request.head.operation, self._work.seconds
        self._working += 1
        try:
            with anyio.move_on_after(None if operation.timeless else seconds) as scope:
                await self._handlers[operation.name](self._running[0], request, send)
        finally:
            self._working -= 1
        if scope.cancelled_caught:
            message = f"the request took longer than the {seconds:g} seconds that it may take"
            await send(Failure(status=503, message=message, code="took_too_long", headers=_LATER))
