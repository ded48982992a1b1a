"""Laws of large bodies: who reads them, and that this changes nothing else."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import foundry_proto.exchange.server as exchange
from foundry_proto.codec import decode
from foundry_proto.messages.completions import ChatCompletion
from foundry_proto.operations import CHAT_COMPLETIONS
from tests.support.applications import chat_request
from tests.support.serving import raw_request, read_all, served

pytestmark = pytest.mark.anyio

LARGE = "x" * 500_000


async def test_a_large_body_is_read_in_a_thread_and_a_small_one_on_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readers: list[int] = []

    def noted_decode(cls: type[Any], data: bytes, **more: Any) -> Any:
        readers.append(threading.get_ident())
        return decode(cls, data, **more)

    monkeypatch.setattr(exchange, "decode", noted_decode)
    async with served() as server, server.client() as client:
        for text in ("small", LARGE, "small again"):
            answer = await client.call(CHAT_COMPLETIONS, chat_request(text=text))
            assert isinstance(answer, ChatCompletion)
            assert answer.choices[0].message.content == f"{text} "
    assert server.connections == 1
    assert [reader == threading.get_ident() for reader in readers] == [True, False, True]


async def test_what_is_wrong_in_a_large_body_is_answered_and_the_next_request_served() -> None:
    async with served() as server:
        transport = await server.connect()
        body = b'{"model": 5, "messages": "%b"}' % LARGE.encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n"
        await transport.send(head % len(body) + body)
        await transport.send(raw_request(chat_request(), "Connection: close"))
        answers = await read_all(transport)
        assert answers.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 1


async def test_broken_framing_in_a_large_body_is_answered_and_ends_the_connection() -> None:
    async with served() as server:
        transport = await server.connect()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        await transport.send(head + b"7a120\r\n" + LARGE.encode() + b"\r\nno chunk\r\n")
        answers = await read_all(transport)
        assert answers.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answers.count(b"HTTP/1.1 ") == 1
