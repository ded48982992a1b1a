"""The models on disk: where they lie, and which there are.

Knows: `$FOUNDRY_HOME`, the layout `cache/models/PUBLISHER/NAME-VERSION/` in it or in a folder of one's own,
and what makes a folder a model: `genai_config.json`, `inference_model.json` with a name, and no
`download.tmp`, there or above.
Refuses to know: how models get there, what else they are called (`catalog.py`), and which are in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from foundry_proto.catalog import same_model
from foundry_proto.paths import is_file_name
from foundry_runtime.models.folder import IDENTITY_FILE, UNFINISHED_FILE, ModelFolder, read_names
from foundry_runtime.models.settings import read_models_folder

__all__ = ["ModelDirectory", "ModelEntry"]

_DEEPEST = 8
"""How many folders below the models' own are looked into: links may lead in a circle."""


@frozen(kw_only=True)
class ModelEntry:
    """A model's id and folder; nothing else has been read yet."""

    id: str
    path: Path
    created: int
    """When it was put there, in seconds since 1970."""
    alias: str = ""
    """The one that it came with; empty if nobody said any."""


@frozen
class ModelDirectory:
    """A home for models.

    Args:
        home: The folder that holds all that belongs to the service.
        elsewhere: Where the model folders are, if not in the home.
    """

    home: Path
    elsewhere: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ModelDirectory:
        """The user's: `$FOUNDRY_HOME`, else `~/.foundry`, and the models where its settings say.

        Raises:
            BadSettings: The settings cannot be used.
        """
        home = Path(environment.get("FOUNDRY_HOME") or Path("~", ".foundry")).expanduser().absolute()
        return cls(home, read_models_folder(home))

    @property
    def models(self) -> Path:
        """Where the model folders are; need not exist."""
        return self.elsewhere or self.home / "cache" / "models"

    @property
    def downloads(self) -> Path:
        """Where unfinished downloads wait to be gone on with; need not exist.

        On the models' own file system, so that what is finished can be moved.
        """
        return self.elsewhere / ".downloads" if self.elsewhere else self.home / "cache" / "downloads"

    def entries(self) -> list[ModelEntry]:
        """The models that are there, by id.

        Reads directories and one small file a model; files that lie about are passed over.

        Choice: of two folders with the same name the one whose path sorts first counts.
        """
        found: dict[str, ModelEntry] = {}
        for path, name, alias in _scan(self.models, _DEEPEST):
            if name.casefold() not in found:
                found[name.casefold()] = ModelEntry(id=name, path=path, created=_created(path), alias=alias)
        return [found[key] for key in sorted(found)]

    def path_of(self, model_id: str) -> Path | None:
        """The folder of the model of an id, whoever's it is; `None` when it is not there."""
        return next((entry.path for entry in self.entries() if same_model(entry.id, model_id)), None)

    def find(self, model_id: str) -> ModelFolder | None:
        """Read the model of an id.

        Returns:
            The model, or `None` when it is not there.

        Raises:
            BadModelFolder: It is there, but its folder cannot be used.
        """
        path = self.path_of(model_id)
        return None if path is None else ModelFolder.read(path)

    def publisher_of(self, entry: ModelEntry) -> str:
        """Under whose name a model lies here; empty if under nobody's."""
        folders = entry.path.relative_to(self.models).parts
        return folders[0] if len(folders) > 1 else ""

    def path_for(self, publisher: str, model_id: str) -> Path:
        """The folder where a model belongs: `PUBLISHER/NAME-VERSION`.

        Raises:
            ValueError: Publisher or id would name a folder elsewhere, or one that not every system can have.
        """
        folder = _folder_name(model_id)
        for what, segment in (("publisher", publisher), ("model id", folder)):
            if not _may_name_a_folder(segment):
                raise ValueError(f"{what}: expected a name that a folder can have, got {segment!r}")
        return self.models / publisher / folder

    def unfinished(self, model_id: str) -> Path:
        """Where a model is made before it is moved to its place, whoever's it is; need not exist."""
        return self.downloads / _folder_name(model_id)

    def lock_for(self, model_id: str) -> Path:
        """The file that lets one process at a time make a model; need not exist."""
        return self.downloads / f"{_folder_name(model_id)}.lock"


def _scan(folder: Path, depth: int) -> Iterator[tuple[Path, str, str]]:
    """The model folders below one, each with its id and alias; a model folder is not looked into.

    Nor is one that is being downloaded: below it, what is whole already may yet be replaced.
    """
    try:
        children = sorted(
            child for child in folder.iterdir() if not child.name.startswith(".") and child.is_dir()
        )
    except OSError:
        return
    for child in children:
        if (child / UNFINISHED_FILE).exists():
            continue
        if (names := read_names(child)) is not None:
            yield child, *names
        elif depth > 1:
            yield from _scan(child, depth - 1)


def _created(path: Path) -> int:
    try:
        return int((path / IDENTITY_FILE).stat().st_mtime)
    except OSError:  # it has just gone
        return 0


def _folder_name(model_id: str) -> str:
    name, colon, version = model_id.rpartition(":")
    return f"{name}-{version}" if colon else model_id


def _may_name_a_folder(segment: str) -> bool:
    return is_file_name(segment) and not segment.startswith(".")  # which would hide it
