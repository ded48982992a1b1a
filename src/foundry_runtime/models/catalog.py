"""Every model that there is: those on this machine, and those that a source knows of.

Knows: that a model on disk is the one that a source describes if they have one id, that it is a version of
that one if no more than the version differs, and that otherwise its own folder describes it.
Refuses to know: where a source has its models from, how models are called (`foundry_proto.catalog`), and
which are in memory.

Nothing is remembered: each call looks at the disk, so that what is put there or taken away counts at once.
All calls block for as long as that takes; on an event loop they belong into a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from attrs import evolve, frozen

from foundry_proto.catalog import base_of, in_order, newer_versions, newest, resolve
from foundry_runtime.models.description import LOCAL, CatalogModel, describe_folder
from foundry_runtime.models.directory import ModelDirectory, ModelEntry
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.recipes import DEFAULT_MODEL

__all__ = ["BuiltIn", "Catalog", "Source"]


class Source(Protocol):
    """What knows of models that need not be on this machine."""

    def models(self) -> Sequence[CatalogModel]:
        """Those that it knows of now, without opening a connection and without raising."""
        ...


@frozen
class BuiltIn:
    """The source of the model that this program can get by itself."""

    def models(self) -> Sequence[CatalogModel]:
        """The default model."""
        return (DEFAULT_MODEL,)


@frozen
class Catalog:
    """All models, each by whatever name a client calls it.

    Args:
        directory: The models on this machine.
        sources: Of two that know a model, the first describes it.
    """

    directory: ModelDirectory
    sources: Sequence[Source] = (BuiltIn(),)

    def models(self) -> list[CatalogModel]:
        """All models, in the order in which clients expect them: see `foundry_proto.catalog.in_order`."""
        return [candidate.describe() for candidate in in_order(self._candidates())]

    def resolve(self, name: str) -> CatalogModel | None:
        """Find the model that a name means: an id, with or without its version, or an alias, in any case.

        Returns:
            The model; `None` if there is none of that name.
        """
        candidate = resolve(self._candidates(name), name)
        return None if candidate is None else candidate.describe()

    def folder(self, name: str) -> ModelFolder | None:
        """Read the folder of the model that a name means.

        Returns:
            The folder; `None` if there is no model of that name, or if it is not on this machine.

        Raises:
            BadModelFolder: It is there, but cannot be used.
        """
        candidate = resolve(self._candidates(name), name)
        if candidate is None or candidate.path is None:
            return None
        return ModelFolder.read(candidate.path)

    def newest(self, name: str) -> CatalogModel | None:
        """Find the model that a name means to who wants it in its newest version.

        Returns:
            The model; `None` if there is none of that name.
        """
        candidate = newest(self._candidates(), name)
        return None if candidate is None else candidate.describe()

    def newer_versions(self) -> list[tuple[str, str]]:
        """The ids of the models here that have newer versions, which are not here, each with the newest."""
        return [(here.id, newer.id) for here, newer in newer_versions(in_order(self._candidates()))]

    def _candidates(self, name: str | None = None) -> list[_Candidate]:
        """All models; of the many that are not here no more than may be meant by a name."""
        known: dict[str, CatalogModel] = {}
        for source in self.sources:
            for model in source.models():
                known.setdefault(model.id.casefold(), model)
        entries = self.directory.entries()
        wanted = {base_of(entry.id).casefold() for entry in entries}
        versions: dict[str, CatalogModel] = {}
        for model in known.values():
            if (base := base_of(model.id).casefold()) in wanted:
                versions.setdefault(base, model)
        here = []
        for entry in entries:
            same = known.pop(entry.id.casefold(), None)
            other = versions.get(base_of(entry.id).casefold())
            here.append(_here(entry, same, other, self.directory.publisher_of(entry)))
        names = None if name is None else {name.casefold(), base_of(name).casefold()}
        return [
            *here,
            *(
                _elsewhere(model)
                for model in known.values()
                if names is None or model.alias.casefold() in names or base_of(model.id).casefold() in names
            ),
        ]


@frozen(kw_only=True)
class _Candidate:
    """A model's names and place in the list; its description takes reading files, and is made when wanted."""

    id: str
    alias: str
    created: int
    cached: bool
    path: Path | None
    describe: Callable[[], CatalogModel]


def _elsewhere(known: CatalogModel) -> _Candidate:
    return _Candidate(
        id=known.id,
        alias=known.alias,
        created=known.created,
        cached=known.cached,
        path=known.path,
        describe=lambda: known,
    )


def _here(
    entry: ModelEntry, known: CatalogModel | None, other: CatalogModel | None, publisher: str
) -> _Candidate:
    alias = known.alias if known else entry.alias or (other.alias if other else base_of(entry.id))
    return _Candidate(
        id=entry.id,
        alias=alias,
        created=known.created if known and known.created else entry.created,
        cached=True,
        path=entry.path,
        describe=partial(_description, entry, known, other, alias, publisher),
    )


def _description(
    entry: ModelEntry, known: CatalogModel | None, other: CatalogModel | None, alias: str, publisher: str
) -> CatalogModel:
    """What a model can do, its folder says; what it is and where it comes from, the source that knows it.

    A source knows the newest version alone; what it says of that holds for those before as far as their own
    folders are silent: an alias goes on meaning what is here when something newer is published.
    """
    found = describe_folder(entry.id, entry.path, publisher=publisher, created=entry.created)
    if known is not None:
        return evolve(
            known,
            id=found.id,
            created=known.created or found.created,
            file_size_mb=found.file_size_mb,
            max_output_tokens=found.max_output_tokens,
            prompt_template=found.prompt_template or known.prompt_template,
            cached=True,
            path=found.path,
        )
    if other is None or found.provider_type != LOCAL:
        return evolve(found, alias=alias)
    return evolve(
        found,
        alias=alias,
        provider_type=other.provider_type,
        uri=_uri_of(found, other),
        license=other.license,
        license_description=other.license_description,
        parent_uri=other.parent_uri,
        supports_tool_calling=found.supports_tool_calling or other.supports_tool_calling,
    )


def _uri_of(found: CatalogModel, other: CatalogModel) -> str:
    """Where a version comes from, as its other version's address shows it; its own where it does not."""
    end = f"/versions/{other.version}"
    return f"{other.uri.removesuffix(end)}/versions/{found.version}" if other.uri.endswith(end) else found.uri
