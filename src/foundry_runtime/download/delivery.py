"""A model's way from a source to its place among the models.

Knows: that a model is made beside the others and appears whole; that of several processes one fetches it;
what `inference_model.json` says. Refuses to know: where files come from, and who waits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import anyio.to_thread
from attrs import frozen

from foundry_runtime.download.sources.api import DownloadFailed, Place, Source, WantedModel
from foundry_runtime.download.work import Progress, alone
from foundry_runtime.models.description import ModelFacts, identity_of
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import CONFIG_FILE, IDENTITY_FILE, IDENTITY_VERSION
from foundry_runtime.models.placing import check_place, put_in_place

__all__ = ["Delivery", "deliver"]


@frozen(kw_only=True)
class Delivery:
    """A model that shall come to a directory.

    Raises:
        ValueError: The id or the publisher would name a folder elsewhere.
    """

    model: WantedModel
    source: Source
    directory: ModelDirectory
    prompt_template: Mapping[str, str | None] | None = None
    """What is kept of it beside the model; `None` leaves that to what the source brings."""
    facts: ModelFacts | None = None
    """What a catalogue says of it, some of which is kept beside it; what the source brings goes before."""
    replace: bool = False
    """Whether the model is fetched even if it is there."""

    def __attrs_post_init__(self) -> None:
        self.belongs()

    def belongs(self) -> Path:
        """The folder that the model gets where there is none yet."""
        return self.directory.path_for(self.model.publisher or self.source.publisher, self.model.id)


def _ignore(_what: str, _fraction: float) -> None:
    pass


async def deliver(delivery: Delivery, progress: Progress | None = None) -> Path:
    """Bring a model to its place, unless it is there.

    An interrupted call leaves what is finished for the next one, and nothing that looks like a model. Of
    several calls, in whatever processes, one does the work and the others wait for it.

    Args:
        delivery: What, and where to.
        progress: Told the file and how much of all is done, from 0 to 1, perhaps in another thread.

    Returns:
        The model's folder.

    Raises:
        DownloadFailed: It cannot be got; the text says why.
        OSError: A file cannot be read or written.
        ValueError: What was got is no model that can be used.
    """
    progress = progress or _ignore
    unfinished = delivery.directory.unfinished(delivery.model.id)
    if not delivery.replace and not unfinished.exists():
        found = await anyio.to_thread.run_sync(delivery.directory.path_of, delivery.model.id)
        if found is not None:
            return found
    async with alone(delivery.directory.lock_for(delivery.model.id), progress):
        # Another process may have made it.
        found = await anyio.to_thread.run_sync(delivery.directory.path_of, delivery.model.id)
        if found is None or delivery.replace:
            found = found or delivery.belongs()
            await anyio.to_thread.run_sync(check_place, found)
            place = Place(folder=unfinished / "model", scratch=unfinished / "scratch")
            await delivery.source.fetch(delivery.model, place, progress)
            await anyio.to_thread.run_sync(_finish, delivery, place.folder, found)
        await anyio.to_thread.run_sync(shutil.rmtree, unfinished, True)
        return found


def _finish(delivery: Delivery, folder: Path, target: Path) -> None:
    """Say in the folder which model it is, and put it in its place."""
    if not (folder / CONFIG_FILE).is_file():
        raise DownloadFailed(f"{delivery.model.uri}: expected a model, got a folder without {CONFIG_FILE}")
    identity = folder / IDENTITY_FILE
    try:
        brought = json.loads(identity.read_bytes())
    except (OSError, ValueError, RecursionError):
        brought = None  # a source need not bring one, and what is damaged says nothing
    content = _identity(delivery, brought if isinstance(brought, dict) else {})
    identity.write_bytes((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    put_in_place(folder, target)


def _identity(delivery: Delivery, brought: Mapping[str, object]) -> Mapping[str, object]:
    """What `inference_model.json` says."""
    facts = delivery.facts
    content: dict[str, object] = {
        "Name": delivery.model.id,
        "PromptTemplate": facts.prompt_template if facts else None,
        **(identity_of(facts) if facts else {}),
    }
    content.update((key, value) for key, value in brought.items() if key != "Name" and value is not None)
    if delivery.prompt_template is not None:
        content["PromptTemplate"] = dict(delivery.prompt_template)
    return {**content, "formatVersion": IDENTITY_VERSION}
