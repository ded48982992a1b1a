"""Embeddings: the four forms of an input, both forms of a vector, and replies that are written in steps."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.messages.embeddings import Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage
from foundry_proto.vectors import decode_vector, encode_embeddings, encode_vector
from tests.support.strategies import TEXTS

VECTORS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=4)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b'"a dog"', "a dog"),
        (b'["a dog","a cat"]', ("a dog", "a cat")),
        (b"[101,7,102]", (101, 7, 102)),
        (b"[[101,102],[101,7,102]]", ((101, 102), (101, 7, 102))),
    ],
)
def test_an_input_has_four_forms(written: bytes, read: object) -> None:
    request = decode(EmbeddingRequest, b'{"model":"m","input":%s}' % written)
    assert request.input == read
    assert encode(request) == b'{"model":"m","input":%s}' % written


_FORMS = (
    "a string, an array of one or more strings, an array of one or more integers "
    "or an array of one or more arrays of one or more integers"
)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"5", f"input: expected {_FORMS}, got 5"),
        (b"null", f"input: expected {_FORMS}, got null"),
        (b"[]", "input: expected at least 1 item, got 0"),
        (b"[[]]", "input[0]: expected at least 1 item, got 0"),
        (b'["a",[1]]', "input[1]: expected a string, got an array"),
        (b'[[1],"a"]', 'input[1]: expected an array of one or more integers, got "a"'),
        (b"[1.5]", "input[0]: expected an integer, got 1.5"),
        (
            b"[{}]",
            "input[0]: expected a string, an integer or an array of one or more integers, got an object",
        ),
        (b"[%s]" % b",".join([b'"a"'] * 2049), "input: expected at most 2048 items, got 2049"),
        (b"[%s]" % b",".join([b"[1]"] * 2049), "input: expected at most 2048 items, got 2049"),
    ],
    ids=lambda value: str(value[:20]) if isinstance(value, bytes) else "",
)
def test_another_input_is_refused_in_words(written: bytes, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        decode(EmbeddingRequest, b'{"model":"m","input":%s}' % written)
    assert str(caught.value) == message


@given(VECTORS)
def test_a_vector_as_text_is_32_bit_floats_and_can_be_read_back(vector: list[float]) -> None:
    assert decode_vector(encode_vector(vector)) == tuple(vector)


def test_the_bytes_of_a_vector_are_little_endian() -> None:
    assert encode_vector([1.0, -2.0]) == "AACAPwAAAMA="


@pytest.mark.parametrize("text", ["AACAPwAAAM", "AACAPwAAAA==", "AACA*wAAAMA=", "é"])
def test_text_that_is_no_vector_is_refused(text: str) -> None:
    with pytest.raises(ContentError, match=r"^body: expected 32-bit floats as base64, got other text$"):
        decode_vector(text)


@settings(deadline=None)
@given(st.lists(VECTORS, max_size=3), TEXTS, st.integers(0, 2**31), st.sampled_from(["float", "base64"]))
def test_a_reply_written_in_steps_says_what_the_codec_would(
    vectors: list[list[float]], model: str, tokens: int, encoding_format: str
) -> None:
    written = encode_embeddings(
        vectors,
        model=model,
        tokens=tokens,
        encoding_format=encoding_format,  # type: ignore[arg-type]
    )
    read = decode(EmbeddingList, written)
    found = [
        decode_vector(e) if isinstance(e, str) else _in_32_bits(e) for e in (d.embedding for d in read.data)
    ]
    assert found == [tuple(vector) for vector in vectors]
    assert [type(item.embedding) is str for item in read.data] == [encoding_format == "base64"] * len(vectors)
    whole = EmbeddingList(
        data=tuple(Embedding(index=i, embedding=one.embedding) for i, one in enumerate(read.data)),
        model=model,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
    )
    assert read == whole
    if encoding_format == "base64":
        assert written == encode(whole)


def _in_32_bits(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return struct.unpack(f"<{len(numbers)}f", struct.pack(f"<{len(numbers)}f", *numbers))
