"""Which engine drives which model, and in which process.

Knows: what each engine is for, and the order in which they are tried.
Refuses to know: how they work. Their packages are imported when a model is loaded, not with this module.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, Protocol

from foundry_runtime.engine.admission import MOST_WAITING
from foundry_runtime.engine.api import Engine, ModelLoadError
from foundry_runtime.engine.process import ProcessEngine
from foundry_runtime.models.folder import ModelFolder

__all__ = ["EngineKind", "MakeEngine", "engine_at", "make_engine", "make_isolated_engine"]

logger = logging.getLogger(__name__)

EngineKind = Literal["auto", "batched", "genai"]
"""`batched` drives onnxruntime directly, many jobs in one pass: for plain decoders on the processor. `genai`
drives onnxruntime-genai's own generator, one for each job: for whatever that package knows. `auto` takes the
first where it can serve, and the second elsewhere."""


class MakeEngine(Protocol):
    """Loads a model into an engine, as `make_engine` does."""

    def __call__(
        self,
        folder: ModelFolder,
        kind: EngineKind,
        /,
        *,
        provider: str | None,
        threads: int | None,
        speculate: bool,
        max_waiting: int,
    ) -> Engine:
        """Load a model, in the thread that owns the engine."""


def make_engine(
    folder: ModelFolder,
    kind: EngineKind = "auto",
    *,
    provider: str | None = None,
    threads: int | None = None,
    speculate: bool = False,
    max_waiting: int = MOST_WAITING,
) -> Engine:
    """Load a model into its engine; takes its time, and belongs into the thread that owns the engine.

    Args:
        folder: The model.
        kind: Which engine.
        provider: The execution provider to run on; by default the model's own.
        threads: Threads that compute; by default the cores that the process may use.
        speculate: Whether the batched engine guesses what comes next, where a single answer is generated.
        max_waiting: How many requests may wait for it, behind those that it works on.

    Raises:
        ModelLoadError: The folder holds no model that can be loaded here, or not by this engine.
    """
    from foundry_runtime.engine.batched.engine import BatchedEngine  # noqa: PLC0415 - see above
    from foundry_runtime.engine.batched.layout import NotBatchable  # noqa: PLC0415
    from foundry_runtime.engine.genai.engine import GenaiEngine  # noqa: PLC0415

    on = provider or folder.provider
    if kind == "batched" and on != "cpu":
        raise ModelLoadError(f"{folder.path}: the batched engine runs on cpu alone, got {on}")
    if kind != "genai" and on == "cpu":
        try:
            return BatchedEngine(folder.path, threads=threads, speculate=speculate, max_waiting=max_waiting)
        except NotBatchable as error:
            if kind == "batched":
                raise ModelLoadError(f"{folder.path}: not for the batched engine: {error}") from error
            logger.warning("%s is driven by onnxruntime-genai's own generator: %s", folder.id, error)
        except FileNotFoundError:
            pass  # the other one says what is missing
    return GenaiEngine(folder.path, provider=provider, threads=threads, max_waiting=max_waiting)


def make_isolated_engine(
    folder: ModelFolder,
    kind: EngineKind = "auto",
    *,
    provider: str | None = None,
    threads: int | None = None,
    speculate: bool = False,
    max_waiting: int = MOST_WAITING,
) -> Engine:
    """Load a model into its engine in a process of its own; as `make_engine` does otherwise.

    Raises:
        ModelLoadError: As there, or the process ended before the model was loaded.
    """
    arguments = {
        "path": str(folder.path),
        "kind": kind,
        "provider": provider,
        "threads": threads,
        "speculate": speculate,
        "max_waiting": max_waiting,
    }
    return ProcessEngine(f"{__name__}:{engine_at.__name__}", arguments)


def engine_at(
    path: str,
    kind: EngineKind,
    *,
    provider: str | None,
    threads: int | None,
    speculate: bool,
    max_waiting: int,
) -> Engine:
    """Do in the other process what `make_isolated_engine` was asked for."""
    folder = ModelFolder.read(Path(path))
    return make_engine(
        folder, kind, provider=provider, threads=threads, speculate=speculate, max_waiting=max_waiting
    )
