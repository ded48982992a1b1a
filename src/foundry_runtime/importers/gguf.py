"""`import_gguf`: a GGUF file of a Llama model into a folder that onnxruntime-genai loads, without torch.

Knows: the order of work, and what is refused before any of it begins. Reads `general.architecture` llama
with F32, F16, BF16 or any type whose quantisation the `gguf` package undoes; byte-level BPE and
SentencePiece tokenizers; tied and separate heads; any rotary base, linear scaling and Llama 3.1's factors.
Refuses, by name: other architectures, tensor types and pre-tokenizers, other rotary scalings, experts,
models split over several files, and every field or tensor below `llama.` that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from foundry_runtime.importers._folder import (
    GRAPH_FILE,
    appearing_at,
    write_genai_config,
    write_identity,
    write_tokenizer,
)
from foundry_runtime.importers._graph import build_graph
from foundry_runtime.importers._llama import read_llama
from foundry_runtime.importers._operators import Float32Writer, GraphWriter, Int8Writer
from foundry_runtime.importers._reader import GgufFile
from foundry_runtime.importers._tokenizer import make_tokenizer
from foundry_runtime.importers._vocabulary import read_vocabulary
from foundry_runtime.importers._weights import DataFile
from foundry_runtime.importers.errors import UnsupportedModel

__all__ = ["UnsupportedModel", "Weights", "import_gguf"]

Weights = Literal["int8", "float32"]
"""How matrices are written: 8-bit numbers with a scale for each 32, or in full precision."""

_WRITERS: Final[Mapping[Weights, type[GraphWriter]]] = {"int8": Int8Writer, "float32": Float32Writer}

# What comes after the weights is mostly waiting for the disk.
_WEIGHTS_END: Final = 0.9


def import_gguf(
    source: Path,
    target: Path,
    *,
    model_id: str,
    weights: Weights = "int8",
    search: Mapping[str, object] | None = None,
    max_output_tokens: int = 1024,
    progress: Callable[[str, float], None] | None = None,
) -> None:
    """Write the model of a GGUF file as a folder for onnxruntime-genai.

    Blocks for as long as it takes (two seconds for 135 million weights): call it in a thread. The folder
    appears at `target` complete, or not at all; one import for a target at a time.

    Args:
        source: The GGUF file.
        target: The folder to make; a model folder that is there already is replaced.
        model_id: The id that the model answers to, with its version: `name:1`.
        weights: How matrices are written; the embedding and the head are matrices too.
        search: Defaults for requests that leave these out, by onnxruntime-genai's names (`temperature`,
            `top_p`, `do_sample`, ...).
        max_output_tokens: How many tokens an answer may have when its request gives no limit.
        progress: Told the stage of the work ("tokenizer", "weights", "finishing") and the share of the work
            that is done, from 0 to 1. What it raises before 1 ends the import.

    Raises:
        UnsupportedModel: The file is not one that can be imported faithfully; the message says what stands
            in the way.
        FileExistsError: There is something at `target` that is not a model folder.
        OSError: A file cannot be read or written.
    """
    report = progress or _ignore
    with GgufFile(source) as file:
        report("tokenizer", 0.0)
        llama = read_llama(file)
        vocabulary = read_vocabulary(file.metadata)
        if len(vocabulary.tokens) != llama.vocab_size:
            raise UnsupportedModel(
                f"tensor token_embd.weight: expected a row for each of {len(vocabulary.tokens)} tokens,"
                f" got {llama.vocab_size}"
            )
        tokenizer = make_tokenizer(file.metadata, vocabulary)
        with appearing_at(target) as folder:
            with DataFile(folder / f"{GRAPH_FILE}.data") as data:
                writer = _WRITERS[weights](file, data, lambda share: report("weights", share * _WEIGHTS_END))
                model = build_graph(file, llama, writer)
            (folder / GRAPH_FILE).write_bytes(model.SerializeToString())
            write_genai_config(folder, llama, vocabulary, search or {})
            write_tokenizer(folder, vocabulary, tokenizer, llama.context_length)
            write_identity(folder, model_id, max_output_tokens)
            report("finishing", _WEIGHTS_END)
    report("finishing", 1.0)


def _ignore(_stage: str, _share: float) -> None:
    pass
