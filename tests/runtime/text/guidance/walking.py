"""Random walks through a grammar: whatever a model chooses, this is what it may come to say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from attrs import field, frozen

from foundry_runtime.engine.api import Grammar, Guide
from foundry_runtime.engine.text.guidance.forms import Form
from foundry_runtime.engine.text.guidance.grammars import Guidance
from foundry_runtime.engine.text.tokenizer import Tokenizer
from tests.runtime.text.small_tokenizers import write_tokenizer

__all__ = ["Walker", "make_walker"]

EXTRA_ROWS = 3
"""A model often has more rows of logits than its tokenizer has tokens."""


@frozen
class Walker:
    """A small vocabulary with its guidance."""

    tokenizer: Tokenizer
    guidance: Guidance
    end_ids: Sequence[int]
    rows: int
    closing: Sequence[int] = field(init=False)

    @closing.default
    def _find_closing(self) -> Sequence[int]:
        return [token for token, text in enumerate(self.tokenizer.token_bytes) if text in {b'"', b"]", b"}"}]

    def allowed(self, guide: Guide) -> list[int]:
        """Which tokens may come next."""
        logits = np.zeros(self.rows, dtype=np.float32)
        guide.constrain(logits)
        return np.flatnonzero(np.isfinite(logits)).tolist()

    def walk(self, grammar: Grammar, seed: int = 0, *, most: int = 3000) -> str | None:
        """Choose at random, what closes rather than what goes on; `None` when it has no end."""
        random = np.random.default_rng(seed)
        guide = grammar.begin()
        said: list[int] = []
        while len(said) < most:
            logits = random.gumbel(size=self.rows).astype(np.float32)
            logits[self.closing] += 3
            guide.constrain(logits)
            token = int(logits.argmax())
            assert np.isfinite(logits[token])
            guide.accept(token)
            if token in self.end_ids:
                return self.tokenizer.decode(said)
            said.append(token)
            if guide.complete:
                return self.tokenizer.decode(said)
        return None

    def accepts(self, form: Form, text: str) -> bool:
        """Whether a form allows this whole text, and its end behind it."""
        guide = self.guidance.compile(form).begin()
        for token in self.spelled(text):
            if token not in self.allowed(guide):
                return False
            guide.accept(token)
        return guide.complete or self.end_ids[0] in self.allowed(guide)

    def begins(self, form: Form, text: str) -> bool:
        """Whether a form allows a text to begin like this."""
        guide = self.guidance.compile(form).begin()
        for token in self.spelled(text):
            if token not in self.allowed(guide):
                return False
            guide.accept(token)
        return True

    def spelled(self, text: str) -> list[int]:
        """A text byte by byte, and special tokens by their text."""
        bytes_of = {text: token for token, text in enumerate(self.tokenizer.token_bytes) if text}
        ids: list[int] = []
        while text:
            special = next((one for one in self.tokenizer.special_tokens if text.startswith(one)), None)
            if special is None:
                ids += [bytes_of[bytes([byte])] for byte in text[0].encode()]
                text = text[1:]
            else:
                ids.append(self.tokenizer.special_tokens[special])
                text = text.removeprefix(special)
        return ids


def make_walker(folder: Path, kind: str = "byte-level") -> Walker:
    """A walker over one of the small tokenizers, which has two end tokens."""
    write_tokenizer(folder, kind)
    tokenizer = Tokenizer.load(folder)
    end_ids = [tokenizer.special_tokens["</s>"], tokenizer.special_tokens["<|im_end|>"]]
    rows = len(tokenizer.token_bytes) + EXTRA_ROWS
    return Walker(tokenizer, Guidance(tokenizer, end_ids=end_ids, rows=rows), end_ids, rows)
