"""Embeddings: texts in, vectors out; both messages of `POST /v1/embeddings`.

Knows: the four forms of the input, and the two in which a vector is written.
Refuses to know: how a text becomes a vector, and how a vector is written quickly (`foundry_proto.vectors`).

Source: OpenAI's API reference, "Create embeddings"; Foundry Local's newer core answers at the same route.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from attrs import frozen

from foundry_proto.messages.inputs import TokenIds
from foundry_proto.sentinels import ABSENT, Maybe
from foundry_proto.wire import Between, Items, Wire

__all__ = [
    "MAX_INPUTS",
    "Embedding",
    "EmbeddingList",
    "EmbeddingRequest",
    "EmbeddingUsage",
    "EncodingFormat",
]

MAX_INPUTS: Final = 2048
"""Most inputs of one request, as OpenAI's own limit is."""

EncodingFormat = Literal["float", "base64"]
"""`float`: a vector is an array of numbers; `base64`: its numbers as 32-bit floats, little-endian, in one
string, a third as long."""


@frozen(kw_only=True)
class EmbeddingRequest:
    """What to embed, and with which model."""

    model: str
    """Alias or id of the model."""
    input: (
        str
        | Annotated[tuple[str, ...], Items(least=1, most=MAX_INPUTS)]
        | TokenIds
        | Annotated[tuple[TokenIds, ...], Items(least=1, most=MAX_INPUTS)]
    )
    """A text, texts, a text's token ids, or those of several texts."""
    encoding_format: Maybe[EncodingFormat] = ABSENT
    dimensions: Maybe[Annotated[int, Between(1, 2**31 - 1)]] = ABSENT
    """How long the vectors shall be."""
    user: Maybe[str] = ABSENT


@frozen(kw_only=True)
class Embedding:
    """One input's vector."""

    WIRE: ClassVar = Wire(noun="an embedding", nouns="embeddings")
    object: Literal["embedding"] = "embedding"
    index: int
    """Which input it belongs to, counted from 0."""
    embedding: str | tuple[float, ...]
    """The vector, in the form that was asked for."""


@frozen(kw_only=True)
class EmbeddingUsage:
    """Tokens counted, over all inputs; both numbers are the same, since nothing is generated."""

    prompt_tokens: int
    total_tokens: int


@frozen(kw_only=True)
class EmbeddingList:
    """The vectors, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: tuple[Embedding, ...]
    model: str
    """As the request named it."""
    usage: EmbeddingUsage
