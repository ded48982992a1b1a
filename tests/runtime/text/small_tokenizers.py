"""Small tokenizers of both kinds, written by the library itself: every way of blanks before a text."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

__all__ = ["SMALL_TOKENIZERS", "write_tokenizer"]

_SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
_TEXTS = ("the cat sat on the mat", "hello world", "print(x)\n    return 12345", "日本語 é ☃", "<|im|> user")


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS * 3, trainer)
    return tokenizer


def _sentencepiece() -> Tokenizer:
    """`<s>` can be merged from its letters: a model's own rules may find a special token."""
    letters = sorted(set("".join(_TEXTS).replace(" ", "") + "<>/s|_\n"))
    byte_names = [f"<0x{byte:02X}>" for byte in range(256)]
    merges = [
        ("▁", "t"),
        ("▁t", "h"),
        ("h", "e"),
        ("l", "l"),
        ("▁", "▁"),
        ("<", "s"),
        ("<s", ">"),
        ("▁", "w"),
    ]
    pieces = [*_SPECIAL, *byte_names, "▁", *letters, *(left + right for left, right in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in _SPECIAL])
    return tokenizer


def _blank_before_each_piece() -> Tokenizer:
    tokenizer = _sentencepiece()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


def _blank_before_the_text() -> Tokenizer:
    tokenizer = _sentencepiece()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def _no_blank_before() -> Tokenizer:
    tokenizer = _sentencepiece()
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def _swallowing_blanks() -> Tokenizer:
    """Special tokens that take the white space around them, as some models' do."""
    tokenizer = _byte_level()
    tokenizer.add_special_tokens(
        [
            AddedToken("<|left|>", special=True, normalized=False, lstrip=True),
            AddedToken("<|right|>", special=True, normalized=False, rstrip=True),
        ]
    )
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer


SMALL_TOKENIZERS = {
    "byte-level": _byte_level,
    "blank-before-each-piece": _blank_before_each_piece,
    "blank-before-the-text": _blank_before_the_text,
    "no-blank-before": _no_blank_before,
    "swallowing-blanks": _swallowing_blanks,
}


def write_tokenizer(folder: Path, kind: str) -> Tokenizer:
    """Write `tokenizer.json` of a kind; gives the library's own tokenizer."""
    tokenizer = SMALL_TOKENIZERS[kind]()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer
