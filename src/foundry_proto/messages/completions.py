"""What a chat completion answers: whole, or as the chunks of a stream.

Knows: the fields of both forms, their order on the wire, and which are left out rather than null.
Refuses to know: how generated text becomes chunks (`chat/chat_stream.py`), and chunks a whole
(`chat/assemble.py`).

A field that may be absent and whose default is `None` is written as a null, as OpenAI's own server does; read
from a server that leaves it out, it is `ABSENT`.

Source: the REST reference page, "Response body"; for streams OpenAI's chunk object, as the service writes it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from attrs import field, frozen

from foundry_proto.messages.tools import FunctionCall, ToolCall
from foundry_proto.sentinels import ABSENT, Maybe
from foundry_proto.wire import Wire

__all__ = [
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionMessage",
    "Choice",
    "ChoiceLogprobs",
    "ChunkChoice",
    "CompletionTokensDetails",
    "Delta",
    "FinishReason",
    "FunctionCallDelta",
    "PromptTokensDetails",
    "TokenLogprob",
    "ToolCallDelta",
    "TopLogprob",
    "Usage",
]

FinishReason = Literal["stop", "length", "tool_calls", "function_call", "content_filter"]
"""Why generation ended; `content_filter` only ever comes from other servers."""

_CHOICE = Wire(noun="a choice", nouns="choices")


@frozen(kw_only=True)
class PromptTokensDetails:
    """What became of the prompt's tokens."""

    cached_tokens: int = 0
    """Those whose KV cache was there already."""


@frozen(kw_only=True)
class CompletionTokensDetails:
    """What the generated tokens were."""

    reasoning_tokens: int = 0


@frozen(kw_only=True)
class Usage:
    """Tokens counted; the total is the sum of the other two."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: Maybe[PromptTokensDetails] = field(factory=PromptTokensDetails)
    completion_tokens_details: Maybe[CompletionTokensDetails] = field(factory=CompletionTokensDetails)


@frozen(kw_only=True)
class TopLogprob:
    """A token that might have stood here, and the logarithm of its probability."""

    WIRE: ClassVar = Wire(noun="a token", nouns="tokens")
    token: str
    logprob: float
    bytes: Maybe[tuple[int, ...]]
    """What the token adds to the text, in UTF-8; a character may be spread over several tokens."""


@frozen(kw_only=True)
class TokenLogprob:
    """A generated token, the logarithm of its probability, and which tokens were likeliest."""

    WIRE: ClassVar = Wire(noun="a token", nouns="tokens")
    token: str
    logprob: float
    bytes: Maybe[tuple[int, ...]]
    top_logprobs: Maybe[tuple[TopLogprob, ...]] = ()


@frozen(kw_only=True)
class ChoiceLogprobs:
    """One entry for each token generated for a choice."""

    WIRE: ClassVar = Wire(noun="log probabilities")
    content: Maybe[tuple[TokenLogprob, ...]]
    refusal: Maybe[tuple[TokenLogprob, ...]] = None


@frozen(kw_only=True)
class ChatCompletionMessage:
    """The assistant's answer."""

    WIRE: ClassVar = Wire(noun="a message", nouns="messages")
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: Maybe[str] = None
    reasoning_content: Maybe[str] = ABSENT
    tool_calls: Maybe[tuple[ToolCall, ...]] = ABSENT
    function_call: Maybe[FunctionCall] = ABSENT


@frozen(kw_only=True)
class Choice:
    """One of the alternatives."""

    WIRE: ClassVar = _CHOICE
    index: int
    message: ChatCompletionMessage
    logprobs: Maybe[ChoiceLogprobs] = None
    finish_reason: FinishReason | None


@frozen(kw_only=True)
class ChatCompletion:
    """A whole answer."""

    id: str
    """`chatcmpl-` and letters of the server's choice."""
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    """Seconds since 1970."""
    model: str
    """As the request named it."""
    choices: tuple[Choice, ...]
    usage: Maybe[Usage] = ABSENT
    system_fingerprint: Maybe[str] = None


@frozen(kw_only=True)
class FunctionCallDelta:
    """A piece of a function call: the name once, the arguments piece by piece."""

    name: Maybe[str] = ABSENT
    arguments: Maybe[str] = ABSENT


@frozen(kw_only=True)
class ToolCallDelta:
    """A piece of the tool call with this running index."""

    WIRE: ClassVar = Wire(noun="a tool call", nouns="tool calls")
    index: int
    id: Maybe[str] = ABSENT
    type: Maybe[Literal["function"]] = ABSENT
    function: Maybe[FunctionCallDelta] = ABSENT


@frozen(kw_only=True)
class Delta:
    """What a chunk adds to a choice's message."""

    role: Maybe[Literal["assistant"]] = ABSENT
    content: Maybe[str] = ABSENT
    refusal: Maybe[str] = ABSENT
    reasoning_content: Maybe[str] = ABSENT
    tool_calls: Maybe[tuple[ToolCallDelta, ...]] = ABSENT
    function_call: Maybe[FunctionCallDelta] = ABSENT


@frozen(kw_only=True)
class ChunkChoice:
    """One alternative's part of a chunk; the finish reason is null until its last."""

    WIRE: ClassVar = _CHOICE
    index: int
    delta: Delta
    logprobs: Maybe[ChoiceLogprobs] = None
    finish_reason: FinishReason | None = None


@frozen(kw_only=True)
class ChatCompletionChunk:
    """One event of a stream; id, created and model are the same in all of them."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    system_fingerprint: Maybe[str] = None
    usage: Maybe[Usage] = ABSENT
    """Only in the chunk before the end, when `stream_options.include_usage` asked for it."""
