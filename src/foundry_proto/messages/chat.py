"""What a client asks of a chat: the request of `POST /v1/chat/completions`, whole.

Knows: every standard and additional property of the REST reference page, and of OpenAI's API what its clients
send (`tools`, content parts, `response_format`, `stream_options`), with types and ranges.
Refuses to know: what a property does, and what a server makes of one that was left out.

Source: the REST reference page, "POST /v1/chat/completions"; where it names a property without its form,
OpenAI's API reference. Unknown properties are ignored, as the services do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from attrs import frozen

from foundry_proto.messages.tools import (
    AllowedToolsChoice,
    FunctionCall,
    FunctionCallChoice,
    FunctionDefinition,
    FunctionTool,
    NamedToolChoice,
    ToolCall,
)
from foundry_proto.sentinels import ABSENT, Maybe
from foundry_proto.wire import Between, Items, Wire

__all__ = [
    "MAX_MESSAGES",
    "AssistantMessage",
    "AudioPart",
    "ChatCompletionRequest",
    "ChatMessage",
    "Content",
    "ContentPart",
    "Count",
    "DeveloperMessage",
    "FilePart",
    "FunctionMessage",
    "ImagePart",
    "ImageUrl",
    "JsonObjectFormat",
    "JsonSchema",
    "JsonSchemaFormat",
    "LarkGrammarFormat",
    "Penalty",
    "ReasoningEffort",
    "RefusalPart",
    "RegexFormat",
    "RepetitionPenalty",
    "ResponseFormat",
    "Seed",
    "StreamOptions",
    "SystemMessage",
    "TextFormat",
    "TextPart",
    "ToolMessage",
    "TopK",
    "UserMessage",
]

_PART = Wire(noun="a part", nouns="parts")
_MESSAGE = Wire(noun="a message", nouns="messages")
_FORMAT = Wire(noun="a response format")

MAX_MESSAGES: Final = 4096
"""Most messages of one request: enough for any context, and few enough to check without a pause."""

# Choice: seeds are 64-bit, as OpenAI's are; an engine that has fewer bits takes the lower ones.
Seed = Annotated[int, Between(-(2**63), 2**63 - 1)]
"""Where the sampler's randomness begins."""
TopK = Annotated[int, Between(0, 2**31 - 1)]
"""How many of the likeliest tokens are kept; 0 keeps all."""
Penalty = Annotated[float, Between(-2, 2)]
"""Positive values punish repetition."""
# Choice: no API gives it a range. Beyond this one it is no penalty but a ban.
RepetitionPenalty = Annotated[float, Between(0.1, 10)]
"""Above 1 it punishes what the prompt or the answer has already; an extra."""
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
"""How much a model that reasons shall think; `none` is not at all."""
Count = Annotated[int, Between(1, 2**31 - 1)]
"""A number of tokens to generate."""


@frozen(kw_only=True)
class TextPart:
    """Text; several parts of one message are joined without a separator."""

    WIRE: ClassVar = _PART
    type: Literal["text", "input_text"]
    text: str


@frozen(kw_only=True)
class ImageUrl:
    """Where an image is: an address, or the image itself as a `data:` URL."""

    url: str
    detail: Maybe[Literal["auto", "low", "high"]] = ABSENT


@frozen(kw_only=True)
class ImagePart:
    """An image for a model that can see."""

    WIRE: ClassVar = _PART
    type: Literal["image_url"]
    image_url: ImageUrl


@frozen(kw_only=True)
class AudioPart:
    """Audio for a model that can hear."""

    WIRE: ClassVar = _PART
    type: Literal["input_audio"]
    input_audio: Mapping[str, object]


@frozen(kw_only=True)
class FilePart:
    """A file for a model that can read it."""

    WIRE: ClassVar = _PART
    type: Literal["file"]
    file: Mapping[str, object]


@frozen(kw_only=True)
class RefusalPart:
    """What an assistant said when it declined."""

    WIRE: ClassVar = _PART
    type: Literal["refusal"]
    refusal: str


ContentPart = TextPart | ImagePart | AudioPart | FilePart | RefusalPart
"""A piece of a message's content, told apart by `type`."""
Content = str | tuple[ContentPart, ...]
"""What a message says: text, or parts."""


@frozen(kw_only=True)
class SystemMessage:
    """Instructions that stand above the conversation."""

    WIRE: ClassVar = _MESSAGE
    role: Literal["system"]
    content: Content
    name: Maybe[str] = ABSENT


@frozen(kw_only=True)
class DeveloperMessage:
    """OpenAI's newer name for a system message."""

    WIRE: ClassVar = _MESSAGE
    role: Literal["developer"]
    content: Content
    name: Maybe[str] = ABSENT


@frozen(kw_only=True)
class UserMessage:
    """What the user says."""

    WIRE: ClassVar = _MESSAGE
    role: Literal["user"]
    content: Content
    name: Maybe[str] = ABSENT


@frozen(kw_only=True)
class AssistantMessage:
    """What the model said before; its content is null where it only called tools."""

    WIRE: ClassVar = _MESSAGE
    role: Literal["assistant"]
    content: Maybe[Content] = ABSENT
    name: Maybe[str] = ABSENT
    refusal: Maybe[str] = ABSENT
    reasoning_content: Maybe[str] = ABSENT
    tool_calls: Maybe[tuple[ToolCall, ...]] = ABSENT
    function_call: Maybe[FunctionCall] = ABSENT


@frozen(kw_only=True)
class ToolMessage:
    """A tool's result."""

    WIRE: ClassVar = _MESSAGE
    role: Literal["tool"]
    content: Content
    tool_call_id: str


@frozen(kw_only=True)
class FunctionMessage:
    """A function's result, in the older form."""

    WIRE: ClassVar = _MESSAGE
    role: Literal["function"]
    content: str | None
    name: str


ChatMessage = (
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage
)
"""One message of a conversation, told apart by `role`."""


@frozen(kw_only=True)
class TextFormat:
    """Free text."""

    WIRE: ClassVar = _FORMAT
    type: Literal["text"]


@frozen(kw_only=True)
class JsonObjectFormat:
    """Any JSON object."""

    WIRE: ClassVar = _FORMAT
    type: Literal["json_object"]


@frozen(kw_only=True)
class JsonSchema:
    """A JSON Schema with the name that OpenAI's API gives it."""

    name: str
    description: Maybe[str] = ABSENT
    schema: Maybe[Mapping[str, object]] = ABSENT
    strict: Maybe[bool] = ABSENT


@frozen(kw_only=True)
class JsonSchemaFormat:
    """JSON that the schema accepts."""

    WIRE: ClassVar = _FORMAT
    type: Literal["json_schema"]
    json_schema: JsonSchema


@frozen(kw_only=True)
class RegexFormat:
    """Text that the regular expression matches whole; an extra."""

    WIRE: ClassVar = _FORMAT
    type: Literal["regex"]
    regex: str


@frozen(kw_only=True)
class LarkGrammarFormat:
    """Text of the grammar's language; an extra that Foundry Local's newer core has."""

    WIRE: ClassVar = _FORMAT
    type: Literal["lark_grammar"]
    lark_grammar: str


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | LarkGrammarFormat
"""What form the answer must have, told apart by `type`."""


@frozen(kw_only=True)
class StreamOptions:
    """How the stream is made."""

    include_usage: Maybe[bool] = ABSENT
    """Whether a chunk with the usage and no choices stands before the end."""


@frozen(kw_only=True)
class ChatCompletionRequest:
    """A chat completion request; every property but `model` and `messages` may be absent or null."""

    WIRE: ClassVar = Wire(schema="ChatCompletionCreateRequest")
    model: str
    """Alias or id of the model."""
    messages: Annotated[tuple[ChatMessage, ...], Items(least=1, most=MAX_MESSAGES)]
    """The conversation, oldest first."""
    temperature: Maybe[Annotated[float, Between(0, 2)]] = ABSENT
    top_p: Maybe[Annotated[float, Between(0, 1)]] = ABSENT
    n: Maybe[Annotated[int, Between(1, 128)]] = ABSENT
    """How many alternatives to generate."""
    stream: Maybe[bool] = ABSENT
    stream_options: Maybe[StreamOptions] = ABSENT
    stop: Maybe[str | Annotated[tuple[str, ...], Items(most=4)]] = ABSENT
    """Texts at which generation ends; the match itself is not part of the answer."""
    max_tokens: Maybe[Count] = ABSENT
    max_completion_tokens: Maybe[Count] = ABSENT
    """The newer name of `max_tokens`; it counts where both are given."""
    max_completion_token: Maybe[Count] = ABSENT
    """A misspelling that older clients of the service send."""
    presence_penalty: Maybe[Penalty] = ABSENT
    frequency_penalty: Maybe[Penalty] = ABSENT
    logit_bias: Maybe[Mapping[str, Annotated[float, Between(-100, 100)]]] = ABSENT
    """Token id, as a string, to what is added to its logit."""
    logprobs: Maybe[bool] = ABSENT
    top_logprobs: Maybe[Annotated[int, Between(0, 20)]] = ABSENT
    seed: Maybe[Seed] = ABSENT
    user: Maybe[str] = ABSENT
    functions: Maybe[tuple[FunctionDefinition, ...]] = ABSENT
    function_call: Maybe[Literal["none", "auto"] | FunctionCallChoice] = ABSENT
    tools: Maybe[tuple[FunctionTool, ...] | FunctionTool] = ABSENT
    """An array as OpenAI's clients send it, or one object as the REST reference page types it."""
    tool_choice: Maybe[Literal["none", "auto", "required"] | NamedToolChoice | AllowedToolsChoice] = ABSENT
    parallel_tool_calls: Maybe[bool] = ABSENT
    response_format: Maybe[ResponseFormat] = ABSENT
    reasoning_effort: Maybe[ReasoningEffort] = ABSENT
    """How much a model that reasons shall think."""
    metadata: Maybe[Mapping[str, object]] = ABSENT
    top_k: Maybe[TopK] = ABSENT
    min_p: Maybe[Annotated[float, Between(0, 1)]] = ABSENT
    """Keeps the tokens whose probability is at least this part of the likeliest one's; an extra."""
    repetition_penalty: Maybe[RepetitionPenalty] = ABSENT
    random_seed: Maybe[Seed] = ABSENT
    """The REST reference page's name for `seed`, which counts where both are given."""
    ep: Maybe[str] = ABSENT
    """The execution provider to use instead of the model's own: `cpu`, `cuda`, `dml`, `qnn`, `webgpu`."""
    ttl: Maybe[Annotated[int, Between(0, 2**31 - 1)]] = ABSENT
    """Seconds that the model stays in memory after its last use."""
    store: Maybe[bool] = ABSENT
    """Whether OpenAI's own server keeps the answer."""
    service_tier: Maybe[str] = ABSENT
    """How fast OpenAI's own server answers, and for which price."""
