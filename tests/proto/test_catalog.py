"""Ids, versions, aliases and variants: what a user may write for a model, and which one comes first."""

from __future__ import annotations

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from foundry_proto.catalog import (
    base_of,
    canonical_id,
    device_of,
    in_order,
    is_meant,
    newer_versions,
    newest,
    resolve,
    same_model,
    version_of,
    versioned_id,
)


@frozen
class Model:
    id: str
    alias: str = "m"
    cached: bool = False
    created: int = 0


def ids(models: list[Model]) -> list[str]:
    return [model.id for model in models]


def test_an_id_without_a_version_is_version_0() -> None:
    assert canonical_id("mine") == "mine:0"
    assert canonical_id("mine:3") == "mine:3"
    assert canonical_id("mine:latest") == "mine:latest"


@pytest.mark.parametrize(
    ("model_id", "base", "version"),
    [
        ("a:3", "a", 3),
        ("a:10", "a", 10),
        ("a", "a", -1),
        ("a:x", "a:x", -1),
        ("a:-1", "a:-1", -1),
        ("a:٣", "a:٣", -1),
        ("a:1:2", "a:1", 2),
        ("a:9999999999", "a:9999999999", -1),
    ],
)
def test_the_version_is_the_number_behind_the_last_colon(model_id: str, base: str, version: int) -> None:
    assert (base_of(model_id), version_of(model_id)) == (base, version)


@pytest.mark.parametrize(("name", "expected"), [("a", "a:1"), ("a:2", "a:2"), ("A b", "A b:1")])
def test_an_id_without_a_version_gets_version_1_from_who_names_a_model(name: str, expected: str) -> None:
    assert versioned_id(name) == expected


@pytest.mark.parametrize("name", ["a:b", "a:", "a:1:b"])
def test_a_version_is_a_number(name: str) -> None:
    with pytest.raises(ValueError, match=f"^model id: expected NAME or NAME:NUMBER, got {name}$"):
        versioned_id(name)


def test_two_ids_are_one_models_whatever_their_letter_case_and_leading_zeros() -> None:
    assert same_model("Große:1", "GROSSE:01")
    assert not same_model("a:1", "a:2")
    assert not same_model("a:1", "a")


def test_a_name_without_a_version_may_mean_any_version() -> None:
    assert is_meant("Große:1", "GROSSE")
    assert is_meant("a:1", "a:01")
    assert not is_meant("a:1", "a:2")
    assert not is_meant("a:1", "b")


@pytest.mark.parametrize(
    ("model_id", "device"),
    [
        ("m-qnn-npu:1", "NPU"),
        ("m-openvino-gpu:2", "GPU"),
        ("M-CUDA-GPU:2", "GPU"),
        ("m-generic-gpu", "GPU"),
        ("m-vitis-cpu:1", "CPU"),
        ("m-generic-cpu:1", "CPU"),
        ("m:1", None),
        ("gpu-trained:1", None),
        ("m-cpu-friendly:1", None),
    ],
)
def test_an_id_names_its_device(model_id: str, device: str | None) -> None:
    assert device_of(model_id) == device


ORDERED = [
    "m-qnn-npu:1",
    "m-openvino-gpu:1",
    "m-cuda-gpu:1",
    "m-generic-gpu:10",
    "m-generic-gpu:9",
    "m-vitis-cpu:1",
    "m-generic-cpu:3",
    "m-other:7",
]


@given(st.permutations(ORDERED))
def test_variants_stand_by_device_and_then_by_version(shuffled: list[str]) -> None:
    assert ids(in_order(map(Model, shuffled))) == ORDERED


def test_of_one_version_the_later_comes_first_and_then_the_id_counts() -> None:
    models = [Model("b:1", created=5), Model("a:1", created=5), Model("c:1", created=9)]
    assert ids(in_order(models)) == ["c:1", "a:1", "b:1"]


def test_aliases_stand_in_alphabetical_order_with_their_variants_together() -> None:
    models = [Model("x-npu:1", "Phi"), Model("y-cpu:1", "llama"), Model("z-cpu:1", "phi")]
    assert ids(in_order(models)) == ["y-cpu:1", "x-npu:1", "z-cpu:1"]


THERE = [
    Model("Phi-4-generic-cpu:2", "phi-4", cached=True),
    Model("phi-4-generic-cpu:10", "phi-4"),
    Model("phi-4-generic-gpu:10", "phi-4"),
    Model("phi-4-qnn-npu:1", "phi-4"),
    Model("llama-cuda-gpu:1", "llama"),
    Model("llama-generic-cpu:4", "llama"),
    Model("llama-generic-cpu:5", "llama"),
    Model("mine:0", "mine", cached=True),
    Model("odd:latest", "odd:latest"),
    Model("Große:1", "große"),
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("phi-4-generic-cpu:10", "phi-4-generic-cpu:10"),
        ("PHI-4-GENERIC-CPU:02", "Phi-4-generic-cpu:2"),
        ("phi-4-generic-cpu", "Phi-4-generic-cpu:2"),
        ("llama-generic-cpu", "llama-generic-cpu:5"),
        ("Phi-4", "Phi-4-generic-cpu:2"),
        ("phi-4:10", "phi-4-generic-gpu:10"),
        ("phi-4:3", None),
        ("LLAMA", "llama-cuda-gpu:1"),
        ("llama:5", "llama-generic-cpu:5"),
        ("mine", "mine:0"),
        ("mine:0", "mine:0"),
        ("mine:1", None),
        ("odd:latest", "odd:latest"),
        ("odd", None),
        ("GROSSE", "Große:1"),
        ("phi", None),
        ("", None),
        (":10", None),
    ],
)
def test_a_name_means_an_id_or_a_base_or_an_alias(name: str, meant: str | None) -> None:
    for models in (THERE, THERE[::-1]):
        found = resolve(models, name)
        assert (found.id if found else None) == meant


def test_an_id_goes_before_another_models_alias() -> None:
    models = [Model("a-npu:1", alias="b"), Model("b:1", alias="a-npu")]
    assert resolve(models, "b") == models[1]
    assert resolve(models, "a-npu") == models[0]


VERSIONS = [
    Model("phi-generic-gpu:3", "phi"),
    Model("phi-generic-cpu:1", "phi", cached=True),
    Model("Phi-generic-CPU:3", "phi"),
    Model("phi-generic-cpu:2", "phi", cached=True),
    Model("qwen-cpu:1", "qwen", cached=True),
    Model("qwen-cpu:1", "qwen"),
    Model("far-cpu:2", "far"),
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("phi", "Phi-generic-CPU:3"),  # the variant that is used here, in its newest version
        ("PHI-generic-cpu", "Phi-generic-CPU:3"),
        ("phi-generic-cpu:1", "phi-generic-cpu:1"),
        ("phi:2", "phi-generic-cpu:2"),
        ("phi-generic-gpu", "phi-generic-gpu:3"),
        ("far", "far-cpu:2"),
        ("nobody", None),
    ],
)
def test_who_wants_the_newest_gets_the_highest_version_of_the_same_variant(
    name: str, meant: str | None
) -> None:
    found = newest(VERSIONS, name)
    assert (found.id if found else None) == meant


def test_a_newer_version_is_one_that_is_not_here_of_a_model_that_is() -> None:
    assert [(here.id, newer.id) for here, newer in newer_versions(VERSIONS)] == [
        ("phi-generic-cpu:2", "Phi-generic-CPU:3")
    ]
    assert newer_versions([]) == []
