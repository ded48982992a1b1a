"""A pool whose models are empty shells, loaded and freed as the test says, without files and threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
from attrs import define, field

from foundry_runtime.models.folder import ModelFolder, SearchDefaults
from foundry_runtime.models.pool import LoadedModel, ModelPool

__all__ = ["Shells", "folder", "pooled"]


def folder(model_id: str = "m:1", **more: Any) -> ModelFolder:
    return ModelFolder(
        path=Path(more.pop("path", "nowhere")),
        id=model_id,
        context_length=8,
        vocab_size=8,
        end_ids=(0,),
        max_output_tokens=8,
        search=SearchDefaults(),
        **more,
    )


@define
class Shells:
    """An `OpenModel`; it holds that there is one instance of a model at most."""

    seconds: float = 0.0
    """How long a load takes."""
    closing_seconds: float = 0.0
    failures: list[Exception] = field(factory=list)
    """Raised by the next loads, one each."""
    closing_failures: list[Exception] = field(factory=list)
    """Raised by the next models that are closed, one each."""
    there: list[str] = field(factory=list)
    loads: list[tuple[ModelFolder, str | None]] = field(factory=list)
    closed: list[str] = field(factory=list)

    async def providers(self) -> Sequence[str]:
        return ("cpu", "cuda")

    async def __call__(self, folder: ModelFolder, provider: str | None) -> LoadedModel:
        assert folder.id not in self.there
        self.there.append(folder.id)
        self.loads.append((folder, provider))
        loaded = False
        try:
            await anyio.sleep(self.seconds)
            loaded = not self.failures
        finally:
            if not loaded:
                self.there.remove(folder.id)
        if self.failures:
            raise self.failures.pop(0)
        worker = cast("Any", _Worker(folder.id, self))
        return LoadedModel(
            folder=folder,
            worker=worker,
            prompts=cast("Any", SimpleNamespace(tokenizer=None)),
            provider=provider or "cpu",
        )


@define(eq=False)
class _Worker:
    name: str
    shells: Shells
    lost: bool = False

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(self.shells.closing_seconds)
        self.shells.there.remove(self.name)
        self.shells.closed.append(self.name)
        if self.shells.closing_failures:
            raise self.shells.closing_failures.pop(0)


@asynccontextmanager
async def pooled(**more: Any) -> AsyncIterator[tuple[ModelPool, Shells]]:
    """A pool in a task group of its own, as an application has it."""
    shells = Shells(**more)
    async with anyio.create_task_group() as group:
        pool = ModelPool(shells, group)
        yield pool, shells
        await pool.aclose()
        group.cancel_scope.cancel()
    assert shells.there == []
