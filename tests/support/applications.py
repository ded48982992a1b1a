"""A small application for tests of what carries requests: its handler does what the model's name says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from foundry_proto.chat.chat_stream import Identity, answer_to
from foundry_proto.events import Request, StreamItem
from foundry_proto.exchange import Gate
from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.messages.watch import Watching, WatchRequest
from foundry_proto.operations import CHAT_COMPLETIONS, WATCH, Operations
from foundry_runtime.application import Application, Send, WorkLimits
from foundry_runtime.feed import Feed

__all__ = ["Journal", "chat_request", "make_test_application"]


@define
class Journal:
    """What the handler did."""

    begun: list[str] = field(factory=list)
    ended: list[str] = field(factory=list)
    cancelled: list[str] = field(factory=list)
    feed: Feed = field(factory=lambda: Feed(max_events=10))
    """What is told to who watches."""


def chat_request(model: str = "echo", text: str = "hi", **more: Any) -> ChatCompletionRequest:
    """A request whose model's name tells the handler what to do."""
    return ChatCompletionRequest(model=model, messages=(UserMessage(role="user", content=text),), **more)


def make_test_application(
    *, gate: Gate | None = None, work: WorkLimits | None = None
) -> Application[Journal]:
    """`echo` says the question back, word by word; see the handler for the others. What the feed tells can be
    watched."""

    @asynccontextmanager
    async def lifespan(_: TaskGroup) -> AsyncIterator[Journal]:
        yield Journal()

    operations = Operations([CHAT_COMPLETIONS, WATCH])
    return Application(
        operations, {"chat_completions": _chat, "watch": _watch}, lifespan, gate=gate, work=work
    )


async def _watch(journal: Journal, request: Request[WatchRequest], send: Send) -> None:
    with journal.feed.watching(request.value) as watcher:
        await send(StreamItem(value=Watching(topics=request.value.topics)))
        while True:
            await send(*(StreamItem(value=event) for event in await watcher.receive()))


async def _chat(journal: Journal, request: Request[ChatCompletionRequest], send: Send) -> None:
    body = request.value
    journal.begun.append(body.model)
    answer = answer_to(body, Identity(id="chatcmpl-1", created=1700000000, model=body.model))
    question = body.messages[-1].content
    assert isinstance(question, str)
    try:
        match body.model:
            case "raise":
                raise KeyError("a secret")
            case "nothing":
                return
            case "raise-late":
                await send(*answer.text(0, "begun"))
                raise KeyError("a secret")
            case "sleep":
                await anyio.sleep(3600)
            case "endless":
                while True:
                    await send(*answer.text(0, "x" * 10_000))
            case "hold":
                await send(*answer.text(0, "begun"))
                await anyio.sleep(3600)
            case "long":
                await send(*answer.text(0, "x" * int(question)))
            case "slow":
                for word in question.split():
                    await send(*answer.text(0, word + " "))
                    await anyio.sleep(1)
            case _:
                for word in question.split():
                    await send(*answer.text(0, word + " "))
        words = len(question.split())
        await send(*answer.finish(0, "stop", prompt_tokens=words, completion_tokens=words))
    except anyio.get_cancelled_exc_class():
        journal.cancelled.append(body.model)
        raise
    finally:
        journal.ended.append(body.model)
