"""The product's catalogue: who is asked which models there are, and where they can be got.

Knows: the sources and their order. Refuses to know: who asks, the server or a command.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio.to_thread

from foundry_runtime.download.sources.api import Source
from foundry_runtime.download.sources.default_model import DefaultModel
from foundry_runtime.download.sources.local_files import LocalFiles
from foundry_runtime.models.catalog import BuiltIn, Catalog
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.published.models import PublishedModels
from foundry_runtime.models.registered import RegisteredModels, RegisteredSource
from foundry_serve.config import Config

__all__ = ["SOURCES", "make_catalog", "published_models"]

SOURCES: Final[Sequence[Source]] = (DefaultModel(), LocalFiles())
"""Where models can be downloaded from."""


def make_catalog(
    directory: ModelDirectory,
    registered: RegisteredModels | None = None,
    published: PublishedModels | None = None,
) -> Catalog:
    """Put the catalogue together.

    Args:
        directory: Where the models are.
        registered: Those of other servers; by default read from the directory's home.
        published: Those of the public catalogue, if any.
    """
    others = RegisteredModels(directory.home) if registered is None else registered
    known = () if published is None else (published,)
    return Catalog(directory, (BuiltIn(), RegisteredSource(others), *known))


def published_models(config: Config, home: Path) -> PublishedModels | None:
    """The models of the catalogue that a user has chosen, as far as they are known here.

    Args:
        config: Says which one.
        home: The folder that holds all that belongs to the service.

    Returns:
        The models; `None` where no catalogue shall be asked.
    """
    address = config.catalog_address
    return None if address is None else PublishedModels(home, address, providers=_usable_providers)


async def _usable_providers() -> Sequence[str]:
    """The execution providers that models can run on here; without an engine those that need nothing."""

    def find() -> Sequence[str]:
        try:
            from foundry_runtime.engine.genai.providers import available_providers  # noqa: PLC0415 - it is large
        except ImportError:
            return ("cpu",)
        return available_providers()

    return await anyio.to_thread.run_sync(find)
