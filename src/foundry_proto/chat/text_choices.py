"""The texts of one text completion: how many there are, how each grows, and which of many are the best.

Knows: how choices are counted over several prompts, what a text completion can't ask for together, the older
form of log probabilities.
Refuses to know: whether the answer is streamed, engines, and everything that is the same for all choices.

Source: OpenAI's API reference, "Completions".
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import define, field, frozen

from foundry_proto.chat.tally import Tally
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.completions import TokenLogprob
from foundry_proto.messages.inputs import each_of
from foundry_proto.messages.text_completions import MAX_CHOICES, TextCompletionRequest, TextLogprobs
from foundry_proto.sentinels import Absent, Maybe

__all__ = ["TextChoices", "TextGrowth", "TextReason", "TextShape", "shape_of"]

TextReason = Literal["stop", "length"]
"""Why a text ended."""


@frozen(kw_only=True)
class TextShape:
    """How many texts a request is about, and what is told of them."""

    prompts: int
    given: int
    """How many alternatives each prompt has in the answer."""
    generated: int
    """How many are generated for each: of more than are given, the likeliest count."""
    logprobs: int | None
    """How many of the likeliest tokens are told beside each generated one; `None` tells nothing."""

    @property
    def chooses(self) -> bool:
        """Whether the likeliest are to be found, so that the generated tokens' own logprobs are needed."""
        return self.generated > self.given


def shape_of(request: TextCompletionRequest) -> TextShape:
    """Say how many texts are to be generated.

    Raises:
        ContentError: What the request asks for does not go together.
    """
    prompts = len(each_of("prompt", request.prompt))
    logprobs = None if isinstance(request.logprobs, Absent) else request.logprobs
    given = request.n or 1
    generated = request.best_of or given
    if generated < given:
        raise ContentError(f"expected at least n, which is {given}, got {generated}", ("best_of",))
    if generated > given and request.stream:
        late = "which is the best shows too late for a stream"
        raise ContentError(f"expected n, which is {given}, got {generated}: {late}", ("best_of",))
    if prompts * generated > MAX_CHOICES:
        asked = f"{generated} for each of {prompts} prompts"
        path = ("best_of" if request.best_of else "n",)
        raise ContentError(f"expected at most {MAX_CHOICES} texts to generate, got {asked}", path)
    if request.echo and logprobs is not None:
        # Choice: how likely a prompt's own tokens are is not computed: most graphs give the last one's alone.
        raise ContentError(f"expected none beside echo, got {logprobs}", ("logprobs",))
    return TextShape(prompts=prompts, given=given, generated=generated, logprobs=logprobs)


@define
class TextGrowth:
    """One generated text so far."""

    shape: TextShape
    pieces: list[str]
    """The prompt first, where it is echoed."""
    reason: TextReason | None = None
    entries: list[tuple[TokenLogprob, int]] = field(factory=list)
    """The tokens since `take_logprobs`, each with the number of characters before it."""
    likelihood: float = 0.0
    tokens: int = 0
    _length: int = field(init=False)
    _next: int = field(init=False)
    """Where the next token's text begins."""
    _decoder: codecs.IncrementalDecoder = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._length = self._next = sum(map(len, self.pieces))
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        """Take the next text, and its tokens where they are known."""
        self.pieces.append(text)
        self._length += len(text)
        for entry in logprobs:
            self.likelihood += entry.logprob
            self.tokens += 1
            # A token that is told by a name has no text of its own.
            self.entries.append((entry, min(self._next, self._length)))
            self._next += len(self._decoder.decode(bytes(entry.bytes or ())))

    @property
    def rank(self) -> float:
        """How likely its tokens were, one with another; a text without tokens comes last."""
        return self.likelihood / self.tokens if self.tokens else -math.inf

    def take_logprobs(self) -> TextLogprobs | None:
        """The tokens since the last call, if they are to be told."""
        if self.shape.logprobs is None:
            return None
        entries, self.entries = self.entries, []
        return TextLogprobs(
            tokens=tuple(_name(entry.token, entry.bytes) for entry, _ in entries),
            token_logprobs=tuple(entry.logprob for entry, _ in entries),
            top_logprobs=tuple(_tops(entry) for entry, _ in entries) if self.shape.logprobs else None,
            text_offset=tuple(offset for _, offset in entries),
        )


def _tops(entry: TokenLogprob) -> Mapping[str, float]:
    tops = {_name(top.token, top.bytes): top.logprob for top in entry.top_logprobs or ()}
    return {**tops, _name(entry.token, entry.bytes): entry.logprob}


def _name(token: str, data: Maybe[tuple[int, ...]]) -> str:
    """A token's text; one that is a part of a character has none, and is told by its bytes."""
    try:
        return bytes(data).decode() if data else token
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data or ())


@define
class TextChoices:
    """All texts that are generated."""

    shape: TextShape
    echoes: Sequence[str]
    """For each prompt what stands before its texts."""
    all: list[TextGrowth] = field(init=False)
    tally: Tally = field(init=False)
    """Which of them have ended, and what they cost."""

    def __attrs_post_init__(self) -> None:
        self.all = [
            TextGrowth(self.shape, [echo]) for echo in self.echoes for _ in range(self.shape.generated)
        ]
        self.tally = Tally(len(self.all), self.shape.generated)

    def running(self, index: int) -> TextGrowth:
        """Give a choice that has not ended.

        Raises:
            LocalProtocolError: There is none of that index.
        """
        self.tally.check(index)
        return self.all[index]

    def finish(self, index: int, reason: TextReason, prompt: int, completion: int, cached: int) -> None:
        """End a choice, and count its tokens.

        Raises:
            LocalProtocolError: It has ended, or there is none of that index.
        """
        self.tally.finish(index, prompt=prompt, completion=completion, cached=cached)
        self.all[index].reason = reason

    def echo(self, index: int) -> str:
        """The prompt that stands before a choice's text; empty where none is wanted."""
        return self.echoes[index // self.shape.generated]

    def given(self) -> list[TextGrowth]:
        """The texts of the answer: of each prompt's, the likeliest, the likeliest of all first."""
        given: list[TextGrowth] = []
        for begin in range(0, len(self.all), self.shape.generated):
            its = self.all[begin : begin + self.shape.generated]
            if self.shape.chooses:
                its = sorted(its, key=lambda choice: -choice.rank)[: self.shape.given]
            given += its
        return given
