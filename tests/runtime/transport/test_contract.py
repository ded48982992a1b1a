"""Every transport keeps every law, on both loops; in memory and under trio, on a clock that does not wait."""

from __future__ import annotations

import asyncio
import socket

import pytest
import trio.testing

from foundry_runtime.transport.check import (
    HALF_CLOSE_LAWS,
    LAWS,
    Law,
    TransportFactory,
    check_law,
    check_transport,
)
from tests.runtime.transport import networks

ALL_LAWS = [*LAWS, *HALF_CLOSE_LAWS]

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


def _name(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "network",
    [networks.tcp, networks.unix, pytest.param(networks.anyio_unix, marks=needs_unix)],
    ids=_name,
)
@pytest.mark.parametrize("law", ALL_LAWS, ids=_name)
async def test_sockets_keep_every_law(law: Law, network: TransportFactory) -> None:
    await check_law(law, network)


@pytest.mark.parametrize("law", ALL_LAWS, ids=_name)
def test_anyios_tcp_streams_keep_every_law_on_trio(law: Law) -> None:
    """Not on asyncio: there anyio's stream reads without limit until it is first asked for bytes."""
    trio.run(check_law, law, networks.anyio_tcp)


@pytest.mark.anyio
@pytest.mark.parametrize("law", LAWS, ids=_name)
async def test_tls_keeps_every_law_but_the_half_close(law: Law) -> None:
    await check_law(law, networks.tls)


@pytest.mark.anyio
async def test_the_end_of_a_tls_stream_is_told_by_closing() -> None:
    async with networks.tls() as (near, far):
        await near.send(b"all")
        await near.send_eof()
        assert await far.receive() == b"all"
        await near.aclose()
        assert await far.receive() == b""


@pytest.mark.parametrize("network", [networks.memory, networks.tight_memory], ids=_name)
def test_memory_keeps_every_law(network: TransportFactory) -> None:
    asyncio.run(check_transport(network))
    trio.run(check_transport, network, clock=trio.testing.MockClock(autojump_threshold=0))
