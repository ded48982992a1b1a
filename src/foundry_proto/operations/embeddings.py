"""The row of what gives vectors.

Source: OpenAI's API reference.
"""

from __future__ import annotations

from types import NoneType
from typing import Final

from foundry_proto.messages.embeddings import EmbeddingList, EmbeddingRequest
from foundry_proto.operations.table import Operation

__all__ = ["EMBEDDINGS"]

EMBEDDINGS: Final[Operation[EmbeddingRequest, EmbeddingList, None]] = Operation(
    name="embeddings",
    methods=("POST",),
    path="/v1/embeddings",
    summary="Gives a vector for each text.",
    request=EmbeddingRequest,
    response=EmbeddingList,
    item=NoneType,
    long=True,
    profile="openai",
    failures=(404, 500, 502, 503, 504, 508),
    heading="Create embeddings, of OpenAI's API reference",
)
