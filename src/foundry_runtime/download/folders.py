"""A model folder of this machine becomes one of the directory's models.

Knows: what it is called if nobody says. Refuses to know: how its files are copied or linked, and how it comes
to its place.
"""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from foundry_proto.catalog import versioned_id
from foundry_runtime.download.delivery import Delivery, deliver
from foundry_runtime.download.sources.api import WantedModel
from foundry_runtime.download.sources.local_files import LINKED, LocalFiles
from foundry_runtime.download.work import Progress
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import ModelFolder, read_names

__all__ = ["import_folder"]


async def import_folder(
    directory: ModelDirectory,
    folder: Path,
    *,
    model_id: str | None = None,
    link: bool = False,
    progress: Progress | None = None,
) -> ModelFolder:
    """Make a model of a folder that is on this machine; one of the same id is replaced.

    Args:
        directory: Where the model shall be.
        folder: What onnxruntime-genai loads.
        model_id: What the model is called, version 1 if it names none; by default as the folder's
            `inference_model.json` says, or like the folder.
        link: Whether files become second names of the folder's own, where the file system can, and take no
            room; what is written to one later is then in both.
        progress: Told how far it is, in another thread.

    Raises:
        DownloadFailed: The folder is none of a model, or not whole.
        BadModelFolder: Its descriptions cannot be used; a `ValueError`.
        ValueError: The id cannot name a folder, or its version is no number.
        OSError: A file cannot be read or written.
    """
    wanted = await anyio.to_thread.run_sync(_wanted, folder, model_id, LINKED if link else "")
    delivery = Delivery(model=wanted, source=LocalFiles(), directory=directory, replace=True)
    return await anyio.to_thread.run_sync(ModelFolder.read, await deliver(delivery, progress))


def _wanted(folder: Path, model_id: str | None, how: str) -> WantedModel:
    folder = folder.absolute()
    stated = read_names(folder)
    name = model_id or (stated[0] if stated else folder.name)
    return WantedModel(id=versioned_id(name), uri=f"{folder.as_uri()}{how}")
