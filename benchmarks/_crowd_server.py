"""A server whose models are scripted, as a process: what `connections.py` measures.

It is the runtime's server over an engine in a thread of its own. `stream` is an answer of 400 chunks from
that engine, a millisecond each; `large` one of 8 MB that is there at once, so that only its reader holds it
up. It prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from foundry_proto.chat.chat_stream import Identity, answer_to
from foundry_proto.chat.text_stream import TextStream
from foundry_proto.events import Failure, Request, Response
from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.service import ServiceStatus
from foundry_proto.operations import CHAT_COMPLETIONS, Operations
from foundry_proto.operations.service import SERVICE_STATUS
from foundry_runtime.application import Application, Handler, Send
from foundry_runtime.crowd import CrowdLimits
from foundry_runtime.engine.api import Job, Sampling
from foundry_runtime.engine.driver import Broken, Delta, Done
from foundry_runtime.engine.scripted import ScriptedEngine
from foundry_runtime.engine.worker import EngineWorker
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.serving import prepare_process

STEP = 0.001
CHUNKS = 400
PIECE = "x" * 10_000
PIECES = 800
FILES = 4096
BYTES = [bytes([number]) for number in range(256)]


def say(_: Sequence[int]) -> Iterator[int]:
    for number in range(CHUNKS):
        time.sleep(STEP)
        yield 97 + number % 26


@asynccontextmanager
async def lifespan(_: TaskGroup) -> AsyncIterator[EngineWorker]:
    worker = await EngineWorker.start(lambda: ScriptedEngine(say, context_length=10_000), name="stream")
    try:
        yield worker
    finally:
        await worker.aclose()


async def chat(worker: EngineWorker, request: Request[ChatCompletionRequest], send: Send) -> None:
    asked = request.value
    answer = answer_to(asked, Identity(id="chatcmpl-1", created=1700000000, model=asked.model))
    if asked.model == "large":
        for _ in range(PIECES):
            await send(*answer.text(0, PIECE))
        await send(*answer.finish(0, "stop", prompt_tokens=1, completion_tokens=1))
        return
    job = Job(prompt=b"?", max_tokens=CHUNKS + 1, sampling=Sampling())
    generation = worker.submit(job, TextStream(BYTES))
    over = False
    try:
        while not over:
            for delivery in await generation.receive():
                over = not isinstance(delivery, Delta)
                match delivery:
                    case Delta(text=text):
                        await send(*answer.text(0, text))
                    case Done(reason=reason, prompt_tokens=read, completion_tokens=said):
                        await send(*answer.finish(0, reason, prompt_tokens=read, completion_tokens=said))
                    case Broken(error=error):
                        await send(Failure(status=500, message=str(error)))
    finally:
        generation.cancel()


async def status(_: EngineWorker, __: Request[None], send: Send) -> None:
    await send(Response(value=ServiceStatus(endpoints=(), model_dir_path="/")))


async def main() -> None:
    operations = Operations([CHAT_COMPLETIONS, SERVICE_STATUS])
    handlers: dict[str, Handler[EngineWorker]] = {"chat_completions": chat, "service_status": status}
    application = Application(operations, handlers, lifespan)
    listeners = await open_tcp_listeners("127.0.0.1", 0, backlog=2048)
    async with anyio.create_task_group() as task_group:
        await task_group.start(
            partial(
                serve,
                application,
                listeners,
                crowd=CrowdLimits(total=FILES, per_address=FILES),
            )
        )
        print(listeners[0].port, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        task_group.cancel_scope.cancel()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    prepare_process()
    anyio.run(main, backend=sys.argv[1])
