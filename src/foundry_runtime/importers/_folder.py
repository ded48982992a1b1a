"""The small files of a model folder, and how a whole folder appears at once or not at all.

Knows: what onnxruntime-genai reads in `genai_config.json`, what stands beside it for whoever renders
prompts, and that a directory's rename is what makes a model exist. Refuses to know: GGUF's tensors, ONNX.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from foundry_runtime.importers._graph import INPUTS, OUTPUTS
from foundry_runtime.importers._llama import Llama
from foundry_runtime.importers._tokenizer import MadeTokenizer
from foundry_runtime.importers._vocabulary import Vocabulary
from foundry_runtime.models.folder import IDENTITY_FILE, IDENTITY_VERSION
from foundry_runtime.models.placing import check_place, put_in_place

__all__ = ["GRAPH_FILE", "appearing_at", "write_genai_config", "write_identity", "write_tokenizer"]

GRAPH_FILE: Final = "model.onnx"
"""The graph; its weights lie in the file of that name with `.data` appended."""


@contextmanager
def appearing_at(target: Path) -> Iterator[Path]:
    """Give an empty directory beside `target`, which becomes `target` when the block ends well.

    When the block raises, whatever it raises, the directory is removed and `target` is as it was. What a
    killed process has left is removed, or put back, by the next call for the same target. One call for a
    target at a time: the caller sees to that.

    Args:
        target: Where the directory shall appear; an empty directory or a model folder there is replaced.

    Raises:
        FileExistsError: Something else is there.
    """
    check_place(target)
    making = target.with_name(f".{target.name}.importing")
    if making.exists():
        shutil.rmtree(making)
    making.mkdir()
    try:
        yield making
        put_in_place(making, target)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise


def write_genai_config(
    folder: Path, llama: Llama, vocabulary: Vocabulary, search: Mapping[str, object]
) -> None:
    """Write `genai_config.json`.

    Args:
        folder: The model folder.
        llama: The model's sizes.
        vocabulary: Its tokens.
        search: What a request that leaves these out gets; onnxruntime-genai's own names.
    """
    eos_ids = vocabulary.eos_ids
    tokens = {
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": eos_ids,
        # Rows of a batch that are done are padded; a model without a token for it gets its end token.
        "pad_token_id": eos_ids[0] if vocabulary.padding_id is None else vocabulary.padding_id,
    }
    config = {
        "model": {
            **{name: value for name, value in tokens.items() if value is not None},
            "context_length": llama.context_length,
            "decoder": {
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "filename": GRAPH_FILE,
                "head_size": llama.head_size,
                "hidden_size": llama.hidden_size,
                "inputs": INPUTS,
                "outputs": OUTPUTS,
                "num_attention_heads": llama.n_heads,
                "num_hidden_layers": llama.n_layers,
                "num_key_value_heads": llama.n_kv_heads,
            },
            "type": "llama",
            "vocab_size": llama.vocab_size,
        },
        "search": {"max_length": llama.context_length, "past_present_share_buffer": True, **search},
    }
    _write_json(folder / "genai_config.json", config)


def write_tokenizer(folder: Path, vocabulary: Vocabulary, made: MadeTokenizer, context_length: int) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and, if the file has one, `chat_template.jinja`."""
    (folder / "tokenizer.json").write_bytes(made.tokenizer.to_str().encode())
    texts = {
        "bos_token": vocabulary.text(vocabulary.bos_id),
        "eos_token": vocabulary.text(vocabulary.eos_ids[0]),
        "pad_token": vocabulary.text(vocabulary.padding_id),
        "unk_token": vocabulary.text(vocabulary.unknown_id),
    }
    config = {
        "add_bos_token": made.adds_bos,
        "add_eos_token": made.adds_eos,
        **{name: text for name, text in texts.items() if text is not None},
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    _write_json(folder / "tokenizer_config.json", config)
    if vocabulary.chat_template is not None:
        # Bytes: a template's line ends are part of the prompt.
        (folder / "chat_template.jinja").write_bytes(vocabulary.chat_template.encode())


def write_identity(folder: Path, model_id: str, max_output_tokens: int) -> None:
    """Write `inference_model.json`, by which a folder counts as a model: the last file of an import."""
    identity = {
        "Name": model_id,
        "PromptTemplate": None,
        "maxOutputTokens": max_output_tokens,
        "formatVersion": IDENTITY_VERSION,
    }
    _write_json(folder / IDENTITY_FILE, identity)


def _write_json(path: Path, value: object) -> None:
    path.write_bytes((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
