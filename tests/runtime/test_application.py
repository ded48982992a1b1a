"""Who is served: what an application decides on a request's head."""

from __future__ import annotations

import pytest
from attrs import evolve

from foundry_proto.events import Failure, Head
from foundry_runtime.application import Application
from tests.support.applications import make_test_application
from tests.support.fakes import FIND, WidgetWords

pytestmark = pytest.mark.anyio


async def decided(client: str | None, *, local: bool = True) -> Failure | None:
    head = Head(operation=evolve(FIND, local=local), method="GET", query=WidgetWords(name="a"), client=client)
    application: Application[object] = make_test_application()  # type: ignore[assignment]
    async with application.running():
        return application.check(head)


@pytest.mark.parametrize(
    "client", ["127.0.0.1:5272", "127.8.9.10:1", "[::1]:5272", "[::ffff:127.0.0.1]:5272"]
)
async def test_a_local_operation_serves_loopback_addresses(client: str) -> None:
    assert await decided(client) is None


@pytest.mark.parametrize(
    "client",
    ["192.168.1.2:5272", "[fe80::1%eth0]:1", "[::ffff:10.0.0.1]:1", "[::]:1", "localhost:1", "", None],
)
async def test_a_local_operation_serves_nobody_else(client: str | None) -> None:
    failure = await decided(client)
    assert failure is not None
    assert (failure.status, failure.code) == (403, "forbidden")
    assert failure.message.startswith("expected a client on the server's own machine")
    assert await decided(client, local=False) is None
