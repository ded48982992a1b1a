"""Text goes on: both messages of `POST /v1/completions`, the route that was there before chats.

Knows: every property that OpenAI's API reference has for it, and the extras that chats have here too, with
types and ranges.
Refuses to know: what a property does, and what a server makes of one that was left out.

Source: OpenAI's API reference, "Completions". Unknown properties are ignored, as the services do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from attrs import frozen

from foundry_proto.messages.chat import Count, Penalty, RepetitionPenalty, Seed, StreamOptions, TopK
from foundry_proto.messages.completions import Usage
from foundry_proto.messages.inputs import TokenIds
from foundry_proto.sentinels import ABSENT, Maybe
from foundry_proto.wire import Between, Items, Wire

__all__ = [
    "MAX_CHOICES",
    "Prompts",
    "TextChoice",
    "TextCompletion",
    "TextCompletionRequest",
    "TextFinishReason",
    "TextLogprobs",
]

MAX_CHOICES: Final = 128
"""Most texts that one request may have generated, and most prompts that it may have."""

Prompts = (
    str
    | Annotated[tuple[str, ...], Items(least=1, most=MAX_CHOICES)]
    | TokenIds
    | Annotated[tuple[TokenIds, ...], Items(least=1, most=MAX_CHOICES)]
)
"""A text, texts, a text's token ids, or those of several texts."""

TextFinishReason = Literal["stop", "length", "content_filter"]
"""Why generation ended; `content_filter` only ever comes from other servers."""


@frozen(kw_only=True)
class TextCompletionRequest:
    """Texts to go on with; every property but `model` and `prompt` may be absent or null."""

    model: str
    """Alias or id of the model."""
    prompt: Prompts
    suffix: Maybe[str] = ABSENT
    """What stands behind the text that is to be generated."""
    max_tokens: Maybe[Count] = ABSENT
    temperature: Maybe[Annotated[float, Between(0, 2)]] = ABSENT
    top_p: Maybe[Annotated[float, Between(0, 1)]] = ABSENT
    n: Maybe[Annotated[int, Between(1, MAX_CHOICES)]] = ABSENT
    """How many alternatives to give for each prompt."""
    best_of: Maybe[Annotated[int, Between(1, MAX_CHOICES)]] = ABSENT
    """How many alternatives to generate for each prompt; the `n` likeliest are given."""
    stream: Maybe[bool] = ABSENT
    stream_options: Maybe[StreamOptions] = ABSENT
    logprobs: Maybe[Annotated[int, Between(0, 20)]] = ABSENT
    """How many of the likeliest tokens are told beside each generated one."""
    echo: Maybe[bool] = ABSENT
    """Whether the prompt stands before what was generated."""
    stop: Maybe[str | Annotated[tuple[str, ...], Items(most=4)]] = ABSENT
    """Texts at which generation ends; the match itself is not part of the answer."""
    presence_penalty: Maybe[Penalty] = ABSENT
    frequency_penalty: Maybe[Penalty] = ABSENT
    logit_bias: Maybe[Mapping[str, Annotated[float, Between(-100, 100)]]] = ABSENT
    """Token id, as a string, to what is added to its logit."""
    seed: Maybe[Seed] = ABSENT
    user: Maybe[str] = ABSENT
    metadata: Maybe[Mapping[str, object]] = ABSENT
    top_k: Maybe[TopK] = ABSENT
    min_p: Maybe[Annotated[float, Between(0, 1)]] = ABSENT
    """Keeps the tokens whose probability is at least this part of the likeliest one's."""
    repetition_penalty: Maybe[RepetitionPenalty] = ABSENT
    random_seed: Maybe[Seed] = ABSENT
    """Another name for `seed`, which counts where both are given."""
    ep: Maybe[str] = ABSENT
    """The execution provider to use instead of the model's own."""
    ttl: Maybe[Annotated[int, Between(0, 2**31 - 1)]] = ABSENT
    """Seconds that the model stays in memory after its last use."""


@frozen(kw_only=True)
class TextLogprobs:
    """The generated tokens one by one; each array has one entry for each."""

    WIRE: ClassVar = Wire(noun="log probabilities")
    tokens: tuple[str, ...]
    """What a token adds to the text; one that is no whole characters is written as its bytes are:
    `bytes:\\xe2\\x98`."""
    token_logprobs: tuple[float | None, ...]
    """The logarithm of the token's probability; other servers have none for a text's first token."""
    top_logprobs: tuple[Mapping[str, float] | None, ...] | None
    """The likeliest tokens there, and the generated one; null when none were asked for."""
    text_offset: tuple[int, ...]
    """How many characters of the choice's text stand before the token."""


@frozen(kw_only=True)
class TextChoice:
    """One of the texts, or in a stream a piece of it."""

    WIRE: ClassVar = Wire(noun="a choice", nouns="choices")
    text: str
    index: int
    """Counts all choices: those of the first prompt, then those of the second, and so on."""
    logprobs: Maybe[TextLogprobs] = None
    finish_reason: Maybe[TextFinishReason] = None
    """Null in a stream until a choice's last piece."""


@frozen(kw_only=True)
class TextCompletion:
    """A whole answer, or one event of a stream: then id, created and model are the same in all of them."""

    id: str
    """`cmpl-` and letters of the server's choice."""
    object: Literal["text_completion"] = "text_completion"
    created: int
    """Seconds since 1970."""
    model: str
    """As the request named it."""
    choices: tuple[TextChoice, ...]
    system_fingerprint: Maybe[str] = None
    usage: Maybe[Usage] = ABSENT
    """In a stream only in the event before the end, when `stream_options.include_usage` asked for it."""
