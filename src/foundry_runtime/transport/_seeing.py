"""What the laws of transports are written with: how to see that a promise is kept, or say that it is not.

Knows: the form of a law, and the words for what was expected and what came.
Refuses to know: any promise (`_laws.py`, `_laws_of_waiting.py`), and pytest.

PYTEST_DONT_REWRITE: a law that is broken says so in its own words, under pytest too, which would else add to
the assertions of all packages that bring it a plugin.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from foundry_runtime.transport.api import Transport

__all__ = [
    "Law",
    "expect",
    "raises",
    "receive_exactly",
    "receive_or_time_out",
    "same",
    "turns",
]

Law = Callable[[Transport, Transport], Awaitable[None]]
"""Raises unless the first transport, with the second as its peer, does as promised."""

SHORT: Final = 0.02
"""Seconds that a law lets a deadline run."""

CHUNK: Final = random.Random(1).randbytes(64 * 1024)  # noqa: S311  (no secret: only unlike itself)
"""Bytes that differ in any other order."""

TOO_MUCH: Final = 64 * 1024 * 1024
"""Bytes that no transport may take from a sender whose peer does not read."""


@contextmanager
def raises(kind: type[Exception]) -> Iterator[None]:
    """As pytest's, which this file must do without."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}, and nothing was raised")


def same(actual: object, expected: object) -> None:
    assert actual == expected, f"expected {expected!r}, got {actual!r}"


async def expect(operation: Callable[[], Awaitable[object]], kind: type[Exception]) -> None:
    with raises(kind):
        await operation()


async def turns(count: int = 10) -> None:
    """Let the other tasks run: as many turns of the loop."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def receive_exactly(transport: Transport, size: int) -> bytes:
    """That many bytes, and not one more; the end must not come before."""
    received = bytearray()
    while len(received) < size:
        data = await transport.receive()
        assert data, f"the stream ended after {len(received)} of {size} bytes"
        received += data
    assert len(received) == size, f"{len(received)} bytes came instead of {size}"
    return bytes(received)


async def receive_or_time_out(transport: Transport, outcome: list[object]) -> None:
    try:
        outcome.append(await transport.receive())
    except TimeoutError:
        outcome.append(TimeoutError)
