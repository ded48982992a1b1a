"""Execution providers: which names a client may send, and how lists of models write them."""

from __future__ import annotations

import pytest

from foundry_proto.jsontext import ContentError
from foundry_proto.providers import PROVIDERS, execution_provider, requested_provider


def test_the_five_names_are_read_in_any_letter_case_and_nothing_means_none() -> None:
    assert [requested_provider(name.upper()) for name in PROVIDERS] == ["cpu", "cuda", "dml", "qnn", "webgpu"]
    assert requested_provider("") is requested_provider(" ") is None


def test_another_name_is_refused_with_the_five() -> None:
    with pytest.raises(ContentError) as error:
        requested_provider("tpu")
    assert str(error.value) == 'ep: expected "cpu", "cuda", "dml", "qnn" or "webgpu", got "tpu"'


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("cpu", "CPUExecutionProvider"),
        ("CUDA", "CUDAExecutionProvider"),
        ("webgpu", "WebGpuExecutionProvider"),
        ("OpenVINO", "OpenVINOExecutionProvider"),
    ],
)
def test_lists_of_models_write_onnxruntimes_name(name: str, written: str) -> None:
    assert execution_provider(name) == written
