"""Laws of vectors: equal to numpy's, whatever their neighbours; others go on meanwhile; failures are told."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from foundry_runtime.engine.api import EmbeddingFailed, EngineLost, ModelLoadError
from foundry_runtime.engine.embed import Embedder
from foundry_runtime.engine.turns import Turns
from tests.support.llama_reference import LlamaReference
from tests.support.tiny_encoder import reveal_hidden_states, tiny_encoder, write_encoder_folder
from tests.support.tiny_model import TinyLlama, tiny_model_folder, write_tiny_gguf

pytestmark = pytest.mark.anyio

TOLERANCE = 1e-4
ENCODER = tiny_encoder()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder_folder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def spoiled(folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(folder, tmp_path / "spoiled"))


def ids(length: int, seed: int = 0) -> list[int]:
    return [int(one) for one in np.random.default_rng((length, seed)).integers(0, 99, length)]


FEEDS = "input_ids, attention_mask, token_type_ids, position_ids"
INPUTS = [ids(7), ids(1), ids(64), ids(7, 1), ids(2), ids(7, 2)]


def largest_difference(vectors: Sequence[Sequence[float]], expected: Sequence[npt.NDArray[Any]]) -> float:
    return float(np.abs(np.array(vectors) - np.array(expected)).max())


async def test_vectors_are_the_normalised_means_that_numpy_computes(folder: Path) -> None:
    embedder = await Embedder.load(folder, threads=1)
    vectors = await embedder.embed(INPUTS)
    assert embedder.dimensions == 32
    assert largest_difference(vectors, [ENCODER.vector(one) for one in INPUTS]) < TOLERANCE
    assert {type(one) for one in vectors} == {array}
    assert await embedder.embed([]) == []
    await embedder.aclose()


async def test_a_vector_is_the_same_whatever_its_neighbours(folder: Path) -> None:
    embedder = await Embedder.load(folder, threads=1)
    together = await embedder.embed(INPUTS)
    alone = [(await embedder.embed([one]))[0] for one in INPUTS]
    assert largest_difference(together, [np.array(one) for one in alone]) < 1e-6
    await embedder.aclose()


async def test_a_decoder_that_gives_hidden_states_makes_vectors_too(tmp_path: Path) -> None:
    llama = TinyLlama(n_kv_heads=1, n_layers=3, seed=2)
    folder = tiny_model_folder(tmp_path, llama, weights="float32")
    reveal_hidden_states(folder)
    write_tiny_gguf(tmp_path / "reference.gguf", llama)
    reference = LlamaReference.from_gguf(tmp_path / "reference.gguf")
    embedder = await Embedder.load(folder, threads=1)
    vectors = await embedder.embed(INPUTS)
    means = [reference.hidden_states(one).mean(axis=0) for one in INPUTS]
    assert largest_difference(vectors, [mean / np.linalg.norm(mean) for mean in means]) < TOLERANCE
    await embedder.aclose()


@pytest.mark.parametrize(
    ("mode", "pool"),
    [
        ("pooling_mode_mean_tokens", lambda states: states.mean(axis=0)),
        ("pooling_mode_mean_sqrt_len_tokens", lambda states: states.sum(axis=0) / len(states) ** 0.5),
        ("pooling_mode_max_tokens", lambda states: states.max(axis=0)),
        ("pooling_mode_cls_token", lambda states: states[0]),
        ("pooling_mode_lasttoken", lambda states: states[-1]),
    ],
)
async def test_tokens_are_pooled_as_the_folder_says(spoiled: Path, mode: str, pool: Any) -> None:
    (spoiled / "1_Pooling").mkdir()
    (spoiled / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 32, mode: True})
    )
    embedder = await Embedder.load(spoiled, threads=1)
    pooled = [pool(ENCODER.hidden_states(one)) for one in INPUTS]
    expected = [vector / np.linalg.norm(vector) for vector in pooled]
    assert largest_difference(await embedder.embed(INPUTS), expected) < TOLERANCE
    await embedder.aclose()


async def test_the_loop_goes_on_while_a_slice_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tiny_encoder(hidden=256, inner=1024, layers=2, context=512)
    embedder = await Embedder.load(write_encoder_folder(tmp_path, large), threads=1)
    done = False
    beats = most = 0

    async def embed() -> None:
        nonlocal done
        await embedder.embed([ids(512)] * 4)
        done = True

    computing = embedder._compute

    def compute(rows: npt.NDArray[np.int64]) -> list[array[float]]:
        nonlocal beats, most
        beats = 0
        vectors = computing(rows)
        most = max(most, beats)
        return vectors

    monkeypatch.setattr(embedder, "_compute", compute)
    async with anyio.create_task_group() as group:
        group.start_soon(embed)
        while not done:
            await anyio.sleep(0.001)
            beats += 1
    # A call that kept the interpreter's lock would leave none.
    assert most > 5
    await embedder.aclose()


async def test_work_is_cut_into_slices_by_the_measured_speed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[tuple[int, ...]] = []

    def clock() -> float:
        return sum(rows * tokens for rows, tokens in computed) / 250.0

    embedder = await Embedder.load(folder, threads=1, clock=clock)
    computing = embedder._graph.vectors  # type: ignore[union-attr]

    def vectors(rows: npt.NDArray[np.int64]) -> Any:
        computed.append(rows.shape)
        return computing(rows)

    monkeypatch.setattr(embedder._graph, "vectors", vectors)
    await embedder.embed([ids(10)] * 40)
    # 250 tokens a second: after the first slice each has 25.
    assert computed == [(25, 10), *[(2, 10)] * 7, (1, 10)]
    computed.clear()
    await embedder.embed([ids(30)] * 2)
    assert computed == [(1, 30), (1, 30)]
    await embedder.aclose()


async def test_others_have_their_turn_and_a_cancelled_caller_is_let_go(folder: Path) -> None:
    turns = Turns()
    embedder = await Embedder.load(folder, threads=1, turns=turns)
    entered, leave = threading.Event(), threading.Event()

    def compute_something() -> None:
        with turns:
            entered.set()
            leave.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, compute_something)
        await anyio.to_thread.run_sync(entered.wait)
        finished: list[str] = []

        async def embed() -> None:
            try:
                await embedder.embed(INPUTS)
                finished.append("embedded")
            except anyio.get_cancelled_exc_class():
                finished.append("cancelled")
                raise

        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as callers:
                callers.start_soon(embed)
                await anyio.wait_all_tasks_blocked()
                assert finished == []
                scope.cancel()
                leave.set()
        assert finished == ["cancelled"]
    assert len(await embedder.embed(INPUTS)) == len(INPUTS)
    await embedder.aclose()


async def test_a_closed_embedder_says_so(folder: Path) -> None:
    embedder = await Embedder.load(folder, name="tiny:1", threads=1)
    await embedder.aclose()
    await embedder.aclose()
    with pytest.raises(EngineLost, match=r"^the embedder of tiny:1 was closed$"):
        await embedder.embed(INPUTS)


async def test_what_fails_fails_alone(folder: Path) -> None:
    embedder = await Embedder.load(folder, threads=1)
    with pytest.raises(EmbeddingFailed, match=r"^the model failed: .*indices element out of data bounds"):
        await embedder.embed([ids(3), [5000]])
    assert len(await embedder.embed(INPUTS)) == len(INPUTS)
    await embedder.aclose()


def rewrite(folder: Path, change: Any) -> None:
    path = folder / "model.onnx"
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)


def spoil_numbers(graph: Any) -> None:
    # The logarithm of something negative, but not for the ids with which loading tries it.
    graph.node[-1].op_type = "Sqrt"


def spoil_shape(graph: Any) -> None:
    (last,) = [node for node in graph.node if "last_hidden_state" in node.output]
    last.output[0] = "inner"
    graph.node.append(helper.make_node("ReduceMean", ["inner"], ["last_hidden_state"], keepdims=0))


def spoil_input(graph: Any) -> None:
    graph.input.append(helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3]))


def spoil_type(graph: Any) -> None:
    graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.BOOL, ["batch", "n"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil_numbers, "last_hidden_state: expected finite numbers, got others"),
        (spoil_shape, "last_hidden_state: expected the shape (1, 1, any), got ()"),
        (
            spoil_input,
            f"expected inputs for {FEEDS} or a cache, got pixel_values of tensor(float)",
        ),
        (
            spoil_type,
            f"expected inputs for {FEEDS} or a cache, got position_ids of tensor(bool)",
        ),
    ],
)
async def test_a_graph_that_gives_no_vectors_is_refused_at_the_load(
    spoiled: Path, change: Any, message: str
) -> None:
    rewrite(spoiled, change)
    with pytest.raises(ModelLoadError) as caught:
        await Embedder.load(spoiled, threads=1)
    assert str(caught.value) == f"{spoiled / 'model.onnx'}: {message}"


async def test_a_graph_that_cannot_be_loaded_is_named(spoiled: Path) -> None:
    rewrite(spoiled, lambda graph: graph.node.pop(0))
    with pytest.raises(ModelLoadError) as caught:
        await Embedder.load(spoiled, threads=1)
    assert str(caught.value).startswith(f"{spoiled / 'model.onnx'}: the model cannot be loaded: ")


async def test_a_lacking_package_is_named_with_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ModelLoadError, match=r"^onnxruntime cannot be imported \(install foundry-proto\[genai\]\): "
    ):
        await Embedder.load(folder)
