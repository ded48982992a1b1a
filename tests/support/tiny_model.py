"""A model of a few thousand weights, written in milliseconds: a real folder, or a GGUF file to break.

Knows: a complete GGUF file of the Llama architecture (random weights, a small byte-level BPE tokenizer, a
chat template), as separate fields and tensors, so that a test can change one of them. It talks nonsense,
always the same nonsense.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import gguf
import numpy as np
import numpy.typing as npt
from attrs import frozen

from foundry_runtime.importers.gguf import Weights, import_gguf

__all__ = [
    "CHAT_TEMPLATE",
    "MODEL_ID",
    "SPECIAL_TOKENS",
    "TinyLlama",
    "byte_level_fields",
    "sentencepiece_fields",
    "tiny_fields",
    "tiny_model_folder",
    "tiny_tensors",
    "write_gguf",
    "write_tiny_gguf",
]

FloatArray = npt.NDArray[np.float32]
Fields = dict[str, object]
Tensors = dict[str, FloatArray]

MODEL_ID = "tiny-random-generic-cpu:1"

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""The ids 0, 1 and 2; the last one ends an answer."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# Each is merged from left to right, so every beginning of one is a token too. Chosen so that a text cut in
# another place gets other ids: digits, blanks, line ends, quotes and punctuation that could join.
_WORDS = (
    *("the", "and", "ing", "Name", "three", "primary", "colors", "Hello", "hello", "world", "what", "are"),
    *("you", "is", "system", "user", "assistant", "'s", "'S", "n't", "'ll", "12345", "99", "a1", "x2"),
    *("!!!", "...", ".\n", ",\n", "\n\n\n", "\r\n", "\t\t", "==", "=>", "<=", "!a", "(b", "++", "$$", "``"),
    *(" the", " and", " a", " is", " world", " colors", " 1", " 12", " !!", " =", " (", " 's"),
    *("  ", "    ", "     "),
)

# "\u2581" stands for a blank.
_SENTENCEPIECE_WORDS = (
    *(
        "\u2581the",
        "\u2581and",
        "\u2581world",
        "hello",
        "ing",
        "\u2581\u2581\u2581\u2581",
        "123",
        "é",
        "日本語",
        "!!",
    ),
    *("anas", "anna"),
)


@frozen(kw_only=True)
class TinyLlama:
    """The sizes of a tiny model, and the seed of its weights."""

    n_layers: int = 2
    hidden_size: int = 64
    feed_forward_size: int = 96
    n_heads: int = 4
    n_kv_heads: int = 2
    head_size: int = 16
    context_length: int = 512
    rope_base: float = 50_000.0
    epsilon: float = 1e-5
    tied_head: bool = True
    seed: int = 0


def write_tiny_gguf(
    path: Path, llama: TinyLlama | None = None, *, fields: Mapping[str, object] | None = None
) -> None:
    """Write a tiny but complete GGUF file.

    Args:
        path: The file to write.
        llama: Its sizes.
        fields: Metadata to add or replace; a field whose value is `None` is left out.
    """
    llama = llama or TinyLlama()
    all_fields = tiny_fields(llama) | dict(fields or {})
    n_tokens = len(all_fields["tokenizer.ggml.tokens"])  # type: ignore[arg-type]
    write_gguf(path, all_fields, tiny_tensors(llama, n_tokens))


def tiny_model_folder(
    directory: Path, llama: TinyLlama | None = None, *, weights: Weights = "int8", max_output_tokens: int = 64
) -> Path:
    """Make a model folder that the engine loads.

    Args:
        directory: Where the folder `tiny` is made.
        llama: The model's sizes.
        weights: How its matrices are stored.
        max_output_tokens: What `inference_model.json` says of it.

    Returns:
        The folder.
    """
    source = directory / "tiny.gguf"
    write_tiny_gguf(source, llama)
    folder = directory / "tiny"
    import_gguf(source, folder, model_id=MODEL_ID, weights=weights, max_output_tokens=max_output_tokens)
    source.unlink()
    return folder


def tiny_fields(llama: TinyLlama) -> Fields:
    """All metadata of a tiny model, with a byte-level tokenizer."""
    return {
        "general.architecture": "llama",
        "general.name": "Tiny",
        "llama.block_count": llama.n_layers,
        "llama.context_length": llama.context_length,
        "llama.embedding_length": llama.hidden_size,
        "llama.feed_forward_length": llama.feed_forward_size,
        "llama.attention.head_count": llama.n_heads,
        "llama.attention.head_count_kv": llama.n_kv_heads,
        "llama.attention.key_length": llama.head_size,
        "llama.attention.value_length": llama.head_size,
        "llama.attention.layer_norm_rms_epsilon": llama.epsilon,
        "llama.rope.freq_base": llama.rope_base,
        "llama.rope.dimension_count": llama.head_size,
        **byte_level_fields(),
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def tiny_tensors(llama: TinyLlama, n_tokens: int) -> Tensors:
    """Random weights: queries and keys large enough that a position attends to few others.

    With flat attention the order of positions and heads would hardly show in the logits.
    """
    random = np.random.default_rng(llama.seed)

    def matrix(rows: int, columns: int, gain: float) -> FloatArray:
        return random.normal(0.0, gain / columns**0.5, (rows, columns)).astype(np.float32)

    def gains() -> FloatArray:
        return random.normal(1.0, 0.1, llama.hidden_size).astype(np.float32)

    hidden, inner = llama.hidden_size, llama.feed_forward_size
    query, key = llama.n_heads * llama.head_size, llama.n_kv_heads * llama.head_size
    tensors = {"token_embd.weight": matrix(n_tokens, hidden, 4.0), "output_norm.weight": gains()}
    if not llama.tied_head:
        tensors["output.weight"] = matrix(n_tokens, hidden, 4.0)
    for layer in range(llama.n_layers):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": gains(),
            f"blk.{layer}.attn_q.weight": matrix(query, hidden, 2.0),
            f"blk.{layer}.attn_k.weight": matrix(key, hidden, 2.0),
            f"blk.{layer}.attn_v.weight": matrix(key, hidden, 1.0),
            f"blk.{layer}.attn_output.weight": matrix(hidden, query, 2.0),
            f"blk.{layer}.ffn_norm.weight": gains(),
            f"blk.{layer}.ffn_gate.weight": matrix(inner, hidden, 1.0),
            f"blk.{layer}.ffn_up.weight": matrix(inner, hidden, 1.0),
            f"blk.{layer}.ffn_down.weight": matrix(hidden, inner, 2.0),
        }
    return tensors


def write_gguf(
    path: Path,
    fields: Mapping[str, object],
    tensors: Mapping[str, FloatArray],
    tensor_type: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> None:
    """Write any fields and tensors as a GGUF file, matrices in the type given.

    Args:
        path: The file to write.
        fields: By name; `None` leaves one out. Whole numbers are written as uint32, others as float32
            unless they are numpy's float64.
        tensors: By name; vectors stay F32, as converters leave them.
        tensor_type: What matrices are stored as.
    """
    present = {name: value for name, value in fields.items() if value is not None}
    writer = gguf.GGUFWriter(path, str(present.pop("general.architecture", "llama")))
    for name, value in present.items():
        match value:
            case bool():
                writer.add_bool(name, value)
            case int():
                writer.add_uint32(name, value)
            case np.float64():
                writer.add_float64(name, float(value))
            case float():
                writer.add_float32(name, value)
            case str():
                writer.add_string(name, value)
            case [*_]:
                writer.add_array(name, value)
            case _:
                raise TypeError(f"{name}: {value!r}")
    for name, values in tensors.items():
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quantize(values, tensor_type), raw_dtype=tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level_fields(pre: str = "smollm") -> Fields:
    """A byte-level BPE tokenizer of some four hundred tokens."""
    alphabet = byte_alphabet()
    merges: dict[str, None] = {}
    tokens = dict.fromkeys([*SPECIAL_TOKENS, *alphabet.values()])
    for word in _WORDS:
        letters = [alphabet[byte] for byte in word.encode()]
        for index in range(1, len(letters)):
            left, right = "".join(letters[:index]), letters[index]
            merges[f"{left} {right}"] = None
            tokens[left + right] = None
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": list(tokens),
        "tokenizer.ggml.token_type": [int(control if text in SPECIAL_TOKENS else normal) for text in tokens],
        "tokenizer.ggml.merges": list(merges),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
    }


def sentencepiece_fields(*, space_prefix: bool = True) -> Fields:
    """A SentencePiece tokenizer of some four hundred tokens, with fallback to bytes.

    Every part of a word is a token, with a score drawn by lot: which neighbours are joined first decides
    what a text becomes.
    """
    pieces: dict[str, None] = {}
    for word in _SENTENCEPIECE_WORDS:
        for start in range(len(word)):
            for end in range(start + 2, len(word) + 1):
                pieces[word[start:end]] = None
    letters = dict.fromkeys("".join(_SENTENCEPIECE_WORDS) + "bcfjkmpquvyHW.,!?'\"04567890<>|_/")
    normal = [*pieces, *letters]
    ranks = np.random.default_rng(1).permutation(len(normal)).tolist()
    control, user_defined = gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED
    scored_tokens = [
        ("<unk>", gguf.TokenType.UNKNOWN, 0),
        ("<s>", control, 0),
        ("</s>", control, 0),
        *((f"<0x{byte:02X}>", gguf.TokenType.BYTE, 0) for byte in range(256)),
        *((text, gguf.TokenType.NORMAL, -rank) for text, rank in zip(normal, ranks, strict=True)),
        ("<tool>", user_defined, 0),
    ]
    tokens, types, scores = zip(*scored_tokens, strict=True)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": list(tokens),
        "tokenizer.ggml.scores": [float(score) for score in scores],
        "tokenizer.ggml.token_type": [int(token_type) for token_type in types],
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": None,
        "tokenizer.ggml.add_bos_token": None,
        "tokenizer.ggml.add_space_prefix": space_prefix,
    }


def byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's choice)."""
    printable: Iterable[int] = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {byte: chr(byte) for byte in printable}
    others: Sequence[int] = [byte for byte in range(256) if byte not in alphabet]
    alphabet |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return dict(sorted(alphabet.items()))
