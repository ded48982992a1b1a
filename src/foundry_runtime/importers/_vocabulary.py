"""The tokens of a GGUF file, and which of them begin, end and pad a text.

Knows: the fields below `tokenizer.`, their defaults for each kind of tokenizer, and by which texts models
end a turn. Refuses to know: how a text is split into tokens.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal

import numpy as np
from attrs import frozen

from foundry_runtime.importers._reader import Metadata
from foundry_runtime.importers.errors import UnsupportedModel

__all__ = ["TokenType", "Vocabulary", "read_vocabulary"]

# Converters name one token that ends a text; chat models end a turn with another. llama.cpp knows those by
# their texts, and so must whoever reads the same files.
_END_OF_TURN: Final = frozenset(
    {
        "<EOT>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<|end_of_text|>",
        "<|endoftext|>",
        "<|end|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|im_end|>",
        "_<EOT>",
    }
)

Kind = Literal["byte-level", "sentencepiece"]

_KINDS: Final[dict[str, Kind]] = {"gpt2": "byte-level", "llama": "sentencepiece"}


class TokenType(IntEnum):
    """What a token is for, by the numbers of `tokenizer.ggml.token_type`."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@frozen(kw_only=True)
class Vocabulary:
    """All tokens by id, with what the file says of them."""

    kind: Kind
    tokens: list[str]
    """The text of each id: for byte-level tokenizers in the printable alphabet that stands for bytes."""
    types: list[TokenType]
    bos_id: int | None
    """Begins a text."""
    eos_ids: list[int]
    """Each of these ends an answer; the file's own end-of-text token comes first."""
    unknown_id: int | None
    padding_id: int | None
    chat_template: str | None

    def text(self, token_id: int | None) -> str | None:
        """The text of a token, `None` for no token."""
        return None if token_id is None else self.tokens[token_id]


def read_vocabulary(metadata: Metadata) -> Vocabulary:
    """Read and check all that does not depend on how texts are split.

    Raises:
        UnsupportedModel: The kind of tokenizer is not supported, or the fields contradict each other.
    """
    model = metadata.string("tokenizer.ggml.model")
    if model not in _KINDS:
        raise UnsupportedModel(f"tokenizer.ggml.model: expected 'gpt2' or 'llama', got {model!r}")
    kind = _KINDS[model]
    tokens = _tokens(metadata)
    types = _types(metadata, tokens)
    sentencepiece = kind == "sentencepiece"
    return Vocabulary(
        kind=kind,
        tokens=tokens,
        types=types,
        bos_id=_token_id(metadata, "bos", tokens, default=1 if sentencepiece else None),
        eos_ids=_eos_ids(metadata, tokens, default=2 if sentencepiece else None),
        unknown_id=_token_id(metadata, "unknown", tokens, default=0 if sentencepiece else None),
        padding_id=_token_id(metadata, "padding", tokens, default=None),
        chat_template=(
            metadata.string("tokenizer.chat_template") if "tokenizer.chat_template" in metadata else None
        ),
    )


def _tokens(metadata: Metadata) -> list[str]:
    # llama.cpp's own name for an empty one: no text may stand for two ids.
    tokens = [
        text or f"[EMPTY_{index}]" for index, text in enumerate(metadata.strings("tokenizer.ggml.tokens"))
    ]
    ids: dict[str, int] = {}
    for index, text in enumerate(tokens):
        first = ids.setdefault(text, index)
        if first != index:
            raise UnsupportedModel(f"tokenizer.ggml.tokens: the tokens {first} and {index} are both {text!r}")
    return tokens


def _types(metadata: Metadata, tokens: list[str]) -> list[TokenType]:
    name = "tokenizer.ggml.token_type"
    if name not in metadata:
        types = [TokenType.NORMAL] * len(tokens)
    else:
        numbers = metadata.numbers(name)
        if len(numbers) != len(tokens):
            raise UnsupportedModel(
                f"{name}: expected one for each of {len(tokens)} tokens, got {len(numbers)}"
            )
        known = np.isin(numbers, list(TokenType))
        if not known.all():
            raise UnsupportedModel(f"{name}: unknown token type {numbers[~known][0]}")
        types = [TokenType(number) for number in numbers.tolist()]
    return [
        TokenType.CONTROL if text in _END_OF_TURN else token_type
        for text, token_type in zip(tokens, types, strict=True)
    ]


def _eos_ids(metadata: Metadata, tokens: list[str], default: int | None) -> list[int]:
    named = [
        _token_id(metadata, "eos", tokens, default=default),
        _token_id(metadata, "eot", tokens, default=None),
        _token_id(metadata, "eom", tokens, default=None),
    ]
    by_text = [index for index, text in enumerate(tokens) if text in _END_OF_TURN]
    ids = list(dict.fromkeys(token_id for token_id in (*named, *by_text) if token_id is not None))
    if not ids:
        raise UnsupportedModel(
            "tokenizer.ggml.eos_token_id: the file has no such field, and no answer would end"
        )
    return ids


def _token_id(metadata: Metadata, role: str, tokens: list[str], *, default: int | None) -> int | None:
    name = f"tokenizer.ggml.{role}_token_id"
    if name not in metadata:
        return default if default is not None and default < len(tokens) else None
    token_id = metadata.integer(name)
    if token_id >= len(tokens):
        raise UnsupportedModel(f"{name}: expected the id of one of {len(tokens)} tokens, got {token_id}")
    return token_id
