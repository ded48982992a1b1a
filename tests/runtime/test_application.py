"""Who is served: what an application decides on a request's head."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from attrs import evolve

from foundry_proto.events import Failure, Head, Request
from foundry_proto.exchange import Answer
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.application import Application, Hangup, Send
from tests.support.applications import chat_request, make_test_application
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


class Gone:
    """A carrier whose client reads no more."""

    answered = False

    async def send(self, *events: Answer) -> None:
        raise Hangup

    async def is_gone(self) -> bool:
        await anyio.sleep_forever()
        return True


@pytest.mark.parametrize("bug", [False, True])
async def test_a_hang_up_that_comes_through_a_handlers_task_group_is_no_failure(
    bug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    whole = make_test_application()

    async def handler(_: object, request: Request[Any], send: Send) -> None:
        async def fail() -> None:
            if bug:
                raise KeyError("a bug")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            tasks.start_soon(fail)

    operations = whole.operations
    application = Application(operations, {**whole._handlers, "chat_completions": handler}, whole._lifespan)
    head = Head(operation=CHAT_COMPLETIONS, method="POST", query=None, client=None)
    async with application.running():
        with pytest.raises(Hangup):
            await application.handle(Request(head=head, value=chat_request(), raw=b""), Gone())
    assert caplog.messages == (["chat_completions failed"] if bug else [])
