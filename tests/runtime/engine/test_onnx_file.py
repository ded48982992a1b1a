"""An ONNX file's outputs: what the `onnx` package writes is read, and any other bytes are told apart."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from foundry_runtime.engine.onnx_file import output_names


def model(*outputs: str) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in outputs]
    nodes = [helper.make_node("Identity", ["w"], [name]) for name in outputs]
    weights = [numpy_helper.from_array(np.ones((300, 2), np.float32), "w")]
    made = helper.make_model(helper.make_graph(nodes, "graph", [], values, weights), producer_name="x" * 200)
    made.metadata_props.add(key="output", value="no output")
    return made


@pytest.mark.parametrize("outputs", [(), ("logits",), ("a" * 200, "Ä", "present.0.key")])
def test_the_outputs_are_those_that_were_written(tmp_path: Path, outputs: tuple[str, ...]) -> None:
    onnx.save(model(*outputs), tmp_path / "model.onnx")
    assert output_names(tmp_path / "model.onnx") == outputs


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model("a"), path)
    assert output_names(path) == ("a",)
    onnx.save(model("b"), path)
    os.utime(path, ns=(1, 1))
    assert output_names(path) == ("b",)


@settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(
    st.binary(max_size=40) | st.integers(0, 400).map(lambda size: model("logits").SerializeToString()[:size])
)
def test_any_other_bytes_give_names_or_a_value_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    os.utime(path, ns=(hash(data) % 10**12,) * 2)
    try:
        names = output_names(path)
    except ValueError:
        return
    assert all(name.encode() in data for name in names)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"# a text", "expected an ONNX file, got a field of the unknown kind 3"),
        (b"\x3a\x05\x62", "expected an ONNX file, got a field that is longer than what it is part of"),
        (b"\x3a\x02\x62\x05", "expected an ONNX file, got a field that is longer than what it is part of"),
        (b"\x08" + b"\xff" * 20, "expected an ONNX file, got a number without an end"),
        (b"\x08", "expected an ONNX file, got a number without an end"),
        (
            b"\x3a\x05\x62\x03\x0a\x01\xff",
            "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        output_names(path)
    assert str(caught.value) == message
