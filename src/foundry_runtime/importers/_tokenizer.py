"""A `tokenizer.json` for the `tokenizers` library that splits texts as llama.cpp does with the same file.

Knows: byte-level BPE with the pre-tokenizers that `tokenizer.ggml.pre` names, and SentencePiece's BPE with
fallback to bytes. A pre-tokenizer that is not in the table is refused by name: one that is nearly right gives
other ids for other texts, and nobody would notice.
Refuses to know: the model, chat templates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from attrs import frozen
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from foundry_runtime.importers._reader import Metadata
from foundry_runtime.importers._vocabulary import TokenType, Vocabulary
from foundry_runtime.importers.errors import UnsupportedModel

__all__ = ["PRE_TOKENIZERS", "MadeTokenizer", "make_tokenizer"]


@frozen(kw_only=True)
class MadeTokenizer:
    """A tokenizer and what it puts around a text."""

    tokenizer: Tokenizer
    adds_bos: bool
    adds_eos: bool


@frozen(kw_only=True)
class _Splitting:
    """How a text is cut before merging: each pattern cuts what the previous ones left."""

    patterns: tuple[str, ...]
    whole_words: bool = False
    """Whether a piece that is itself a token is taken as it is, without merging up to it."""
    adds_bos: bool = False
    """What holds when `tokenizer.ggml.add_bos_token` says nothing."""


_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_CONTRACTIONS: Final = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"


def _modern(digits: str) -> str:
    """The pattern of newer models, which differ in how many digits stay together."""
    return (
        rf"(?:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_PLAIN: Final = _Splitting(patterns=(_GPT2,))
_SINGLE_DIGITS: Final = _Splitting(patterns=(r"\p{N}", _GPT2))
_LLAMA3: Final = _Splitting(patterns=(_modern(r"\p{N}{1,3}"),), whole_words=True, adds_bos=True)
_QWEN2: Final = _Splitting(patterns=(_modern(r"\p{N}"),))
_DEFAULT: Final = _Splitting(patterns=(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"))
_FALCON: Final = _Splitting(patterns=(r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]"))

PRE_TOKENIZERS: Final = {
    "default": _DEFAULT,
    "falcon": _FALCON,
    "gpt-2": _PLAIN,
    "mpt": _PLAIN,
    "olmo": _PLAIN,
    "codeshell": _SINGLE_DIGITS,
    "command-r": _SINGLE_DIGITS,
    "exaone": _SINGLE_DIGITS,
    "minerva-7b": _SINGLE_DIGITS,
    "refact": _SINGLE_DIGITS,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "falcon3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "deepseek-r1-qwen": _QWEN2,
    "qwen2": _QWEN2,
    "stablelm2": _QWEN2,
}

_SPACE: Final = "\N{LOWER ONE EIGHTH BLOCK}"


def make_tokenizer(metadata: Metadata, vocabulary: Vocabulary) -> MadeTokenizer:
    """Make the tokenizer that the file describes.

    Special tokens are found in a text unless the caller sets `encode_special_tokens`; tokens that the file
    calls user-defined are always found. What is put around a text is put there with `add_special_tokens`.

    Raises:
        UnsupportedModel: The pre-tokenizer is not known, or merges and tokens contradict each other.
    """
    if vocabulary.kind == "byte-level":
        name = metadata.string("tokenizer.ggml.pre", "default")
        if name not in PRE_TOKENIZERS:
            known = ", ".join(sorted(PRE_TOKENIZERS))
            raise UnsupportedModel(
                f"tokenizer.ggml.pre: the pre-tokenizer {name!r} is not supported: expected one of {known}"
            )
        tokenizer = _byte_level(metadata, vocabulary, PRE_TOKENIZERS[name])
        adds_bos = PRE_TOKENIZERS[name].adds_bos
    else:
        tokenizer = _sentencepiece(metadata, vocabulary)
        adds_bos = True
    tokenizer.add_special_tokens(
        list(_added(vocabulary, TokenType.CONTROL, special=True))
        + list(_added(vocabulary, TokenType.UNKNOWN, special=True))
    )
    tokenizer.add_tokens(list(_added(vocabulary, TokenType.USER_DEFINED, special=False)))

    adds_bos = metadata.boolean("tokenizer.ggml.add_bos_token", adds_bos)
    adds_eos = metadata.boolean("tokenizer.ggml.add_eos_token", False)
    _surround(tokenizer, vocabulary, adds_bos=adds_bos, adds_eos=adds_eos)
    return MadeTokenizer(tokenizer=tokenizer, adds_bos=adds_bos, adds_eos=adds_eos)


def _byte_level(metadata: Metadata, vocabulary: Vocabulary, splitting: _Splitting) -> Tokenizer:
    ids = {text: index for index, text in enumerate(vocabulary.tokens)}
    merges: dict[tuple[str, str], None] = {}
    for index, merge in enumerate(metadata.strings("tokenizer.ggml.merges")):
        # The first character may itself be a blank.
        left, _, right = merge[1:].partition(" ")
        pair = (merge[:1] + left, right)
        if pair[0] not in ids or pair[1] not in ids or "".join(pair) not in ids:
            raise UnsupportedModel(
                f"tokenizer.ggml.merges[{index}]: {merge!r} does not join two tokens into a third"
            )
        merges.setdefault(pair)
    tokenizer = Tokenizer(BPE(ids, list(merges), ignore_merges=splitting.whole_words))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in splitting.patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(metadata: Metadata, vocabulary: Vocabulary) -> Tokenizer:
    ids = {text: index for index, text in enumerate(vocabulary.tokens)}
    missing = [byte for byte in range(256) if f"<0x{byte:02X}>" not in ids]
    if missing:
        raise UnsupportedModel(f"tokenizer.ggml.tokens: the token <0x{missing[0]:02X}> for a byte is missing")
    model = BPE(
        ids,
        _merges_by_score(metadata, vocabulary),
        byte_fallback=True,
        fuse_unk=True,
        unk_token=vocabulary.text(vocabulary.unknown_id),
    )
    tokenizer = Tokenizer(model)
    adds_space = metadata.boolean("tokenizer.ggml.add_space_prefix", True)
    prefix = [normalizers.Prepend(_SPACE)] if adds_space else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if adds_space else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def _merges_by_score(metadata: Metadata, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """SentencePiece's rule as ranked merges: join the neighbours whose piece has the highest score.

    A piece can come of several pairs, and each of them is a merge. The two rules differ only where pairs of
    equal score overlap: SentencePiece joins the left one. Trained vocabularies give each piece a score of its
    own, so that takes a piece that begins as it ends, split in two ways side by side.
    """
    name = "tokenizer.ggml.scores"
    scores = metadata.numbers(name)
    if len(scores) != len(vocabulary.tokens):
        raise UnsupportedModel(
            f"{name}: expected one for each of {len(vocabulary.tokens)} tokens, got {len(scores)}"
        )
    normal = {
        text: float(score)
        for text, kind, score in zip(
            vocabulary.tokens, vocabulary.types, scores.astype(np.float64), strict=True
        )
        if kind is TokenType.NORMAL
    }
    return [
        (piece[:cut], piece[cut:])
        for piece in sorted(normal, key=lambda piece: -normal[piece])
        for cut in range(1, len(piece))
        if piece[:cut] in normal and piece[cut:] in normal
    ]


def _added(vocabulary: Vocabulary, kind: TokenType, *, special: bool) -> Iterable[AddedToken]:
    for text, its_kind in zip(vocabulary.tokens, vocabulary.types, strict=True):
        if its_kind is kind:
            yield AddedToken(text, special=special, normalized=False)


def _surround(tokenizer: Tokenizer, vocabulary: Vocabulary, *, adds_bos: bool, adds_eos: bool) -> None:
    markers = []
    if adds_bos:
        markers.append(_marker(vocabulary, "bos", vocabulary.bos_id))
    if adds_eos:
        markers.append(_marker(vocabulary, "eos", vocabulary.eos_ids[0]))
    if markers:
        before, after = ["bos"] * adds_bos, ["eos"] * adds_eos
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            pair=[*before, "$A", *after, *before, "$B", *after],
            special_tokens=markers,
        )


def _marker(vocabulary: Vocabulary, role: str, token_id: int | None) -> dict[str, object]:
    if token_id is None:
        raise UnsupportedModel(
            f"tokenizer.ggml.{role}_token_id: the file has no such field, and wants that token in each text"
        )
    return {"id": role, "ids": [token_id], "tokens": [vocabulary.tokens[token_id]]}
