"""What all handlers share while the server runs."""

from __future__ import annotations

from anyio import CapacityLimiter
from attrs import frozen

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.pool import ModelPool

__all__ = ["Services"]


@frozen(kw_only=True)
class Services:
    """The first argument of every handler."""

    directory: ModelDirectory
    """The models on disk."""
    pool: ModelPool
    """The models in memory."""
    prompt_threads: CapacityLimiter
    """How many prompts are made at a time, each in a thread."""
