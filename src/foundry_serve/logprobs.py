"""An engine's log probabilities as OpenAI's API tells them: token by token, with text and bytes.

Knows: that a token's bytes may be a part of a character, that a special token stands there by its name, and
that JSON has no infinity.
Refuses to know: how likely anything is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from foundry_proto.messages.completions import TokenLogprob, TopLogprob
from foundry_runtime.engine.driver import Delta
from foundry_runtime.engine.text.tokenizer import Tokenizer

__all__ = ["LogprobTeller"]

_NEVER: Final = -9999.0
"""What OpenAI's API tells of a token that cannot be."""


class LogprobTeller:
    """Tells the log probabilities of one choice.

    Args:
        tokenizer: Knows what tokens are in bytes.
        shown: Special tokens that are text in the answer.
    """

    def __init__(self, tokenizer: Tokenizer, shown: Collection[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._text = tokenizer.bytes_showing(shown)
        self._at_start = True

    def tell(self, delta: Delta) -> Sequence[TokenLogprob]:
        """Give an entry for each token of a delta."""
        told = []
        for token, logprobs in zip(delta.tokens, delta.logprobs, strict=True):
            tops = tuple(self._one(other, logprob) for other, logprob in logprobs.top)
            own = self._one(token, logprobs.logprob)
            told.append(
                TokenLogprob(token=own.token, logprob=own.logprob, bytes=own.bytes, top_logprobs=tops)
            )
            self._at_start = self._at_start and not self._text[token]
        return told

    def _one(self, token: int, logprob: float) -> TopLogprob:
        data = self._tokenizer.named_bytes(token)
        if self._at_start and self._tokenizer.drops_first_blank:
            data = data.removeprefix(b" ")  # which is no part of the text
        return TopLogprob(
            token=data.decode("utf-8", "replace"), logprob=max(logprob, _NEVER), bytes=tuple(data)
        )
