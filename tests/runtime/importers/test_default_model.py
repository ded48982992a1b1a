"""The real default model, imported with 8-bit weights, stays close to the weights of its own file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime_genai as og
import pytest
from tokenizers import Tokenizer

from tests.support.llama_reference import LlamaReference, kl_divergence

pytestmark = pytest.mark.model

N_POSITIONS = 300

TEXT = """\
The lighthouse keeper counted the boats each evening before he lit the lamp. There were seven of them in the
summer, four in the winter, and on the day after the great storm there was only one. He wrote the number in a
thick green book, next to the hour of the sunset and the direction of the wind, as the keeper before him had
done for thirty-one years. Nobody had ever asked to see the book.

In March a young woman came up the path with a bicycle and a box of instruments. She said that she was
measuring how fast the cliff was falling into the sea. "About 12 centimetres a year," she told him, "but not
every year, and not everywhere." She wanted to know whether he had noticed anything. He thought for a while,
then took the green book from the shelf and put it on the table between them.

def boats_missing(before, after):
    return [name for name in before if name not in after]

It turned out that the old keeper had drawn a small map on the inside of the cover. On it the path to the
village ran to the left of the well; today it runs to the right, and the well itself is gone. What is the
simplest explanation? First, the map could be wrong. Second, the path could have been moved by hand. Third,
and this is what she believed, the ground on which the well stood had simply fallen away one night, and nobody
in the village had thought that it was worth a letter.
"""

Logits = npt.NDArray[np.floating[Any]]


@pytest.fixture(scope="module")
def folder(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model that this very importer has made."""
    return Path(shutil.copytree(default_model, tmp_path_factory.mktemp("models") / "smollm2-135m"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def ids(tokenizer: Tokenizer) -> list[int]:
    ids: list[int] = tokenizer.encode(TEXT).ids[:N_POSITIONS]
    assert len(ids) == N_POSITIONS
    return ids


@pytest.fixture(scope="module")
def expected(default_model_gguf: Path, ids: list[int]) -> Logits:
    """The logits of the file's own weights at every position."""
    return LlamaReference.from_gguf(default_model_gguf, np.float32).logits(ids)


def check_agreement(expected: Logits, actual: Logits) -> None:
    divergence = kl_divergence(expected, actual).mean()
    agreement = (expected.argmax(axis=-1) == actual.argmax(axis=-1)).mean()
    figures = f"mean divergence {divergence:.4f} nats, the same most likely token at {agreement:.1%}"
    assert divergence <= 0.01, figures
    assert agreement >= 0.93, figures


def generator(folder: Path, max_length: int) -> og.Generator:
    model = og.Model(str(folder))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=max_length, do_sample=False)
    return og.Generator(model, params)


def test_decoding_stays_close_to_the_file_s_own_weights(
    folder: Path, ids: list[int], expected: Logits
) -> None:
    decoding = generator(folder, N_POSITIONS)

    def logits() -> Iterator[npt.NDArray[np.float32]]:
        for token in ids:
            decoding.append_tokens(np.array([token], dtype=np.int32))
            yield decoding.get_logits()[0, 0]

    check_agreement(expected, np.stack(list(logits())))


def test_prefill_stays_close_to_the_file_s_own_weights(
    folder: Path, ids: list[int], expected: Logits
) -> None:
    """A prompt is computed by other kernels than single tokens; here with the logits of every position."""
    import onnxruntime  # noqa: PLC0415 - only this test needs more than the last position's logits

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    last = next(node for node in model.graph.node if node.output[0] == "last_hidden")
    del last.input[:]
    last.input.append("output_norm")
    last.op_type = "Identity"
    del last.attribute[:]
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "sequence_length"
    unpruned = folder / "unpruned.onnx"
    unpruned.write_bytes(model.SerializeToString())
    try:
        session = onnxruntime.InferenceSession(unpruned, providers=["CPUExecutionProvider"])
    finally:
        unpruned.unlink()
    feeds = {
        "input_ids": np.array([ids], dtype=np.int64),
        "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
    } | {
        value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), dtype=np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past_key_values")
    }
    check_agreement(expected, session.run(["logits"], feeds)[0][0])


def test_it_names_three_primary_colors(folder: Path, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nName three primary colors.<|im_end|>\n<|im_start|>assistant\n"
    ).ids
    answering = generator(folder, len(prompt) + 60)
    answering.append_tokens(np.array(prompt, dtype=np.int32))
    while not answering.is_done():
        answering.generate_next_token()
    answer = tokenizer.decode(answering.get_sequence(0)[len(prompt) :].tolist()).lower()
    assert all(color in answer for color in ("red", "blue", "yellow")), answer


def test_it_takes_little_more_than_a_byte_for_each_weight(folder: Path) -> None:
    assert (folder / "model.onnx.data").stat().st_size < 155e6
