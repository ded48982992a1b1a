"""A plain HTTP client for tests that look at replies as they are: one request, one reply, on a transport."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import h11
from attrs import frozen

from foundry_runtime.transport import Transport

__all__ = ["Reply", "ask"]


@frozen(kw_only=True)
class Reply:
    """A whole reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    transport: Transport,
    method: str,
    target: str,
    body: bytes | None = None,
    *headers: tuple[str, str],
    whole: bool = True,
) -> Reply:
    """Send a request, or no more than its head, and read the reply."""
    http = h11.Connection(h11.CLIENT)
    own = [("host", "test")]
    if body is not None:
        own += [("content-type", "application/json"), ("content-length", str(len(body)))]
    sent = http.send(h11.Request(method=method, target=target, headers=[*own, *headers]))
    sent += http.send(h11.Data(data=body)) if body else b""
    await transport.send(sent + (http.send(h11.EndOfMessage()) if whole else b""))
    head, data = None, b""
    while True:
        event = http.next_event()
        match event:
            case h11.Response():
                head = event
            case h11.Data():
                data += event.data
            case h11.EndOfMessage():
                assert head is not None
                assert http.trailing_data[0] == b""
                named = {name.decode(): value.decode() for name, value in head.headers}
                return Reply(status=head.status_code, headers=named, body=data)
            case h11.NEED_DATA:
                received = await transport.receive()
                http.receive_data(received)
            case _:
                raise AssertionError(f"expected a reply, got {event}")
