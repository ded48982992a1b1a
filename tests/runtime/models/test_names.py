"""Ids, versions and aliases: what a user may write for a model."""

from __future__ import annotations

import pytest

from foundry_runtime.models.names import (
    DEFAULT_ALIAS,
    DEFAULT_ID,
    alias_of,
    canonical_id,
    is_meant,
    version_of,
    versioned_id,
)


@pytest.mark.parametrize(
    ("model_id", "name", "meant"),
    [
        ("phi-4-cpu:2", "phi-4-cpu:2", True),
        ("phi-4-cpu:2", "PHI-4-CPU:2", True),
        ("phi-4-cpu:2", "phi-4-cpu", True),
        ("phi-4-cpu:2", "phi-4-cpu:02", True),
        ("phi-4-cpu:2", "phi-4-cpu:1", False),
        ("phi-4-cpu:2", "phi-4", False),
        ("phi-4-cpu:2", "", False),
        ("phi-4-cpu:2", ":2", False),
        ("a:latest", "a:latest", True),
        ("a:latest", "a", False),
        ("Große:1", "GROSSE", True),
        (DEFAULT_ID, DEFAULT_ALIAS, True),
        (DEFAULT_ID, "SmolLM2-135M", True),
        (DEFAULT_ID, f"{DEFAULT_ALIAS}:1", True),
        (DEFAULT_ID, f"{DEFAULT_ALIAS}:2", False),
        (DEFAULT_ID, DEFAULT_ID.upper(), True),
        (DEFAULT_ID, "smollm2-135m-instruct-generic-cpu", True),
    ],
)
def test_a_model_is_meant_by_its_id_with_or_without_version_or_its_alias(
    model_id: str, name: str, meant: bool
) -> None:
    assert is_meant(model_id, name) is meant


def test_an_id_without_a_version_is_version_0() -> None:
    assert canonical_id("mine") == "mine:0"
    assert canonical_id("mine:3") == "mine:3"
    assert canonical_id("mine:latest") == "mine:latest"


@pytest.mark.parametrize(
    ("model_id", "version"), [("a:3", 3), ("a:10", 10), ("a", -1), ("a:x", -1), ("a:-1", -1)]
)
def test_the_version_is_the_number_behind_the_last_colon(model_id: str, version: int) -> None:
    assert version_of(model_id) == version


def test_an_alias_is_the_id_without_its_version_but_the_default_models_is_short() -> None:
    assert alias_of("phi-4-cpu:2") == "phi-4-cpu"
    assert alias_of(DEFAULT_ID) == "smollm2-135m"
    assert alias_of(DEFAULT_ID.upper()) == "smollm2-135m"


@pytest.mark.parametrize(("name", "expected"), [("a", "a:1"), ("a:2", "a:2"), ("A b", "A b:1")])
def test_an_id_without_a_version_gets_version_1(name: str, expected: str) -> None:
    assert versioned_id(name) == expected


@pytest.mark.parametrize("name", ["a:b", "a:", "a:1:b"])
def test_a_version_is_a_number(name: str) -> None:
    with pytest.raises(ValueError, match=f"^model id: expected NAME or NAME:NUMBER, got {name}$"):
        versioned_id(name)
