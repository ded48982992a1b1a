"""The contract of a transport, to which any implementation can be held: ours, and yours.

Knows: how to run the laws on pairs that a factory connects, with each end in each part.
Refuses to know: pytest. A law that is broken is an `AssertionError` that names it.

    async with my_network() as network:
        await check_transport(network.connected_pair)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import anyio

from foundry_runtime.transport._laws import HALF_CLOSE_LAWS, LAWS_OF_BYTES
from foundry_runtime.transport._laws_of_waiting import LAWS_OF_WAITING
from foundry_runtime.transport._seeing import Law
from foundry_runtime.transport.api import Transport

__all__ = ["HALF_CLOSE_LAWS", "LAWS", "Law", "TransportFactory", "check_law", "check_transport"]

TransportFactory = Callable[[], AbstractAsyncContextManager[tuple[Transport, Transport]]]
"""Gives two connected transports, and closes both at its end, in whatever state they are."""

LAWS: Final[Sequence[Law]] = (*LAWS_OF_BYTES, *LAWS_OF_WAITING)
"""What every transport does."""

GUARD: Final = 60.0
"""Seconds after which a law that still waits is broken."""


async def check_transport(factory: TransportFactory, *, half_close: bool = True) -> None:
    """Hold a transport to every law.

    Args:
        factory: Makes a connected pair; called twice for each law, so that each end plays each part.
        half_close: Whether the peer learns of `send_eof` while the other direction goes on; not so with TLS.

    Raises:
        AssertionError: A law is broken; the text begins with its name.
    """
    for law in (*LAWS, *(HALF_CLOSE_LAWS if half_close else ())):
        await check_law(law, factory)


async def check_law(law: Law, factory: TransportFactory) -> None:
    """Hold a transport to one law, at both ends; raises as `check_transport` does."""
    name = getattr(law, "__name__", repr(law))
    for turned in (False, True):
        with anyio.move_on_after(GUARD) as guard:
            try:
                async with factory() as (left, right):
                    await (law(right, left) if turned else law(left, right))
            except Exception as error:  # whatever a transport that is no good may raise
                raise AssertionError(f"{name}: {_describe(error)}") from error
        if guard.cancelled_caught:
            raise AssertionError(f"{name}: still waiting after {GUARD:.0f} seconds")


def _describe(error: BaseException) -> str:
    """The first failure: task groups wrap it, and a law says in its own words what it misses."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, AssertionError) else repr(error)
