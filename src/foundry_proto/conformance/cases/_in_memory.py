"""How cases name a model in a path, and see whether it is in memory, whichever service's routes they try.

Knows: that a list of models in memory is an array of ids. Refuses to know: any route.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from foundry_proto.conformance.asking import ask
from foundry_proto.conformance.expecting import is_a, json_of, require, status
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target

__all__ = ["expect_in_memory", "in_path", "models_in_memory"]


def in_path(name: str) -> str:
    """A model's name as a segment of a path; its colon stays, as the official clients have it."""
    return quote(name, safe=":")


def models_in_memory(target: Target, path: str) -> Script[list[Any]]:
    """Ask which models are in memory."""
    reply = yield from ask(target, "GET", path)
    status(reply, 200)
    return list(is_a(json_of(reply), "", list))


def expect_in_memory(target: Target, path: str, *, expected: bool) -> Script[None]:
    """Expect the model to be in memory, or not to be."""
    names = yield from models_in_memory(target, path)
    words = "in memory" if expected else "gone"
    require((target.model_id in names) is expected, "state", f"expected the model to be {words}, got {names}")
