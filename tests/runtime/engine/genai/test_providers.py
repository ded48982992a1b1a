"""Execution providers: what is available is found out by trying, and a model that wants another says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foundry_proto.providers import PROVIDERS
from foundry_runtime.engine.api import ModelLoadError
from foundry_runtime.engine.genai import GenaiEngine, providers
from foundry_runtime.engine.genai.binding import GenaiError
from foundry_runtime.engine.genai.config import read_config
from foundry_runtime.engine.genai.providers import available_providers, why_not
from tests.runtime.engine.conftest import Spoil

GHOST = "NoSuchThing"


def wanting(spoiled: Spoil, *names: str) -> Path:
    """A folder whose configuration names these providers."""
    config = json.loads((spoiled("as it was") / "genai_config.json").read_text())
    options: dict[str, Any] = {"provider_options": [{name: {}} for name in names]}
    return spoiled("wanting", decoder={**config["model"]["decoder"], "session_options": options})


def test_what_is_available_can_be_used_and_of_the_others_the_reason_is_known() -> None:
    available = available_providers()
    assert "cpu" in available
    for name in PROVIDERS:
        assert (why_not(name) is None) is (name in available)
    assert GHOST in (why_not(GHOST) or "")


def test_nothing_is_available_where_the_library_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise GenaiError("not installed")

    monkeypatch.setattr(providers, "load_library", fail)
    why_not.cache_clear()
    available_providers.cache_clear()
    try:
        assert available_providers() == ()
    finally:
        available_providers.cache_clear()


def test_a_models_own_provider_is_the_first_that_its_configuration_names(spoiled: Spoil) -> None:
    assert read_config(wanting(spoiled, "CUDA", "cpu")).provider == "cuda"


def test_a_model_that_wants_what_is_not_here_says_so_and_can_be_loaded_elsewhere(spoiled: Spoil) -> None:
    folder = wanting(spoiled, GHOST)
    with pytest.raises(ModelLoadError) as caught:
        GenaiEngine(folder)
    assert str(caught.value) == (
        f"{folder}: the model wants to run on {GHOST}, which is not available here "
        f"({', '.join(available_providers())}): {why_not(GHOST)}"
    )
    GenaiEngine(folder, provider="cpu").close()


def test_a_model_can_be_asked_to_run_elsewhere_only_where_there_is_such_a_place(tiny_folder: Path) -> None:
    expected = f"the model was asked to run on {GHOST}, which is not available here "
    with pytest.raises(ModelLoadError, match=expected):
        GenaiEngine(tiny_folder, provider=GHOST)
    GenaiEngine(tiny_folder, provider="cpu").close()
