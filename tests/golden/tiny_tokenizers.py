"""The tokenizers that `tiny_token_ids.json` is about, by name."""

from __future__ import annotations

from foundry_runtime.importers._tokenizer import PRE_TOKENIZERS
from tests.support.tiny_model import byte_level_fields, sentencepiece_fields

__all__ = ["SURROUNDED", "TINY_TOKENIZERS"]

TINY_TOKENIZERS = {
    **{pre: byte_level_fields(pre) for pre in PRE_TOKENIZERS},
    "sentencepiece": sentencepiece_fields(),
    "sentencepiece-without-space-prefix": sentencepiece_fields(space_prefix=False),
}
"""The metadata of each: one for every pre-tokenizer that the importer knows, and SentencePiece's kind."""

SURROUNDED = "hello world"
"""The text that is also encoded with the tokens that begin and end a text."""
