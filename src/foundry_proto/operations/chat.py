"""The rows of what generates text.

Source: the REST reference page.
"""

from __future__ import annotations

from typing import Final

from foundry_proto.messages.chat import ChatCompletionRequest
from foundry_proto.messages.completions import ChatCompletion, ChatCompletionChunk
from foundry_proto.operations.table import Operation
from foundry_proto.streams import SSE_JSON

__all__ = ["CHAT_COMPLETIONS"]

CHAT_COMPLETIONS: Final[Operation[ChatCompletionRequest, ChatCompletion, ChatCompletionChunk]] = Operation(
    name="chat_completions",
    methods=("POST",),
    path="/v1/chat/completions",
    request=ChatCompletionRequest,
    response=ChatCompletion,
    item=ChatCompletionChunk,
    stream=SSE_JSON,
    streams=lambda request: request.stream is True,
    long=True,
    heading="POST /v1/chat/completions",
)
