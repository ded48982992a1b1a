"""Execution providers: which names a client may send, and how lists of models write them."""

from __future__ import annotations

import pytest

from foundry_proto.jsontext import ContentError
from foundry_proto.providers import PROVIDERS, execution_provider, provider_called, requested_provider


def test_the_five_names_are_read_in_any_letter_case_and_nothing_means_none() -> None:
    assert [requested_provider(name.upper()) for name in PROVIDERS] == ["cpu", "cuda", "dml", "qnn", "webgpu"]
    assert requested_provider("") is requested_provider(" ") is None


def test_another_name_is_refused_with_the_five() -> None:
    with pytest.raises(ContentError) as error:
        requested_provider("tpu")
    assert str(error.value) == 'ep: expected "cpu", "cuda", "dml", "qnn" or "webgpu", got "tpu"'


@pytest.mark.parametrize(
    ("name", "short", "written"),
    [
        ("cpu", "cpu", "CPUExecutionProvider"),
        ("CUDA", "cuda", "CUDAExecutionProvider"),
        ("DmlExecutionProvider", "dml", "DmlExecutionProvider"),
        ("WebGPU", "webgpu", "WebGpuExecutionProvider"),
        ("OpenVINO", None, "OpenVINOExecutionProvider"),
        ("OpenVINOExecutionProvider", None, "OpenVINOExecutionProvider"),
    ],
)
def test_a_model_may_call_a_provider_by_either_name_and_lists_write_the_longer(
    name: str, short: str | None, written: str
) -> None:
    known = provider_called(name)
    assert (known.name if known else None) == short
    assert execution_provider(name) == written
