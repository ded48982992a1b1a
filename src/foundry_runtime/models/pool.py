"""The models in memory: loaded on first use, once, and shared by all requests.

Knows: that a load belongs to the pool, not to the request that began it; that all who wait for one model wait
for one load; that a failed load is reported to each of them and tried again by the next request.
Refuses to know: how a model is loaded (its opener does), and when one should leave (it stays until the end,
or until its engine is lost).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import anyio
from anyio.abc import TaskGroup
from attrs import define, field, frozen

from foundry_proto.chat.text_stream import TextStream
from foundry_runtime.engine.text.prompt import PromptMaker
from foundry_runtime.engine.worker import Worker
from foundry_runtime.models.folder import ModelFolder

__all__ = ["LoadFailed", "LoadedModel", "ModelPool", "OpenModel"]

logger = logging.getLogger(__name__)


class LoadFailed(Exception):
    """A model could not be loaded; the text says which and why, for the client too."""


@frozen(kw_only=True, eq=False)
class LoadedModel:
    """A model that answers."""

    folder: ModelFolder
    worker: Worker
    prompts: PromptMaker

    def text_stream(self, stop: Sequence[str]) -> TextStream:
        """Begin to read the tokens of one job as text."""
        tokenizer = self.prompts.tokenizer
        return TextStream(tokenizer.token_bytes, stop, drop_first_blank=tokenizer.drops_first_blank)


OpenModel = Callable[[ModelFolder], Awaitable[LoadedModel]]
"""Loads a model from its folder; what it raises is the reason given for the failure."""


@define(eq=False)
class _Entry:
    settled: anyio.Event = field(factory=anyio.Event)
    model: LoadedModel | None = None
    reason: str = ""


class ModelPool:
    """Hands out loaded models.

    Args:
        open_model: Loads one.
        task_group: Where loads run; cancelled after `aclose`.
    """

    def __init__(self, open_model: OpenModel, task_group: TaskGroup) -> None:
        self._open_model = open_model
        self._task_group = task_group
        self._entries: dict[str, _Entry] = {}
        self._closed = False

    async def get(self, folder: ModelFolder) -> LoadedModel:
        """Give a model, loading it if it is not there.

        Raises:
            LoadFailed: It could not be loaded; the next call tries again.
        """
        entry = self._entries.get(folder.id)
        if entry is None:
            entry = self._entries[folder.id] = _Entry()
            self._task_group.start_soon(self._load, folder, entry)
        await entry.settled.wait()
        if entry.model is None:
            raise LoadFailed(f"the model {folder.id} could not be loaded: {entry.reason}")
        return entry.model

    async def _load(self, folder: ModelFolder, entry: _Entry) -> None:
        entry.reason = "the server is stopping"
        try:
            logger.info("loading %s", folder.id)
            model = await self._open_model(folder)
            logger.info("loaded %s", folder.id)
            if self._closed:
                await self._close(model)
            else:
                entry.model = model
        except Exception as error:
            logger.exception("loading %s failed", folder.id)
            entry.reason = str(error) or type(error).__name__
        finally:
            if entry.model is None:
                self._entries.pop(folder.id, None)
            entry.settled.set()

    def discard(self, model: LoadedModel) -> None:
        """Forget a model whose engine is lost: the next request loads it again."""
        entry = self._entries.get(model.folder.id)
        if entry is not None and entry.model is model:
            del self._entries[model.folder.id]
            self._task_group.start_soon(self._close, model)

    async def aclose(self) -> None:
        """Free every model; running jobs end with an error."""
        self._closed = True
        models = [entry.model for entry in self._entries.values() if entry.model is not None]
        self._entries.clear()
        for model in models:
            await self._close(model)

    async def _close(self, model: LoadedModel) -> None:
        try:
            await model.worker.aclose()
        except Exception:
            logger.exception("closing %s failed", model.folder.id)
