"""The models of the Azure catalogue: `azureml://registries/…`.

Knows: which addresses are the catalogue's, and how a container's blobs become a model's files.
Refuses to know: how the registry is asked (`_registry.py`), what a list looks like (`_blob_list.py`), and how
files are fetched.

Source: the public client of the catalogue, as `docs/downloads.md` restates it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from attrs import field, frozen

from foundry_proto.transfer import BadPlan, WantedFile
from foundry_runtime.download.fetching import RemoteFile, fetch_folder
from foundry_runtime.download.http import AskFailed, ask, open_client
from foundry_runtime.download.sources._blob_list import MOST_PAGE_BYTES, BadPage, Blob, read_page
from foundry_runtime.download.sources._registry import REGIONS, REGISTRY, Container, ModelRegistry
from foundry_runtime.download.sources._selection import (
    check_names,
    files_below,
    folder_asked,
    model_folders,
)
from foundry_runtime.download.sources.api import DownloadFailed, Place, WantedModel, provider_kind
from foundry_runtime.download.work import Progress
from foundry_runtime.models.folder import IDENTITY_FILE

if TYPE_CHECKING:
    import httpx

__all__ = ["REGIONS", "REGISTRY", "AzureFoundry", "ModelRegistry"]

_SCHEME: Final = "azureml://"
_MOST_PAGES: Final = 100
_EXPIRED: Final = frozenset({401, 403})


@frozen(kw_only=True)
class AzureFoundry:
    """The source of the catalogue's models.

    Args:
        registry: Says where their files are.
    """

    registry: ModelRegistry = field(factory=ModelRegistry)
    publisher: str = field(default="Microsoft", init=False)
    local: bool = field(default=False, init=False)

    @property
    def expects(self) -> str:
        """See `Source`."""
        return "a model of the Azure catalogue (azureml://registries/REGISTRY/models/NAME/versions/N)"

    def offers(self, model: WantedModel) -> bool:
        """See `Source`."""
        kind = provider_kind(model.provider_type)
        return model.uri.lower().startswith(_SCHEME) and kind in {"", "azurefoundry"}

    async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
        """See `Source`. What an earlier attempt has fetched is not fetched again.

        The model's token is not for Azure: the registry gives a key of its own to whoever asks.
        """
        async with open_client() as client:
            await fetch_folder(partial(self._files, client, model), place, progress, client=client)

    async def _files(self, client: httpx.AsyncClient, model: WantedModel) -> Sequence[RemoteFile]:
        """All files of a model, as the registry and the storage have it now."""
        path = folder_asked(model.path, where=model.uri)
        container = await self.registry.container_of(client, model.uri)
        try:
            blobs = await _blobs(client, container, path)
        except AskFailed as error:
            if error.status not in _EXPIRED:
                raise
            # A long list outlives its key.
            container = await self.registry.container_of(client, model.uri)
            blobs = await _blobs(client, container, path)
        return await anyio.to_thread.run_sync(_chosen, blobs, path, container)


async def _blobs(client: httpx.AsyncClient, container: Container, path: str) -> list[Blob]:
    """All blobs of a container, or of a folder in it."""
    blobs: list[Blob] = []
    marker = ""
    markers = set()
    for _ in range(_MOST_PAGES):
        url = container.list_url(prefix=f"{path}/" if path else "", marker=marker)
        answer = await ask(client, "GET", url, what=container.address, most_bytes=MOST_PAGE_BYTES)
        try:
            page = await anyio.to_thread.run_sync(read_page, answer.content)
        except BadPage as error:
            raise DownloadFailed(f"{container.address}: the list of its files: {error}") from error
        blobs += page.blobs
        marker = page.next_marker
        if not marker:
            return blobs
        if marker in markers:
            break
        markers.add(marker)
    raise DownloadFailed(f"{container.address}: expected a list that ends, got page after page")


def _chosen(blobs: Sequence[Blob], path: str, container: Container) -> list[RemoteFile]:
    """The files of the model that a container has.

    Choice: where there are several models in folders beside each other, the last in the order of their
    numbers counts: `v10` rather than `v2`. Who wants another one names it as `Path`.
    """
    where = container.address
    by_name = {blob.name: blob for blob in _without_folders(blobs)}
    check_names(by_name, where=where)
    folder = model_folders(by_name, path, where=where)[-1]
    files = []
    for name, below in files_below(by_name, folder).items():
        # Which model this is, and what is kept of it, says who asked for it.
        if name.lower().endswith(IDENTITY_FILE):
            continue
        blob = by_name[name]
        try:
            wanted = WantedFile(path=below, size=blob.size, tag=blob.tag)
        except BadPlan as error:
            raise DownloadFailed(f"{where}: {error}") from error
        files.append(RemoteFile(wanted=wanted, url=container.blob_url(name), headers=_unchanged(blob)))
    return files


def _unchanged(blob: Blob) -> Mapping[str, str]:
    """Have storage refuse a blob that is no longer that of the list: two of one size could be mixed.

    Source: RFC 9110, section 13.1.1. Lists have tags with their quotes or without.
    """
    return {} if blob.tag is None else {"if-match": '"{}"'.format(blob.tag.strip('"'))}


def _without_folders(blobs: Sequence[Blob]) -> list[Blob]:
    """What is left without the empty blobs by which some programs mark folders."""
    parts = (blob.name.split("/") for blob in blobs)
    folders = {"/".join(names[:count]) for names in parts for count in range(1, len(names))}
    return [blob for blob in blobs if blob.size or not (blob.name.endswith("/") or blob.name in folders)]
