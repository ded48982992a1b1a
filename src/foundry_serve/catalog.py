"""The product's catalogue: which sources it asks for models.

Knows: the sources and their order. Refuses to know: who asks, the server or a command.
"""

from __future__ import annotations

from foundry_runtime.models.catalog import BuiltIn, Catalog
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.registered import RegisteredModels, RegisteredSource

__all__ = ["make_catalog"]


def make_catalog(directory: ModelDirectory, registered: RegisteredModels | None = None) -> Catalog:
    """Put the catalogue together.

    Args:
        directory: Where the models are.
        registered: Those of other servers; by default read from the directory's home.
    """
    others = RegisteredModels(directory.home) if registered is None else registered
    return Catalog(directory, (BuiltIn(), RegisteredSource(others)))
