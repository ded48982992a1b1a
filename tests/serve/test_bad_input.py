"""Laws of bad input on the wire: status, the name of the field, a connection that goes on, bounded memory."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.transport import Transport
from tests.support.scripted_model import scripted_server
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio

MODEL = json.dumps(MODEL_ID)
USER = '{"role":"user","content":"x"}'


def body(members: str) -> bytes:
    return f'{{"model":{MODEL},"messages":[{USER}],{members}}}'.encode()


BAD_BODIES: dict[str, tuple[bytes, int, str | None, str]] = {
    "not a number": (body('"temperature":NaN'), 400, "temperature", "expected a finite number, got NaN"),
    "infinity": (body('"top_p":-Infinity'), 400, "top_p", "expected a finite number, got -Infinity"),
    "beyond a double": (body('"top_p":1e400'), 400, "top_p", "expected a finite number, got 1e400"),
    "5,000 digits": (
        body('"seed":' + "9" * 5000),
        400,
        "seed",
        "expected at most 400 digits, got 5000",
    ),
    "deep nesting": (
        body('"metadata":' + '{"a":' * 100_000 + "1" + "}" * 100_000),
        400,
        None,
        "expected at most 100 levels of nesting, got more",
    ),
    "doubled key": (body('"n":1,"n":1'), 400, "n", "expected this key once, got it twice"),
    "lone surrogate": (body('"user":"\\ud83d"'), 400, "user", "expected Unicode text, got a lone surrogate"),
    "byte order mark": (
        b"\xef\xbb\xbf" + body('"n":1'),
        400,
        None,
        "expected UTF-8 without a byte order mark",
    ),
    "UTF-16": (
        body('"n":1').decode().encode("utf-16"),
        400,
        None,
        "expected UTF-8, got an invalid byte at offset 0",
    ),
    "nothing": (b"", 400, None, "expected a JSON value, got nothing"),
    "broken JSON": (
        b'{"model":',
        400,
        None,
        "expected JSON, got a syntax error at line 1, column 10: expecting value",
    ),
    "no model": (f'{{"messages":[{USER}],"stream":true}}'.encode(), 400, "model", "got nothing"),
    "no messages": (f'{{"model":{MODEL},"stream":true}}'.encode(), 400, "messages", "got nothing"),
    "a message without a role": (
        f'{{"model":{MODEL},"messages":[{{"content":"x"}}],"stream":true}}'.encode(),
        400,
        "messages[0].role",
        "got nothing",
    ),
    "an array": (b"[]", 400, None, "expected an object, got an array"),
    "a string for a number": (body('"temperature":"0.5"'), 400, "temperature", 'got "0.5"'),
    "true for an integer": (body('"n":true'), 400, "n", "expected an integer from 1 to 128, got true"),
    "100,000 messages": (
        f'{{"model":{MODEL},"messages":[{",".join([USER] * 100_000)}]}}'.encode(),
        400,
        "messages",
        "expected at most 4096 items, got 100000",
    ),
    "a prompt over the context": (
        f'{{"model":{MODEL},"messages":[{{"role":"user","content":"{"a b c " * 1000}"}}]}}'.encode(),
        400,
        "messages",
        "together they exceed the model's context of 512 tokens",
    ),
}


async def post(transport: Transport, data: bytes) -> tuple[int, dict[str, object]]:
    """Send a body, and read the reply that comes with a length."""
    head = f"POST {CHAT_COMPLETIONS.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    await transport.send(head.encode() + data)
    reply = b""
    while b"\r\n\r\n" not in reply:
        reply += await transport.receive()
    lines, _, rest = reply.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in lines.split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(rest) < length:
        rest += await transport.receive()
    return int(lines.split()[1]), json.loads(rest)


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_each_bad_body_is_refused_by_name_and_the_next_request_is_answered(
    tiny_home: ModelDirectory, case: str
) -> None:
    data, status, param, message = BAD_BODIES[case]
    async with scripted_server(tiny_home) as (server, _):
        transport = await server.connect()
        got_status, reply = await post(transport, data)
        error = reply["error"]
        assert isinstance(error, dict)
        assert (got_status, error["param"], error["type"]) == (status, param, "invalid_request_error")
        assert error["message"].endswith(message)
        assert (await post(transport, body('"n":1')))[0] == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(tiny_home: ModelDirectory) -> None:
    limit = CHAT_COMPLETIONS.body_limit
    async with scripted_server(tiny_home) as (server, _):
        transport = await server.connect()
        await transport.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (limit + 1)
        )
        reply = await transport.receive()
        assert reply.startswith(b"HTTP/1.1 413 ")
        assert f"body: expected at most {limit} bytes, got more".encode() in reply
        assert b"connection: close" in reply


async def test_a_chunked_body_over_the_limit_is_refused_when_it_passes_it(tiny_home: ModelDirectory) -> None:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    async with scripted_server(tiny_home) as (server, _):
        transport = await server.connect()
        await transport.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        tracemalloc.start()
        try:
            for _ in range(CHAT_COMPLETIONS.body_limit // 0x10000 + 1):
                await transport.send(piece)
            reply = await transport.receive()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert reply.startswith(b"HTTP/1.1 413 ")
        assert peak < 2.5 * CHAT_COMPLETIONS.body_limit


async def test_a_body_shorter_than_it_says_is_told_so(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home) as (server, _):
        transport = await server.connect()
        await transport.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}"
        )
        await transport.send_eof()
        reply = await transport.receive()
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"expected the rest of the request's body, got the end of the input" in reply


@pytest.mark.parametrize("case", ["deep nesting", "100,000 messages", "5,000 digits"])
async def test_memory_for_a_bad_body_is_a_small_multiple_of_the_bodys_limit(
    tiny_home: ModelDirectory, case: str
) -> None:
    data = BAD_BODIES[case][0]
    async with scripted_server(tiny_home) as (server, _):
        transport = await server.connect()
        tracemalloc.start()
        try:
            await post(transport, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 12 * CHAT_COMPLETIONS.body_limit


async def test_the_owners_limit_of_messages_counts(tiny_home: ModelDirectory) -> None:
    async with scripted_server(tiny_home, most_messages=2) as (server, _):
        transport = await server.connect()
        data = f'{{"model":{MODEL},"messages":[{",".join([USER] * 2)}]}}'.encode()
        assert (await post(transport, data))[0] == 200
        data = f'{{"model":{MODEL},"messages":[{",".join([USER] * 3)}]}}'.encode()
        status, reply = await post(transport, data)
        error = reply["error"]
        assert isinstance(error, dict)
        assert (status, error["param"]) == (400, "messages")
        assert error["message"] == "messages: expected at most 2 items, got 3"
