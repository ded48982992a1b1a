"""Limits and time-outs of the ASGI application: what it keeps to itself, whatever server it runs under."""

from __future__ import annotations

import anyio
import pytest

from foundry_proto.connection import Limits
from foundry_runtime.application import WorkLimits
from foundry_runtime.asgi import ASGIApplication
from foundry_runtime.server import TimeOuts
from tests.support.applications import chat_request, make_test_application
from tests.support.asgi_exchanges import Exchange, ask, scope_of
from tests.support.serving import raw_request, under_virtual_clock, until

pytestmark = pytest.mark.anyio

CHAT = b"/v1/chat/completions"


# Bodies.


async def test_a_body_that_grows_too_large_is_refused_before_its_end() -> None:
    raw = b"POST " + CHAT + b" HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    exchange = await ask(raw, pieces=[b" " * 1_000_000] * 10)
    assert exchange.status == 413
    assert len(exchange.left) == 5


@pytest.mark.parametrize(
    ("limits", "raw", "status", "text"),
    [
        (
            Limits(body=99),
            raw_request(chat_request(user="x" * 99)),
            413,
            b"body: expected at most 99 bytes, got",
        ),
        (Limits(body=99), raw_request(chat_request()), 200, b'"content":"hi "'),
        (
            Limits(depth=2),
            raw_request(chat_request()),
            400,
            b"body: expected at most 2 levels of nesting, got",
        ),
        (Limits(depth=3), raw_request(chat_request()), 200, b'"content":"hi "'),
    ],
)
async def test_bodies_have_the_limits_that_are_given(
    limits: Limits, raw: bytes, status: int, text: bytes
) -> None:
    exchange = await ask(raw, limits=limits)
    assert exchange.status == status
    assert text in exchange.body


async def test_what_nests_too_deeply_is_refused() -> None:
    body = b'{"messages":' + b"[" * 200 + b"]" * 200 + b"}"
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (CHAT, len(body))
    exchange = await ask(head + body)
    assert exchange.status == 400
    assert b"levels of nesting, got more" in exchange.body


# Work.


async def test_one_request_more_than_may_be_worked_on_is_told_to_come_again() -> None:
    application = make_test_application(work=WorkLimits(requests=1))
    async with application.running() as journal, anyio.create_task_group() as tasks:
        app = ASGIApplication(application)
        scope, body = scope_of(raw_request(chat_request("sleep")))
        first, second = Exchange(app, [body]), Exchange(app, [body])
        tasks.start_soon(first.run, scope)
        await until(lambda: journal.begun)
        await second.run(scope)
        assert second.status == 503
        assert b'"code":"overloaded"' in second.body
        assert (b"retry-after", b"5") in second.sent[0]["headers"]
        first.gone.set()


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_takes_too_long_is_ended(stream: bool) -> None:
    async def run() -> None:
        application = make_test_application(work=WorkLimits(seconds=60))
        scope, body = scope_of(raw_request(chat_request("hold" if stream else "sleep", stream=stream)))
        async with application.running() as journal:
            begin = anyio.current_time()
            exchange = Exchange(ASGIApplication(application), [body])
            await exchange.run(scope)
            assert anyio.current_time() - begin == 60
        assert exchange.status == (200 if stream else 503)
        assert b"the request took longer than the 60 seconds that it may take" in exchange.body
        assert len(journal.cancelled) == 1

    under_virtual_clock(run)


# Time.


def test_a_body_that_does_not_come_is_answered() -> None:
    async def run() -> None:
        application = make_test_application()
        scope, _ = scope_of(raw_request(chat_request()))
        start = anyio.current_time()
        async with application.running():
            exchange = Exchange(ASGIApplication(application, time_outs=TimeOuts(body=5)), [])
            await exchange.run(scope)
        assert anyio.current_time() - start == 5
        assert exchange.status == 408
        assert b"expected the request's whole body within 5 seconds" in exchange.body

    under_virtual_clock(run)


def test_a_reader_that_takes_nothing_is_given_up() -> None:
    async def run() -> None:
        application = make_test_application()
        scope, body = scope_of(raw_request(chat_request("hold", stream=True)))
        async with application.running() as journal:
            exchange = Exchange(
                ASGIApplication(application, time_outs=TimeOuts(write=30)), [body], stuck=True
            )
            start = anyio.current_time()
            await exchange.run(scope)
            assert 30 <= anyio.current_time() - start <= 60
        assert journal.ended == ["hold"]

    under_virtual_clock(run)


def test_a_handler_that_takes_its_time_is_not() -> None:
    async def run() -> None:
        application = make_test_application()
        scope, body = scope_of(raw_request(chat_request("hold", stream=True)))
        async with application.running() as journal, anyio.create_task_group() as tasks:
            exchange = Exchange(ASGIApplication(application, time_outs=TimeOuts(write=30)), [body])
            tasks.start_soon(exchange.run, scope)
            await anyio.sleep(3000)
            assert journal.ended == []
            exchange.gone.set()
        assert journal.cancelled == ["hold"]

    under_virtual_clock(run)
