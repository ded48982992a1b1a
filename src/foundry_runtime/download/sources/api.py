"""What a source of models is, and what it is asked for.

Knows: the contract, which `check_source` holds any source to.
Refuses to know: which sources there are, and what becomes of what they bring.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from attrs import field, frozen

from foundry_runtime.download.work import Progress

__all__ = ["DownloadFailed", "Place", "Source", "WantedModel", "provider_kind"]


class DownloadFailed(OSError):
    """A model, or a file, could not be got; the text says why, and what can be done instead."""


@frozen(kw_only=True)
class WantedModel:
    """A model and where it comes from, as a request or the catalogue has it."""

    id: str
    """What it is called here: name and version."""
    uri: str
    """Where it comes from."""
    provider_type: str = ""
    """What kind of place that is, in the catalogue's words; empty if nobody says."""
    path: str = ""
    """The folder of its files at that place; empty if they lie at the top."""
    publisher: str = ""
    """Whose it is; empty if nobody says."""
    token: str | None = field(default=None, repr=False)
    """What opens a protected place."""
    buffer_size: int | None = None
    """How many bytes to take at a time; `None` leaves it to the source."""


def provider_kind(provider_type: str) -> str:
    """What a provider's name means, in lower case, without the `Local` that clients add to some of them."""
    return provider_type.casefold().removesuffix("local")


@frozen(kw_only=True)
class Place:
    """Where a download is made: two folders of its own, on one file system, which need not exist.

    Both are kept after an interruption, so that the next attempt finds what is there.
    """

    folder: Path
    """Becomes the model's folder."""
    scratch: Path
    """For whatever else is needed; goes when the model is whole."""


class Source(Protocol):
    """Where models come from. One object serves all downloads, of different models at the same time."""

    @property
    def expects(self) -> str:
        """What a model's address must be for this source, as an error says it."""
        ...

    @property
    def local(self) -> bool:
        """Whether addresses are paths of this machine, for whose files only its own users may ask."""
        ...

    @property
    def publisher(self) -> str:
        """Whose a model is where nobody says."""
        ...

    def offers(self, model: WantedModel) -> bool:
        """Whether a model comes from here, by what its address looks like: nothing is opened for it."""
        ...

    async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
        """Bring a model's files into `place.folder`: all of them, or fail.

        At the end the folder is what onnxruntime-genai loads, with `genai_config.json` at its top; it need
        not have an `inference_model.json`. Nothing is written outside of the place, whatever names the source
        is given. What the place holds from an earlier attempt is used as far as it is sound. When the call is
        cancelled all work has ended when it raises, in threads and child processes too.

        Args:
            model: What is wanted; `offers` was asked before.
            place: Where; one call for a place at a time.
            progress: Told the file and how much of all is done, from 0 to 1, perhaps in another thread, as
                often as the source likes.

        Raises:
            DownloadFailed: It cannot be got; the text says why.
            OSError: A file cannot be read or written.
            ValueError: What was got is no model that can be used; the text says why.
        """
        ...
