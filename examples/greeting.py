"""A server with a handler of your own: `python greeting.py [asyncio|trio] [PORT]`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from foundry_proto.chat.chat_stream import Identity, answer_to
from foundry_proto.events import Request, Response
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.service import ServiceStatus
from foundry_proto.operations import CHAT_COMPLETIONS, Operations
from foundry_proto.operations.service import SERVICE_STATUS
from foundry_runtime import Application, Send, open_tcp_listeners, serve


@asynccontextmanager
async def lifespan(_: TaskGroup) -> AsyncIterator[str]:
    """Make what every handler gets as its first argument."""
    yield "Hello"


async def chat(greeting: str, request: Request[ChatCompletionRequest], send: Send) -> None:
    """Greet, word by word; as one answer where no stream is asked for."""
    asked = request.value
    answer = answer_to(asked, Identity(id="chatcmpl-1", created=1755000000, model=asked.model))
    for word in (greeting, "to", "you!"):
        await send(*answer.text(0, f"{word} "))
    await send(*answer.finish(0, "stop", prompt_tokens=1, completion_tokens=3))


async def status(_: str, request: Request[None], send: Send) -> None:
    """Say that this is no service with models."""
    await send(Response(value=ServiceStatus(endpoints=(), model_dir_path="")))


application = Application(
    Operations([CHAT_COMPLETIONS, SERVICE_STATUS]),
    {"chat_completions": chat, "service_status": status},
    lifespan,
)


async def main(port: int) -> None:
    """Serve until interrupted."""
    listeners = await open_tcp_listeners("127.0.0.1", port)
    print(f"http://{listeners[0].address}", flush=True)
    await serve(application, listeners)


if __name__ == "__main__":
    backend, port = (*sys.argv[1:], *("asyncio", "8000")[len(sys.argv) - 1 :])
    anyio.run(main, int(port), backend=backend)
