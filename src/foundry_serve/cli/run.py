"""`foundry model run`: ask a model in the terminal, in this process.

Knows: which options shape a chat, and that no server is needed for it.
Refuses to know: how a conversation goes on (`chat.py`), and how a model gets here (`getting.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import click

from foundry_proto.messages.chat import ChatCompletionRequest, ChatMessage, StreamOptions, SystemMessage
from foundry_proto.sentinels import ABSENT
from foundry_runtime.client import ServerFailure
from foundry_runtime.models.loading import ModelOpener
from foundry_serve.app import make_application
from foundry_serve.cli.chat import chat_in_memory, converse
from foundry_serve.cli.getting import have_ready
from foundry_serve.cli.known import known_models
from foundry_serve.cli.terminal import INTERRUPTED, NumberRange, fail, runtime_option
from foundry_serve.config import Runtime
from foundry_serve.serving import prepare_process

__all__ = ["run"]


@click.command()
@click.argument("name", metavar="MODEL")
@click.argument("prompt", required=False)
@click.option("--system", help="Instructions that stand above the conversation.")
@click.option("--temperature", type=NumberRange(0, 2), help="0 is greedy; by default the model's own.")
@click.option("--max-tokens", type=click.IntRange(1), help="The most tokens of an answer.")
@click.option("--seed", type=int, help="Equal seeds give equal answers.")
@click.option("--threads", type=click.IntRange(1), help="By default the cores that may be used.")
@runtime_option
def run(
    name: str,
    prompt: str | None,
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
    seed: int | None,
    threads: int | None,
    runtime: Runtime,
) -> None:
    """Ask MODEL the PROMPT, or chat with it if there is none.

    The default model, smollm2-135m, is fetched the first time.
    """
    logging.basicConfig(level=logging.CRITICAL)  # failures are told in words, by the errors that come back
    prepare_process()
    known = known_models()
    model_id = have_ready(name, known, runtime)

    def make_request(messages: Sequence[ChatMessage]) -> ChatCompletionRequest:
        return ChatCompletionRequest(
            model=model_id,
            messages=tuple(messages),
            stream=True,
            stream_options=StreamOptions(include_usage=True),
            temperature=ABSENT if temperature is None else temperature,
            max_tokens=ABSENT if max_tokens is None else max_tokens,
            seed=ABSENT if seed is None else seed,
        )

    beginning = [] if system is None else [SystemMessage(role="system", content=_text(system))]
    application = make_application(known.directory, ModelOpener(threads=threads))
    with chat_in_memory(application, make_request, runtime, beginning) as chat:
        if prompt is None:
            converse(chat)
            return
        try:
            if not chat.ask(_text(prompt)):
                raise SystemExit(INTERRUPTED)
        except ServerFailure as error:
            fail(str(error))


def _text(argument: str) -> str:
    """An argument as characters: where its bytes are none, Python has put what no message can carry."""
    return argument.encode("utf-8", "replace").decode()
