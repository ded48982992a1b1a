"""Talking to a model in the terminal: one answer, or a chat with its history.

Knows: that the main thread reads the keyboard, while an event loop in another thread serves the application
in memory and is its client, so that Ctrl-C while an answer comes stops the answer alone.
Refuses to know: how answers are made: this is the application that `foundry serve` serves, and the client
that anyone may use.
"""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import anyio
import anyio.from_thread
import click
from anyio.from_thread import BlockingPortal
from attrs import define

from foundry_proto.chat.assemble import ChatAssembler
from foundry_proto.messages.chat import AssistantMessage, ChatCompletionRequest, ChatMessage, UserMessage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.application import Application
from foundry_runtime.client import Client, ServerFailure
from foundry_runtime.server import serve_connection
from foundry_runtime.transport import Transport, memory_transport_pair
from foundry_serve.cli.drawing import stderr
from foundry_serve.config import Runtime

__all__ = ["Chat", "MakeRequest", "chat_in_memory", "converse"]

_GLANCE: Final = 0.1
"""Seconds between two looks at whether the user wants an answer to end."""

MakeRequest = Callable[[Sequence[ChatMessage]], ChatCompletionRequest]
"""Gives the request for a conversation: all but its messages is the same each time."""


@asynccontextmanager
async def _client_in_memory(application: Application[Any]) -> AsyncIterator[Client]:
    """Serve an application to a client of the same process."""
    async with application.running(), anyio.create_task_group() as task_group:

        async def connect() -> Transport:
            ours, theirs = memory_transport_pair()
            task_group.start_soon(serve_connection, theirs, application)
            return ours

        async with Client(connect=connect) as client:
            yield client
        task_group.cancel_scope.cancel()


@define
class Chat:
    """A conversation: what was said so far, and how to go on."""

    _portal: BlockingPortal
    _client: Client
    _make_request: MakeRequest
    _messages: list[ChatMessage]

    def ask(self, question: str) -> bool:
        """Ask, and print the answer as it comes.

        Ctrl-C ends the answer; what came of it is remembered. A question without any answer is forgotten.

        Returns:
            Whether the answer is whole.

        Raises:
            ServerFailure: The application could not answer.
        """
        asked = UserMessage(role="user", content=question)
        request = self._make_request([*self._messages, asked])
        answer = ChatAssembler()
        interrupted = threading.Event()
        scope = self._portal.call(anyio.CancelScope)
        with stderr.status("thinking") as status, _interrupts(interrupted.set):
            future = self._portal.start_task_soon(self._stream, request, answer, scope, status.stop)
            # In short waits: in a long one, Windows would not look at the interrupt.
            while not wait([future], timeout=_GLANCE).done:
                if interrupted.is_set():
                    self._portal.call(scope.cancel)
        if answer.begun or interrupted.is_set():
            click.echo()
        if answer.begun:
            (choice,) = answer.completion().choices
            self._messages += [asked, AssistantMessage(role="assistant", content=choice.message.content)]
        future.result()
        return not interrupted.is_set()

    async def _stream(
        self,
        request: ChatCompletionRequest,
        answer: ChatAssembler,
        scope: anyio.CancelScope,
        at_first: Callable[[], None],
    ) -> None:
        with scope:
            async with self._client.stream(CHAT_COMPLETIONS, request) as chunks:
                async for chunk in chunks:
                    if text := answer.add(chunk):
                        at_first()
                        click.echo(text, nl=False)


@contextmanager
def _interrupts(tell: Callable[[], None]) -> Iterator[None]:
    """Have Ctrl-C tell somebody instead of raising `KeyboardInterrupt` wherever the program happens to be."""
    before = signal.signal(signal.SIGINT, lambda *_: tell())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def chat_in_memory(
    application: Application[Any],
    make_request: MakeRequest,
    runtime: Runtime,
    beginning: Sequence[ChatMessage] = (),
) -> Iterator[Chat]:
    """Begin a conversation with an application that runs in this process.

    Args:
        application: What answers; it runs until the context is left.
        make_request: Gives the request for a conversation.
        runtime: The event loop to run it on.
        beginning: Messages that stand before the first question.
    """
    # What the caller raises must not pass through the application's task groups: they would wrap it.
    left: BaseException | None = None
    with (
        anyio.from_thread.start_blocking_portal(runtime) as portal,
        portal.wrap_async_context_manager(_client_in_memory(application)) as client,
    ):
        try:
            yield Chat(portal, client, make_request, [*beginning])
        except BaseException as error:  # noqa: BLE001 - raised again below
            left = error
    if left is not None:
        raise left


def converse(chat: Chat) -> None:
    """Ask what the user types, line by line, until the input ends or says `/exit`.

    Ctrl-C at the prompt takes the line back; a question that cannot be answered does not end the chat.
    """
    if not isinstance(sys.stdin, io.TextIOWrapper):
        return  # the input was closed before the program began
    sys.stdin.reconfigure(errors="replace")  # bytes that are no text end no chat
    prompt = ""
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401, PLC0415 - gives `input` a history and editing; Windows has its own
        click.echo("Ctrl-C stops an answer; Ctrl-D or /exit ends the chat.", err=True)
        prompt = "> "
    while True:
        try:
            question = input(prompt).strip()
            if question == "/exit":
                return
            if question:
                chat.ask(question)
        except KeyboardInterrupt:
            click.echo()
        except EOFError:
            return
        except ServerFailure as error:
            click.echo(f"foundry: {error}", err=True)
