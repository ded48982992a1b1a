"""Models on the Hugging Face hub: folders as onnxruntime-genai loads them, and GGUF files.

Knows: how a repository's files are listed, at one commit, and which of them are a model's; when a token goes
along, and where it never goes.
Refuses to know: how addresses look (`_hub.py`), and how files are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio.to_thread
from attrs import evolve, field, frozen

from foundry_proto.jsontext import ContentError
from foundry_proto.transfer import BadPlan, WantedFile
from foundry_runtime.download.fetching import RemoteFile, fetch_folder
from foundry_runtime.download.http import AskFailed, ask, open_client
from foundry_runtime.download.sources._hub import HUB, HubFile, Repository, read_commit, read_tree
from foundry_runtime.download.sources._selection import (
    check_names,
    files_below,
    folder_asked,
    model_folders,
)
from foundry_runtime.download.sources.api import DownloadFailed, Place, WantedModel, provider_kind
from foundry_runtime.download.work import Progress, Work, part_of, run_work
from foundry_runtime.models.importing import convert, recipe_of

if TYPE_CHECKING:
    import httpx

    from foundry_runtime.importers.gguf import Weights

__all__ = ["HUB", "HuggingFace"]

_MOST_PAGES: Final = 200
_MOST_BYTES: Final = 16 * 1024 * 1024
_FETCHED: Final = 0.9
"""How much of the work is done when a GGUF file is here."""
_SHOWN: Final = 12
"""The most names that an error tells."""


def _without_slash(address: str) -> str:
    return address.rstrip("/")


@frozen(kw_only=True)
class HuggingFace:
    """The source of what is on the hub.

    Args:
        endpoint: Where the hub is, or a mirror of it.
        token: What opens protected repositories, for requests that bring no token of their own.
        weights: How the matrices of an imported file are written.
    """

    endpoint: str = field(default=HUB, converter=_without_slash)
    token: str | None = field(default=None, repr=False)
    weights: Weights = "int8"
    publisher: str = field(default="HuggingFace", init=False)
    local: bool = field(default=False, init=False)

    @property
    def expects(self) -> str:
        """See `Source`."""
        return "a repository of the Hugging Face hub (hf://OWNER/NAME)"

    def offers(self, model: WantedModel) -> bool:
        """See `Source`."""
        return self._repository(model) is not None

    async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
        """See `Source`. What an earlier attempt has fetched is not fetched again."""
        repository = self._repository(model)
        assert repository is not None, "offers was asked before"
        hub = _Hub(endpoint=self.endpoint, token=_header_of(model.token or self.token))
        inside = "/".join(part for part in (repository.path, model.path) if part)
        path = folder_asked(inside, where=str(repository))
        async with open_client() as client:
            repository = await hub.fixed(client, repository)
            if not path.lower().endswith(".gguf"):
                listing = partial(hub.model_files, client, repository, path)
                await fetch_folder(listing, place, progress, client=client, buffer_size=model.buffer_size)
                return
            listing = partial(hub.one_file, client, repository, path)
            beside = Place(folder=place.scratch / "gguf", scratch=place.scratch / "fetching")
            await fetch_folder(
                listing,
                beside,
                part_of(progress, 0.0, _FETCHED),
                client=client,
                buffer_size=model.buffer_size,
            )
        gguf = beside.folder / path.rpartition("/")[2]

        def make(work: Work) -> None:
            with work.part(_FETCHED, 1.0):
                recipe = evolve(recipe_of(gguf, work), model_id=model.id)
                convert(gguf, place.folder, recipe, work, weights=self.weights)

        await run_work(make, progress)

    def _repository(self, model: WantedModel) -> Repository | None:
        kind = provider_kind(model.provider_type)
        if kind not in {"", "huggingface"}:
            return None
        return Repository.read(model.uri, bare=kind == "huggingface", endpoint=self.endpoint)


@frozen(kw_only=True)
class _Hub:
    """The hub, as one asks it who has a certain token, or none."""

    endpoint: str
    token: Mapping[str, str] = field(repr=False)
    """As a header."""

    async def fixed(self, client: httpx.AsyncClient, repository: Repository) -> Repository:
        """The repository at the commit that its revision is now: all files shall be of one."""
        if repository.is_fixed:
            return repository
        answer = await self._ask(client, repository.commit_url(self.endpoint), repository)
        try:
            return evolve(repository, revision=read_commit(answer.content))
        except ContentError as error:
            raise DownloadFailed(f"{repository}: the hub's answer: {error}") from error

    async def model_files(
        self, client: httpx.AsyncClient, repository: Repository, path: str
    ) -> Sequence[RemoteFile]:
        """The files of the model in a folder, or of the only one below."""
        files = {file.path: file for file in await self._tree(client, repository, path)}
        check_names(files, where=str(repository))
        try:
            folders = model_folders(files, path, where=str(repository))
        except DownloadFailed as error:
            ggufs = [name for name in files if name.lower().endswith(".gguf")]
            if not ggufs:
                raise
            raise DownloadFailed(
                f"{error}; as Path, one of its files can be imported: {_some(ggufs)}"
            ) from None
        if len(folders) > 1:
            raise DownloadFailed(f"{repository}: expected Path to name one of its models: {_some(folders)}")
        below = files_below(files, folders[0])
        return [self._remote(repository, files[name], place) for name, place in below.items()]

    async def one_file(
        self, client: httpx.AsyncClient, repository: Repository, path: str
    ) -> Sequence[RemoteFile]:
        """A single file."""
        folder, _, name = path.rpartition("/")
        for file in await self._tree(client, repository, folder):
            if file.path == path:
                return [self._remote(repository, file, name)]
        raise DownloadFailed(f"{repository}: there is no file {path}")

    def _remote(self, repository: Repository, file: HubFile, path: str) -> RemoteFile:
        try:
            wanted = WantedFile(path=path, size=file.size, sha256=file.sha256, tag=file.tag)
        except BadPlan as error:
            raise DownloadFailed(f"{repository}: {error}") from error
        url = repository.file_url(self.endpoint, file.path)
        return RemoteFile(wanted=wanted, url=url, headers=self.token)

    async def _tree(self, client: httpx.AsyncClient, repository: Repository, folder: str) -> list[HubFile]:
        first = url = repository.tree_url(self.endpoint, folder)
        files: list[HubFile] = []
        for _ in range(_MOST_PAGES):
            answer = await self._ask(client, url, repository)
            try:
                files += await anyio.to_thread.run_sync(read_tree, answer.content)
            except ContentError as error:
                raise DownloadFailed(f"{repository}: the list of its files: {error}") from error
            following = answer.links.get("next", {}).get("url")
            if following is None:
                return files
            # Only where the next page begins is taken from the answer: a mirror may pass on the hub's own
            # address, and the token goes nowhere else than to where it was meant for.
            url = f"{first.partition('?')[0]}?{urlsplit(following).query}"
        raise DownloadFailed(f"{repository}: expected a list that ends, got page after page")

    async def _ask(self, client: httpx.AsyncClient, url: str, repository: Repository) -> httpx.Response:
        try:
            return await ask(
                client, "GET", url, headers=self.token, what=str(repository), most_bytes=_MOST_BYTES
            )
        except AskFailed as error:
            if error.status not in {401, 403}:
                raise
            needed = "a token that may read it" if self.token else "a token (token, or HF_TOKEN)"
            raise DownloadFailed(
                f"{repository}: there is no such repository, or it needs {needed}: {error}"
            ) from error


def _header_of(token: str | None) -> Mapping[str, str]:
    """A token as a header; none gives none."""
    if token is None:
        return {}
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        # The text must not tell it.
        raise DownloadFailed("token: expected printable letters without blanks, got something else")
    return {"authorization": f"Bearer {token}"}


def _some(names: Sequence[str]) -> str:
    shown = sorted(names)[:_SHOWN]
    return ", ".join(shown) + (", …" if len(names) > _SHOWN else "")
