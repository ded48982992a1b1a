"""Requests as an ASGI server has them, played message by message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import h11
from attrs import define, field

from foundry_proto.connection import Limits
from foundry_runtime.application import Application
from foundry_runtime.asgi import ASGIApplication, Message
from tests.support.applications import make_test_application

__all__ = ["Exchange", "ask", "scope_of"]


@define
class Exchange:
    """One request as an ASGI server has it, and what the application answers."""

    app: ASGIApplication
    pieces: Sequence[bytes]
    sent: list[Message] = field(init=False, factory=list)
    gone: anyio.Event = field(init=False, factory=anyio.Event)
    left: list[bytes] = field(init=False, factory=list)
    """Pieces of the body that were not asked for yet."""
    stuck: bool = field(default=False, kw_only=True)
    """Whether the client reads nothing."""

    async def run(self, scope: dict[str, Any]) -> None:
        self.left = list(self.pieces)
        await self.app({**scope, "type": "http"}, self.receive, self.send)

    async def receive(self) -> Message:
        if self.left:
            body = self.left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self.left)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.stuck and message["type"] == "http.response.body":
            await anyio.sleep_forever()
        self.sent.append(message)

    @property
    def status(self) -> int:
        assert self.sent[0]["type"] == "http.response.start"
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        assert [message["more_body"] for message in self.sent[1:]][-1] is False
        return b"".join(message["body"] for message in self.sent[1:])


def scope_of(raw: bytes, **more: Any) -> tuple[dict[str, Any], bytes]:
    """A request's bytes as a server reads them."""
    http = h11.Connection(h11.SERVER)
    http.receive_data(raw)
    request, body = http.next_event(), b""
    assert isinstance(request, h11.Request)
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    path, _, query = request.target.partition(b"?")
    scope = {
        "method": request.method.decode(),
        "path": path.decode(),
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": [list(one) for one in request.headers],
        "client": ("127.0.0.1", 50123),
    }
    return {**scope, **more}, body


async def ask(
    raw: bytes,
    *,
    application: Application[Any] | None = None,
    pieces: Sequence[bytes] | None = None,
    limits: Limits | None = None,
    **more: Any,
) -> Exchange:
    """Have an application answer a request's bytes; more is what its scope says."""
    application = application or make_test_application()
    scope, body = scope_of(raw, **more)
    async with application.running():
        exchange = Exchange(ASGIApplication(application, limits=limits), [body] if pieces is None else pieces)
        await exchange.run(scope)
    return exchange
