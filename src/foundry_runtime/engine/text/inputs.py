"""Texts to token ids for embeddings, with the special tokens that the tokenizer's own file puts around each.

Knows: the `tokenizers` library as far as it encodes; any kind of tokenizer will do, since nothing is decoded.
Refuses to know: models, chat templates, limits of length.

A special token's text that a user typed stays text, as in chats.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import tokenizers
from attrs import frozen

from foundry_runtime.engine.text.tokenizer import read_core

__all__ = ["InputEncoder"]


@frozen(eq=False, repr=False)
class InputEncoder:
    """Encodes texts for one model; may be used from several threads at once."""

    _core: tokenizers.Tokenizer

    @classmethod
    def load(cls, folder: Path) -> InputEncoder:
        """Read a model folder's `tokenizer.json`. Blocks: call it in a thread.

        Raises:
            TokenizerError: There is no such file, or it is not one that can be used.
        """
        return cls(read_core(folder / "tokenizer.json"))

    def encode(self, texts: Sequence[str]) -> list[array[int]]:
        """Encode each text for itself. Blocks, while other threads run: call it in a thread.

        Args:
            texts: Without halves of surrogate pairs.

        Returns:
            For each text its ids, as C ints.
        """
        return [array("i", encoding.ids) for encoding in self._core.encode_batch_fast(texts)]
