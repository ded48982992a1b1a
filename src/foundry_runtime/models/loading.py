"""Loads a model folder into memory: tokenizer, chat template and engine, or what gives vectors.

Knows: which parts make a model that answers, which one that gives vectors, and that none of them is loaded on
the event loop.
Refuses to know: when a model is needed (`pool.py`), and which engine is for which (`engines.py`).

The engines' packages are imported when a model is opened, not with this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from foundry_proto.chat.markup import find_markup
from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.admission import MOST_WAITING
from foundry_runtime.engine.api import ModelLoadError
from foundry_runtime.engine.text.inputs import InputEncoder
from foundry_runtime.engine.text.prompt import PromptMaker
from foundry_runtime.engine.text.template import ChatTemplate
from foundry_runtime.engine.text.tokenizer import Tokenizer
from foundry_runtime.engine.turns import Turns
from foundry_runtime.engine.worker import EngineWorker
from foundry_runtime.models.engines import EngineKind, MakeEngine, make_engine
from foundry_runtime.models.folder import IDENTITY_FILE, ModelFolder
from foundry_runtime.models.pool import Loaded, LoadedEncoder, LoadedModel
from foundry_runtime.platform import return_freed_memory

if TYPE_CHECKING:
    from foundry_runtime.engine.embed import Embedder

__all__ = ["ModelOpener", "make_prompts", "open_encoder"]


async def open_encoder(
    folder: ModelFolder, *, threads: int | None = None, turns: Turns | None = None
) -> LoadedEncoder:
    """Load a model that gives vectors.

    Args:
        folder: The model.
        threads: Threads that compute; by default the cores that the process may use.
        turns: Shared by all that compute with the same cores.

    Raises:
        ModelLoadError: Its folder holds none that can be loaded here.
        TokenizerError: Its tokenizer cannot be used.
    """

    def load_inputs() -> InputEncoder:
        inputs = InputEncoder.load(folder.path)
        return_freed_memory()
        return inputs

    def import_embedder() -> type[Embedder]:
        from foundry_runtime.engine.embed import Embedder  # noqa: PLC0415 - see above

        return Embedder

    inputs = await anyio.to_thread.run_sync(load_inputs)
    kind = await anyio.to_thread.run_sync(import_embedder)
    embedder = await kind.load(folder.path, name=folder.id, threads=threads, turns=turns)
    return LoadedEncoder(folder=folder, embedder=embedder, inputs=inputs)


class ModelOpener:
    """Opens model folders; an `OpenModel`.

    Args:
        threads: Threads that compute for each model; by default the cores that the process may use.
        engine: What generates.
        speculate: Whether the batched engine guesses what comes next, where a single answer is generated.
        max_waiting: How many requests may wait for a model that generates, behind those that it works on.
        make: Loads a model into that.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        engine: EngineKind = "auto",
        speculate: bool = False,
        max_waiting: int = MOST_WAITING,
        make: MakeEngine = make_engine,
    ) -> None:
        self._threads = threads
        self._speculate = speculate
        self._max_waiting = max_waiting
        self._engine: EngineKind = engine
        self._make = make
        self._turns = Turns()

    async def providers(self) -> Sequence[str]:
        """The execution providers that models can run on here; found out once, by trying."""

        def find() -> Sequence[str]:
            from foundry_runtime.engine.genai.providers import available_providers  # noqa: PLC0415 - see above

            return available_providers()

        return await anyio.to_thread.run_sync(find)

    async def __call__(self, folder: ModelFolder, provider: str | None) -> Loaded:
        """Load a model.

        Args:
            folder: The model.
            provider: Where it shall run; `None` leaves it to the model's own configuration.

        Raises:
            ModelLoadError: Its folder holds none that can be loaded here.
            TokenizerError: Its tokenizer cannot be used.
            TemplateError: Its chat template cannot be used.
        """
        if folder.task == "embeddings":
            return await open_encoder(folder, threads=self._threads, turns=self._turns)

        # One after the other: at once they would only share the same cores.
        prompts = await anyio.to_thread.run_sync(make_prompts, folder)
        worker = await EngineWorker.start(
            partial(
                self._make,
                folder,
                self._engine,
                provider=provider,
                threads=self._threads,
                speculate=self._speculate,
                max_waiting=self._max_waiting,
            ),
            name=folder.id,
            turns=self._turns,
        )
        return LoadedModel(
            folder=folder, worker=worker, prompts=prompts, provider=provider or folder.provider
        )


def make_prompts(folder: ModelFolder) -> PromptMaker:
    """Load what makes a model's prompts.

    Blocks as `Tokenizer.load` does: call it in a thread.

    Raises:
        ModelLoadError: The markers that its description names cannot be told apart.
        TokenizerError: Its tokenizer cannot be used.
        TemplateError: Its chat template cannot be used.
    """
    # The template first, since compiling leaves names behind in the interpreter's caches: among what parsing
    # the tokenizer takes for a moment, each would keep a megabyte from being given back.
    template = ChatTemplate.load(folder.path)
    tokenizer = Tokenizer.load(folder.path, rows=folder.vocab_size)
    return_freed_memory()  # parsing took half as much again as what stays
    try:
        markup = find_markup(
            template.source,
            tokenizer.added_tokens,
            calls=folder.call_markers,
            reasoning=folder.reasoning_markers,
        )
    except LocalProtocolError as error:
        raise ModelLoadError(f"{folder.path / IDENTITY_FILE}: {error}") from error
    return PromptMaker(tokenizer, template, markup)
