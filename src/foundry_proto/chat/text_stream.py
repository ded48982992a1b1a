"""Token ids in, text out: whole characters, up to the first stop sequence.

Knows: that a character may be spread over tokens, and that text which may still become a stop sequence must
wait. Refuses to know: where the byte table comes from, logprobs, and what the text means.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence

from attrs import define, field

from foundry_proto.chat.stop import StopMatcher
from foundry_proto.errors import LocalProtocolError

__all__ = ["TextStream"]

_UTF8 = codecs.getincrementaldecoder("utf-8")


@define(eq=False)
class TextStream:
    """The text of one generated sequence, token by token.

    The pieces that `push` and `finish` return, joined, are the text of all tokens' bytes joined, decoded as a
    browser does it (invalid UTF-8 becomes U+FFFD), up to the first stop sequence.

    Args:
        table: The bytes of every token id that the model can produce, as they stand in running text: a
            byte-level token's characters mapped back to bytes; SentencePiece's `▁` as a blank and its
            `<0xE2>` as that byte; `b""` for a special token that is not shown and for an id that only pads
            the model's output. It is read, never changed or copied: one table serves all streams of a model.
        stops: The stop sequences, none of them empty; text is compared character by character, with no
            normalisation.

        drop_first_blank: Whether a blank at the very start of the text is left out: SentencePiece's
            tokenizers put one before each text that they encode.

    Raises:
        LocalProtocolError: A stop sequence is empty.
    """

    _table: Sequence[bytes] | Mapping[int, bytes]
    _stops: Sequence[str] = ()
    _drop_first_blank: bool = field(kw_only=True, default=False)
    _decoder: codecs.IncrementalDecoder = field(init=False, factory=lambda: _UTF8("replace"))
    _matcher: StopMatcher = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._matcher = StopMatcher(self._stops)

    @property
    def stopped(self) -> str | None:
        """The stop sequence that ended the text; `None` while none has."""
        return self._matcher.stopped

    @property
    def held(self) -> int:
        """How many whole characters are held back: a stop sequence may yet be made of them, or was."""
        return self._matcher.held

    def push(self, token_id: int) -> str:
        """Give the next token.

        Args:
            token_id: An id of the table. Once a stop sequence has matched, tokens are ignored.

        Returns:
            The text that may leave now; empty while a character or a possible stop sequence is incomplete.

        Raises:
            LocalProtocolError: The table has no such id, or the text was already finished.
        """
        try:
            # A list would answer a negative id from its end.
            data = self._table[token_id] if token_id >= 0 else None
        except LookupError:
            data = None
        if data is None:
            raise LocalProtocolError(f"token id: expected one of the byte table, got {token_id}")
        text = self._decoder.decode(data)
        if self._drop_first_blank and text:
            self._drop_first_blank = False
            text = text.removeprefix(" ")
        return self._matcher.push(text)

    def finish(self) -> str:
        """Say that no token will follow.

        Returns:
            The text that was held back, an incomplete character as U+FFFD; empty after a stop sequence.

        Raises:
            LocalProtocolError: The text was already finished.
        """
        text = self._matcher.push(self._decoder.decode(b"", final=True))
        return text + self._matcher.finish()
