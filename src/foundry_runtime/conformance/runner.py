"""Performs a script's steps on asyncio and trio, over transports.

Knows: transports and the loop's clock. Refuses to know: what the bytes mean, and where connections lead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, assert_never

import anyio
from attrs import define, field

from foundry_proto.conformance import Call, Close, Happened, Open, Receive, Script, Send, Sleep, Together
from foundry_proto.conformance.steps import Returned, advance
from foundry_runtime.transport import Transport, TransportBroken, TransportClosed

__all__ = ["perform"]

T = TypeVar("T")

_GONE: Final = (TransportBroken, TransportClosed, OSError)
_SEND_PATIENCE: Final = 30.0


async def perform(script: Script[T], connect: Callable[[], Awaitable[Transport]]) -> T:
    """Perform a script to its end.

    Args:
        script: What is to be done.
        connect: Opens a connection to the server.

    Returns:
        What the script returns. What it raises is raised here, too.
    """
    performer = _Performer(connect)
    try:
        result: T = await performer.drive(script)
        return result
    finally:
        await performer.aclose()


@define
class _Performer:
    _connect: Callable[[], Awaitable[Transport]]
    _open: dict[int, Transport] = field(init=False, factory=dict)
    _count: int = field(init=False, default=0)

    async def drive(self, script: Script[Any]) -> Any:
        happened: Any = None
        while not isinstance(step := advance(script, happened), Returned):
            match step:
                case Call():
                    happened = await self.drive(step.script())
                case Together():
                    happened = await self._together(step.scripts)
                case Sleep():
                    await anyio.sleep(step.seconds)
                    happened = self._happened()
                case Open():
                    happened = await self._open_one()
                case Close():
                    await self._open.pop(step.connection).aclose()
                    happened = self._happened()
                case Send():
                    happened = await self._send(step)
                case Receive():
                    happened = await self._receive(step)
                case _:
                    assert_never(step)
        return step.value

    def _happened(self, **more: Any) -> Happened:
        return Happened(at=anyio.current_time(), **more)

    async def _together(self, scripts: tuple[Script[Any], ...]) -> list[Any]:
        results: list[Any] = [None] * len(scripts)

        async def one(number: int, script: Script[Any]) -> None:
            results[number] = await self.drive(script)

        async with anyio.create_task_group() as tasks:
            for number, script in enumerate(scripts):
                tasks.start_soon(one, number, script)
        return results

    async def _open_one(self) -> Happened:
        try:
            transport = await self._connect()
        except OSError:
            return self._happened(outcome="lost")
        self._count += 1
        self._open[self._count] = transport
        return self._happened(connection=self._count)

    async def _send(self, step: Send) -> Happened:
        transport = self._open[step.connection]
        transport.deadline = anyio.current_time() + _SEND_PATIENCE
        try:
            await transport.send(step.data)
        except (*_GONE, TimeoutError):
            return self._happened(outcome="lost")
        return self._happened()

    async def _receive(self, step: Receive) -> Happened:
        transport = self._open[step.connection]
        transport.deadline = anyio.current_time() + step.patience
        try:
            data = await transport.receive()
        except TimeoutError:
            return self._happened(outcome="silence")
        except _GONE:
            return self._happened(outcome="lost")
        return self._happened(outcome="data", data=data) if data else self._happened(outcome="end")

    async def aclose(self) -> None:
        """Close what is still open."""
        for transport in self._open.values():
            await transport.aclose()
