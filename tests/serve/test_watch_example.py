"""`examples/watch.py` prints what happens at the product."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio.streams.text import TextReceiveStream

from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.client import Client
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.app import make_application
from tests.support.scripted_model import ScriptedModels
from tests.support.tiny_model import MODEL_ID

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "watch.py"


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text("utf-8").splitlines()) < 60


async def test_it_prints_what_happens(tiny_home: ModelDirectory) -> None:
    stop = anyio.Event()
    question = ChatCompletionRequest(model=MODEL_ID, messages=(UserMessage(role="user", content="hi"),))
    async with anyio.create_task_group() as engines, anyio.create_task_group() as tasks:
        (listener,) = await open_tcp_listeners("127.0.0.1", 0)
        application = make_application(tiny_home, ScriptedModels(engines))
        await tasks.start(partial(serve, application, [listener], stop=stop))
        command = [sys.executable, str(EXAMPLE), f"ws://{listener.address}/foundry/watch"]
        with anyio.fail_after(60):
            async with await anyio.open_process(
                command, stdout=subprocess.PIPE, env={**os.environ}
            ) as process:
                assert process.stdout is not None
                printed = ""
                async for text in TextReceiveStream(process.stdout):
                    printed += text
                    if "watching" in printed and "loading" not in printed:
                        async with Client(f"http://{listener.address}") as client:
                            await client.call(CHAT_COMPLETIONS, question)
                    if "chat_completions" in printed:
                        stop.set()
    watching, loading, ready, generated, served, *rest = printed.splitlines()
    assert watching == '{"type": "watching", "topics": ["models", "downloads", "requests"]}'
    assert (loading, ready) == (f"{MODEL_ID}: loading", f"{MODEL_ID}: ready")
    assert generated.startswith(f"{MODEL_ID}: 7 tokens in ")
    assert served.startswith("chat_completions: 200 after ")
    assert rest[-1].startswith("closed: CloseReason<code=1001")
