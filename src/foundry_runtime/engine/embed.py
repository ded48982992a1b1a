"""Token ids to vectors: one call of a graph, in a thread, with the interpreter's lock free.

Knows: onnxruntime; which inputs a graph for hidden states may have, and how these become one normalised
vector for each text.
Refuses to know: requests, jobs and steps: an embedder is no engine, since nothing is left between two calls.

Texts of one length are computed together, and nothing is ever padded: a text's vector is the same whatever
its neighbours are (but for rounding), and whatever the graph makes of a mask. Work is cut into slices of
about 0.1 s, between which other models have their turn and a caller who no longer waits is let go.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt

from foundry_runtime.engine.api import EmbeddingFailed, EngineLost, ModelLoadError
from foundry_runtime.engine.embed_config import EmbedConfig, Pooling, read_embed_config
from foundry_runtime.engine.prefill import PrefillSpeed
from foundry_runtime.engine.session import open_session
from foundry_runtime.engine.turns import Turns
from foundry_runtime.platform import return_freed_memory, usable_cores

__all__ = ["Embedder"]

_SLICE_SECONDS: Final = 0.1
_FIRST_SLICE: Final = 256
"""Tokens of the first slice, before any speed is known."""

_Ids = npt.NDArray[np.int64]
_Array = npt.NDArray[Any]


@final
class Embedder:
    """Makes vectors with one model; make it with `load`. One event loop's, as its loader is.

    Args:
        name: What messages call it: the model's id.
        graph: The loaded model.
        turns: Shared by all that compute with the same cores.
        clock: Seconds, for measuring the speed.
    """

    def __init__(self, name: str, graph: _Graph, turns: Turns, clock: Callable[[], float]) -> None:
        self.name = name
        self._graph: _Graph | None = graph
        self._turns = turns
        self._clock = clock
        self._speed = PrefillSpeed()
        self._alone = anyio.CapacityLimiter(1)
        self.dimensions = graph.dimensions
        """How many numbers each vector has."""

    @classmethod
    async def load(
        cls,
        folder: Path,
        *,
        name: str = "embedder",
        threads: int | None = None,
        turns: Turns | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Embedder:
        """Load a model folder's graph, in a thread.

        Args:
            folder: The model folder.
            name: The model's id, for messages.
            threads: Threads that compute; by default as many as this process may use cores.
            turns: Shared by all that compute with the same cores.
            clock: Seconds, for measuring the speed.

        Raises:
            ModelLoadError: The folder holds no model that gives vectors here. One token was computed to know.
        """
        make = partial(_Graph, folder, threads or usable_cores())
        graph = await anyio.to_thread.run_sync(make)
        return cls(name, graph, Turns() if turns is None else turns, clock)

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[array[float]]:
        """Make a vector of each text's token ids.

        A caller who is cancelled is let go after the slice that is being computed.

        Args:
            inputs: For each text its ids, at least one, all of them in the vocabulary.

        Returns:
            For each text, in order, its vector of 32-bit floats, with a length of 1.

        Raises:
            EmbeddingFailed: The model failed on them.
            EngineLost: The embedder was closed.
        """
        by_length: dict[int, list[int]] = {}
        for index, ids in enumerate(inputs):
            by_length.setdefault(len(ids), []).append(index)
        vectors: dict[int, array[float]] = {}
        for length, indexes in by_length.items():
            begin = 0
            while begin < len(indexes):
                part = indexes[begin : begin + self._rows(length)]
                rows = np.array([inputs[index] for index in part], dtype=np.int64)
                made = await anyio.to_thread.run_sync(self._compute, rows, limiter=self._alone)
                vectors.update(zip(part, made, strict=True))
                begin += len(part)
        return [vectors[index] for index in range(len(inputs))]

    async def aclose(self) -> None:
        """Free the model, once the call that is being computed has ended. Calling it again does nothing."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close, limiter=self._alone)

    def _rows(self, length: int) -> int:
        """How many texts of this length are computed at once."""
        tokens = int(self._speed.tokens_per_second * _SLICE_SECONDS) or _FIRST_SLICE
        return max(1, tokens // length)

    def _compute(self, ids: _Ids) -> list[array[float]]:
        if self._graph is None:
            raise EngineLost(f"the embedder of {self.name} was closed")
        with self._turns:
            started = self._clock()
            vectors = self._graph.vectors(ids)
            self._speed.measured(ids.size, self._clock() - started)
        return [array("f", vector.tobytes()) for vector in vectors]

    def _close(self) -> None:
        self._graph = None
        return_freed_memory()


# What a graph for hidden states may ask for besides the ids; all of it follows from them. It is no cache of
# earlier tokens: that is always empty.
_FEEDS: Final[Mapping[str, Callable[[_Ids], _Array]]] = {
    "input_ids": lambda ids: ids,
    "attention_mask": np.ones_like,
    "token_type_ids": np.zeros_like,
    "position_ids": lambda ids: np.broadcast_to(np.arange(ids.shape[1]), ids.shape),
}

_TYPES: Final[Mapping[str, Any]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}

_POOLS: Final[Mapping[Pooling, Callable[[_Array], _Array]]] = {
    "mean": lambda states: states.mean(axis=1),
    "max": lambda states: states.max(axis=1),
    "first": lambda states: states[:, 0],
    "last": lambda states: states[:, -1],
}


@final
class _Graph:
    """A loaded graph; may be called from any thread."""

    def __init__(self, folder: Path, threads: int) -> None:
        config = read_embed_config(folder)
        self._output = config.output
        self._pool = _POOLS[config.pooling]
        self._session = open_session(config.graph, threads=threads, arena=False)
        self._feeds = [_feed(config, one) for one in self._session.get_inputs()]
        try:
            self.dimensions = self.vectors(np.zeros((1, 1), dtype=np.int64)).shape[1]
        except EmbeddingFailed as error:
            raise ModelLoadError(f"{config.graph}: {error}") from error

    def vectors(self, ids: _Ids) -> _Array:
        """The vectors of texts of one length: from (texts, tokens) to (texts, dimensions)."""
        feeds = dict(feed(ids) for feed in self._feeds)
        try:
            (states,) = self._session.run([self._output], feeds)
        except Exception as error:  # the library's own classes have no common base
            raise EmbeddingFailed(f"the model failed: {error}") from error
        if states.ndim != 3 or states.shape[:2] != ids.shape:
            expected = ", ".join(map(str, ids.shape))
            raise EmbeddingFailed(f"{self._output}: expected the shape ({expected}, any), got {states.shape}")
        pooled = self._pool(states.astype(np.float32, copy=False))
        if not np.isfinite(pooled).all():
            raise EmbeddingFailed(f"{self._output}: expected finite numbers, got others")
        length = np.linalg.norm(pooled, axis=1, keepdims=True)
        # Zeros have no direction, and stay what they are.
        normalised: _Array = pooled / np.where(length > 0, length, 1)
        return normalised


def _feed(config: EmbedConfig, wanted: Any) -> Callable[[_Ids], tuple[str, _Array]]:
    """How one of a graph's inputs is made of the ids."""
    name, dtype = str(wanted.name), _TYPES.get(wanted.type)
    make = _FEEDS.get(name)
    if make is None and len(wanted.shape) == 4:
        make = partial(_no_cache, wanted.shape)
    if make is None or dtype is None:
        expected = f"{', '.join(_FEEDS)} or a cache"
        raise ModelLoadError(f"{config.graph}: expected inputs for {expected}, got {name} of {wanted.type}")
    return lambda ids: (name, make(ids).astype(dtype, copy=False))


def _no_cache(shape: Sequence[int | str | None], ids: _Ids) -> _Array:
    """No earlier tokens: of a cache's sizes the first counts texts, and another one that is open, tokens."""
    return np.zeros([len(ids), *(size if isinstance(size, int) else 0 for size in shape[1:])])
