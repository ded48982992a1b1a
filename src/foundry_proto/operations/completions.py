"""The row of what lets texts go on.

Source: OpenAI's API reference.
"""

from __future__ import annotations

from typing import Final

from foundry_proto.messages.text_completions import TextCompletion, TextCompletionRequest
from foundry_proto.operations.table import Operation
from foundry_proto.streams import SSE_JSON

__all__ = ["COMPLETIONS"]

COMPLETIONS: Final[Operation[TextCompletionRequest, TextCompletion, TextCompletion]] = Operation(
    name="completions",
    methods=("POST",),
    path="/v1/completions",
    summary="Lets texts go on, at once or piece by piece.",
    request=TextCompletionRequest,
    response=TextCompletion,
    item=TextCompletion,
    stream=SSE_JSON,
    streams=lambda request: request.stream is True,
    long=True,
    profile="openai",
    failures=(404, 500, 502, 503, 504, 508),
    heading="Completions, of OpenAI's API reference",
)
