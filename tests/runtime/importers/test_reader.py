"""A GGUF file is read as the `gguf` package reads it, and a broken one is refused by name."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundry_runtime.importers._reader import GgufFile
from foundry_runtime.importers.errors import UnsupportedModel
from tests.support.tiny_model import TinyLlama, write_tiny_gguf

DEQUANTISED = [
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"),
    *("TQ1_0", "TQ2_0", "MXFP4"),
]


def header(fields: bytes = b"", *, n_fields: int = 0, tensors: bytes = b"", n_tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_fields) + fields + tensors


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def tensor_entry(name: str, shape: tuple[int, ...], kind: int, offset: int = 0) -> bytes:
    return (
        string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, offset)
    )


@pytest.fixture(scope="module")
def tiny_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("reader") / "tiny.gguf"
    write_tiny_gguf(path, TinyLlama(n_layers=1))
    return path.read_bytes()


def test_fields_and_tensors_are_those_of_the_gguf_package(tmp_path: Path, tiny_bytes: bytes) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_bytes)
    theirs = gguf.GGUFReader(path)
    with GgufFile(path) as ours:
        names = [name for name in theirs.fields if not name.startswith("GGUF.")]
        assert ours.metadata.names() == names
        assert (
            ours.metadata.strings("tokenizer.ggml.tokens")
            == theirs.fields["tokenizer.ggml.tokens"].contents()
        )
        assert ours.metadata.string("general.name") == "Tiny"
        assert ours.metadata.integer("llama.block_count") == 1
        assert ours.metadata.boolean("tokenizer.ggml.add_bos_token") is False
        assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
        for tensor in theirs.tensors:
            np.testing.assert_array_equal(
                ours.rows(ours.tensors[tensor.name]).reshape(tensor.data.shape), tensor.data
            )


@pytest.mark.parametrize("name", DEQUANTISED)
def test_each_tensor_type_is_dequantised_as_the_gguf_package_does(name: str, tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType[name]
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    n_rows, n_blocks = 5, 3
    raw = np.random.default_rng(0).integers(0, 256, (n_rows, n_blocks * block_bytes), dtype=np.uint8)
    path = tmp_path / "one.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("x", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with np.errstate(all="ignore"):
        expected = gguf.dequantize(raw, kind).reshape(n_rows, n_blocks * block)
    with GgufFile(path) as file:
        np.testing.assert_array_equal(file.rows(file.tensors["x"]), expected)
        np.testing.assert_array_equal(file.rows(file.tensors["x"], 2, 4), expected[2:4])


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a GGUF file: it begins with b'', not with b'GGUF'"),
    "another format": (
        b"PK\x03\x04....",
        "not a GGUF file: it begins with b'PK\\x03\\x04', not with b'GGUF'",
    ),
    "first version": (b"GGUF" + struct.pack("<I", 1), "GGUF version 1 is not supported: expected 2 or 3"),
    "big endian": (b"GGUF" + struct.pack(">I", 3), "a big-endian GGUF file is not supported"),
    "nothing after the version": (
        b"GGUF" + struct.pack("<I", 3),
        "the file is cut short: its header needs 8 more bytes at byte 8, and the file ends at byte 8",
    ),
    "cut in a field": (
        header(struct.pack("<Q", 100) + b"general", n_fields=1),
        "the file is cut short: its header needs 100 more bytes at byte 32, and the file ends at byte 39",
    ),
    "a field twice": (
        header((string("a") + struct.pack("<IB", 0, 1)) * 2, n_fields=2),
        "a: the field stands in the file twice",
    ),
    "a name that is not UTF-8": (
        header(string(b"\xff") + struct.pack("<IB", 0, 1), n_fields=1),
        "a field's name: expected UTF-8, got b'\\xff'",
    ),
    "an unknown value type": (
        header(string("a") + struct.pack("<I", 13), n_fields=1),
        "a: unknown value type 13",
    ),
    "arrays of arrays": (
        header(string("a") + struct.pack("<IIQ", 9, 9, 1), n_fields=1),
        "a: arrays of value type 9 are not supported",
    ),
    "more array entries than bytes": (
        header(string("a") + struct.pack("<IIQ", 9, 4, 2**62), n_fields=1),
        (
            f"the file is cut short: its header needs {2**64} more bytes at byte 49,"
            " and the file ends at byte 49"
        ),
    ),
    "more strings than bytes": (
        header(string("a") + struct.pack("<IIQ", 9, 8, 2**62), n_fields=1),
        "the file is cut short: its header needs 8 more bytes at byte 49, and the file ends at byte 49",
    ),
    "more fields than bytes": (
        header(n_fields=2**64 - 1),
        "the file is cut short: its header needs 8 more bytes at byte 24, and the file ends at byte 24",
    ),
    "no dimensions": (
        header(tensors=string("x") + struct.pack("<I", 0), n_tensors=1),
        "tensor x: expected 1 to 4 dimensions, got 0",
    ),
    "no rows": (
        header(tensors=tensor_entry("x", (32, 0), 0), n_tensors=1),
        "tensor x: has no values",
    ),
    "a tensor twice": (
        header(tensors=tensor_entry("x", (1,), 0) * 2, n_tensors=2) + bytes(64),
        "tensor x: stands in the file twice",
    ),
    "an unknown tensor type": (
        header(tensors=tensor_entry("x", (32,), 31), n_tensors=1),
        "tensor x: unknown tensor type 31",
    ),
    "a tensor type that is not dequantised": (
        header(tensors=tensor_entry("x", (32,), gguf.GGMLQuantizationType.I32), n_tensors=1),
        "tensor x: the tensor type I32 is not supported",
    ),
    "a row that is no whole block": (
        header(tensors=tensor_entry("x", (33, 2), gguf.GGMLQuantizationType.Q4_0), n_tensors=1),
        "tensor x: a row of 33 values does not divide into Q4_0's blocks of 32",
    ),
    "a tensor behind the end": (
        header(tensors=tensor_entry("x", (2**40, 2**40), 0), n_tensors=1),
        f"the file is cut short: tensor x ends at byte {96 + 2**82}, and the file at byte 65",
    ),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_refused_with_the_reason(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModel) as caught:
        GgufFile(path)
    assert str(caught.value) == message


WRONG_KINDS: dict[str, tuple[Callable[[GgufFile], object], str]] = {
    "missing": (lambda file: file.metadata.string("x"), "x: the file has no such field"),
    "no string": (
        lambda file: file.metadata.string("llama.block_count"),
        "llama.block_count: expected a string, got 1",
    ),
    "no whole number": (
        lambda file: file.metadata.integer("general.name"),
        "general.name: expected a whole number, got 'Tiny'",
    ),
    "no whole number but true": (
        lambda file: file.metadata.integer("tokenizer.ggml.add_bos_token"),
        "tokenizer.ggml.add_bos_token: expected a whole number, got False",
    ),
    "an array": (
        lambda file: file.metadata.integer("tokenizer.ggml.token_type"),
        "tokenizer.ggml.token_type: expected a whole number, got an array of 380",
    ),
    "out of bounds": (
        lambda file: file.metadata.integer("llama.block_count", minimum=2, maximum=5),
        "llama.block_count: expected a number from 2 to 5, got 1",
    ),
    "no number": (
        lambda file: file.metadata.number("general.name"),
        "general.name: expected a number, got 'Tiny'",
    ),
    "no truth value": (
        lambda file: file.metadata.boolean("llama.block_count"),
        "llama.block_count: expected true or false, got 1",
    ),
    "no strings": (
        lambda file: file.metadata.strings("tokenizer.ggml.token_type"),
        "tokenizer.ggml.token_type: expected an array of strings, got an array of 380",
    ),
    "no numbers": (
        lambda file: file.metadata.numbers("tokenizer.ggml.tokens"),
        "tokenizer.ggml.tokens: expected an array of numbers, got an array of 380",
    ),
}


@pytest.mark.parametrize(("ask", "message"), WRONG_KINDS.values(), ids=WRONG_KINDS.keys())
def test_a_field_of_another_kind_is_refused_by_name(
    ask: Callable[[GgufFile], object], message: str, tmp_path: Path, tiny_bytes: bytes
) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_bytes)
    with GgufFile(path) as file, pytest.raises(UnsupportedModel) as caught:
        ask(file)
    assert str(caught.value) == message


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path, tiny_bytes: bytes) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_bytes)
    with GgufFile(path) as file:
        os.truncate(path, len(tiny_bytes) // 2)
        with pytest.raises(UnsupportedModel) as caught:
            file.rows(file.tensors["blk.0.ffn_down.weight"])
    assert str(caught.value) == "tensor blk.0.ffn_down.weight: the file ended while it was read"


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_any_cut_or_flipped_bytes_are_read_or_refused(
    data: st.DataObject, tiny_bytes: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = bytearray(tiny_bytes[: data.draw(st.integers(0, len(tiny_bytes)))])
    header_size = min(len(broken), 12_000)
    for _ in range(data.draw(st.integers(0, 3)) if header_size else 0):
        broken[data.draw(st.integers(0, header_size - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "broken.gguf"
    path.write_bytes(broken)
    try:
        with GgufFile(path) as file:
            for tensor in file.tensors.values():
                file.rows(tensor)
    except UnsupportedModel:
        pass
