"""The product's catalogue: who is asked which models there are, and where they can be got.

Knows: the sources, their order, and what a user has decided about them. Refuses to know: who asks, the server
or a command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from foundry_proto.providers import PROVIDERS
from foundry_runtime.download.sources.api import Source
from foundry_runtime.download.sources.azure import REGIONS, REGISTRY, AzureFoundry, ModelRegistry
from foundry_runtime.download.sources.default_model import DefaultModel
from foundry_runtime.download.sources.hugging_face import HUB, HuggingFace
from foundry_runtime.download.sources.local_files import LocalFiles
from foundry_runtime.models.catalog import BuiltIn, Catalog
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.published.models import PublishedModels
from foundry_runtime.models.registered import RegisteredModels, RegisteredSource
from foundry_serve.config import Config

__all__ = ["make_catalog", "make_sources", "published_models"]


def make_sources(
    config: Config | None = None, *, environment: Mapping[str, str] = os.environ
) -> Sequence[Source]:
    """Where models can be downloaded from: the usual places, or those that the configuration names.

    Args:
        config: Names them; by default it names none.
        environment: `HF_ENDPOINT` and `HF_TOKEN`, as the hub's own tools read them.
    """
    config = config or Config()
    registry = ModelRegistry(base=config.azure_registry or REGISTRY, regions=config.azure_regions or REGIONS)
    hub = HuggingFace(
        endpoint=config.hugging_face or environment.get("HF_ENDPOINT") or HUB,
        token=environment.get("HF_TOKEN", "").strip() or None,
    )
    return (DefaultModel(), AzureFoundry(registry=registry), hub, LocalFiles())


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


def published_models(config: Config, home: Path, *, apart: bool = False) -> PublishedModels | None:
    """The models of the catalogue that a user has chosen, as far as they are known here.

    Args:
        config: Says which one.
        home: The folder that holds all that belongs to the service.
        apart: Whether what can run here is found out in another process, which takes longer, and costs this
            one no memory and no time.

    Returns:
        The models; `None` where no catalogue shall be asked.
    """
    address = config.catalog_address
    if address is None:
        return None
    return PublishedModels(home, address, providers=_providers_apart if apart else _providers_here)


_CPU: Final = ("cpu",)
"""What models can run on wherever there is no engine to ask."""
_PROGRAM: Final = """\
from foundry_runtime.engine.genai.providers import available_providers
print(*available_providers())
"""


async def _providers_here() -> Sequence[str]:
    def find() -> Sequence[str]:
        try:
            from foundry_runtime.engine.genai.providers import available_providers  # noqa: PLC0415 - it is large
        except ImportError:
            return _CPU
        return available_providers()

    return await anyio.to_thread.run_sync(find)


async def _providers_apart() -> Sequence[str]:
    try:
        done = await anyio.run_process([sys.executable, "-P", "-c", _PROGRAM], check=False)
    except OSError:
        return _CPU
    return [name for name in done.stdout.decode("utf-8", "replace").split() if name in PROVIDERS] or _CPU
