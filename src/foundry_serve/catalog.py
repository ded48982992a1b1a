"""The product's catalogue: who is asked which models there are, and where they can be got.

Knows: the sources and their order. Refuses to know: who asks, the server or a command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from foundry_runtime.download.sources.api import Source
from foundry_runtime.download.sources.default_model import DefaultModel
from foundry_runtime.download.sources.local_files import LocalFiles
from foundry_runtime.models.catalog import BuiltIn, Catalog
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.registered import RegisteredModels, RegisteredSource

__all__ = ["SOURCES", "make_catalog"]

SOURCES: Final[Sequence[Source]] = (DefaultModel(), LocalFiles())
"""Where models can be downloaded from."""


def make_catalog(directory: ModelDirectory, registered: RegisteredModels | None = None) -> Catalog:
    """Put the catalogue together.

    Args:
        directory: Where the models are.
        registered: Those of other servers; by default read from the directory's home.
    """
    others = RegisteredModels(directory.home) if registered is None else registered
    return Catalog(directory, (BuiltIn(), RegisteredSource(others)))
