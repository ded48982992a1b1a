"""Bad input over a connection: its status, an error that names the field, and the next request answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundry_proto.connection import Phase, ServerConnection
from foundry_proto.events import Failure, Head, Request, Response
from foundry_proto.operations import CHAT_COMPLETIONS, DOCUMENTED
from tests.support.chunking import in_pieces
from tests.support.connections import Driver, phase

USER = {"role": "user", "content": "x"}


def body(**properties: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [USER], **properties}).encode()


def with_temperature(literal: bytes) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":%b}' % literal


BAD: dict[str, tuple[bytes, int, str | None]] = {
    "wrong type": (body(temperature="hot"), 400, "temperature"),
    "wrong type within": (body(messages=[{"role": "user", "content": 5}]), 400, "messages[0].content"),
    "unknown role": (body(messages=[{"role": "wizard", "content": "x"}]), 400, "messages[0].role"),
    "empty messages": (body(messages=[]), 400, "messages"),
    "temperature 3": (body(temperature=3), 400, "temperature"),
    "broken JSON": (b"{invalid json", 400, None),
    "NaN": (with_temperature(b"NaN"), 400, "temperature"),
    "Infinity": (with_temperature(b"-Infinity"), 400, "temperature"),
    "1e400": (with_temperature(b"1e400"), 400, "temperature"),
    "5,000 digits": (with_temperature(b"9" * 5000), 400, "temperature"),
    "nesting of 100,000": (with_temperature(b"[" * 100_000 + b"]" * 100_000), 400, None),
    "a doubled key": (body()[:-1] + b',"model":"n"}', 400, "model"),
    "a lone surrogate": (body(user="\ud800"), 400, "user"),
    "a lone surrogate in a key": (body(metadata={"\udfff": 1}), 400, "metadata.?"),
    "a byte order mark": (b"\xef\xbb\xbf" + body(), 400, None),
    "UTF-16": (body().decode().encode("utf-16"), 400, None),
    "an empty body": (b"", 400, None),
    "100,000 messages": (body(messages=[USER] * 100_000), 400, "messages"),
    "over the limit": (body(user="x" * CHAT_COMPLETIONS.body_limit), 413, None),
}


def post(content: bytes) -> bytes:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content)
    return head + content


@pytest.mark.parametrize(("content", "status", "param"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_by_name_and_the_connection_goes_on(
    content: bytes, status: int, param: str | None
) -> None:
    driver = Driver(ServerConnection(DOCUMENTED), lambda _: (Response(value=None),))
    driver.feed(*in_pieces(post(content), 65_536))
    failure = driver.events[-1]
    assert isinstance(failure, Failure)
    assert (failure.status, failure.param, failure.type) == (status, param, "invalid_request_error")
    head, _, reply = driver.output.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(reply)["error"] == {
        "message": failure.message,
        "type": "invalid_request_error",
        "param": param,
        "code": failure.code,
    }
    assert len(reply) < 500
    if status == 413:
        # A large rest is not read for the sake of the connection.
        assert b"connection: close" in head
        assert phase(driver.connection) is Phase.CLOSING
        return
    driver.feed(post(body()))
    assert [type(event) for event in driver.events[-2:]] == [Head, Request]
    assert phase(driver.connection) is Phase.IDLE
