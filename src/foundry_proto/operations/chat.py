"""The rows of what generates text.

Knows: the routes of chats. Texts and vectors have rows of their own (`completions.py`, `embeddings.py`).
Refuses to know: what a row is (`table.py`).

Source: the REST reference page.
"""

from __future__ import annotations

from types import NoneType
from typing import Final

from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk
from foundry_proto.messages.models import TokenCount
from foundry_proto.operations.table import Operation
from foundry_proto.streams import SSE_JSON

__all__ = ["CHAT_COMPLETIONS", "COUNT_TOKENS"]

CHAT_COMPLETIONS: Final[Operation[ChatCompletionRequest, ChatCompletion, ChatCompletionChunk]] = Operation(
    name="chat_completions",
    methods=("POST",),
    path="/v1/chat/completions",
    summary="Answers a conversation, at once or piece by piece.",
    request=ChatCompletionRequest,
    response=ChatCompletion,
    item=ChatCompletionChunk,
    stream=SSE_JSON,
    streams=lambda request: request.stream is True,
    long=True,
    failures=(404, 500, 502, 503, 504, 508),
    heading="POST /v1/chat/completions",
)

COUNT_TOKENS: Final[Operation[ChatCompletionRequest, TokenCount, None]] = Operation(
    name="count_tokens",
    methods=("POST",),
    path="/v1/chat/completions/tokenizer/encode/count",
    summary="Counts the tokens that a model would read of a chat completion request.",
    request=ChatCompletionRequest,
    response=TokenCount,
    item=NoneType,
    long=True,
    failures=(404, 500),
    heading="POST /v1/chat/completions/tokenizer/encode/count",
)
