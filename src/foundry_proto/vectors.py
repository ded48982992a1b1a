"""Vectors as text: the two forms in which a reply to `POST /v1/embeddings` carries them.

Knows: both forms, and how to write a whole reply of them in small steps, so that a thread that writes a large
one lets others run in between.
Refuses to know: where vectors come from.

A vector here is 32-bit floats, which nine digits tell exactly.

Source: OpenAI's API reference, "Create embeddings"; its Python client reads `base64` as little-endian floats.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence

from attrs import evolve

from foundry_proto.codec import encode
from foundry_proto.jsontext import ContentError
from foundry_proto.messages.embeddings import Embedding, EmbeddingList, EmbeddingUsage, EncodingFormat

__all__ = ["decode_vector", "encode_embeddings", "encode_vector"]


def encode_vector(vector: Sequence[float]) -> str:
    """Write a vector as `base64`.

    Args:
        vector: Numbers that 32 bits can carry.
    """
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def decode_vector(text: str) -> tuple[float, ...]:
    """Read a vector that is written as `base64`.

    Raises:
        ContentError: It is none.
    """
    try:
        data = base64.b64decode(text, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    except (ValueError, struct.error):
        raise ContentError("expected 32-bit floats as base64, got other text") from None


def encode_embeddings(
    vectors: Iterable[Sequence[float]], *, model: str, tokens: int, encoding_format: EncodingFormat
) -> bytes:
    """Write a whole reply: what the codec writes of the `EmbeddingList`, in small steps.

    A reply may have millions of numbers. Written at once, they would keep all other threads waiting for
    seconds.

    Args:
        vectors: One for each input, in their order; finite numbers that 32 bits can carry.
        model: As the request named it.
        tokens: How many the inputs have together.
        encoding_format: The vectors' form.
    """
    usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
    empty = EmbeddingList(data=(), model=model, usage=usage)
    before, brackets, after = encode(empty).partition(b"[]")
    written = b",".join(_written(index, vector, encoding_format) for index, vector in enumerate(vectors))
    return before + brackets[:1] + written + brackets[1:] + after


_NO_VECTOR = Embedding(index=0, embedding="")


def _written(index: int, vector: Sequence[float], encoding_format: EncodingFormat) -> bytes:
    if encoding_format == "base64":
        return encode(evolve(_NO_VECTOR, index=index, embedding=encode_vector(vector)))
    numbers = ",".join(["%.9g"] * len(vector)) % tuple(vector)
    return encode(evolve(_NO_VECTOR, index=index)).replace(b'""', f"[{numbers}]".encode())
