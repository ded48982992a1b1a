"""A source of models that does what its script says: for tests of what brings them, and of what waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
from attrs import define, field

from foundry_runtime.download.sources.api import Place, WantedModel
from foundry_runtime.download.work import Progress
from tests.runtime.models.folders import write_folder

__all__ = ["ScriptedSource", "wanted"]


def wanted(model_id: str = "mine:1", uri: str = "test:mine", publisher: str = "") -> WantedModel:
    """A model that the source has."""
    return WantedModel(id=model_id, uri=uri, publisher=publisher)


@define
class ScriptedSource:
    """Has all models whose address begins like this."""

    prefix: str = "test:"

    news: Sequence[tuple[str, float]] = (("genai_config.json", 0.2), ("model.onnx.data", 0.78))
    """What is told."""
    pause: float = 0.005
    """Seconds behind each of the news."""
    quiet: float = 0.0
    """Seconds behind all news."""
    hangs: bool = False
    """Whether it stays behind the news until it is cancelled."""
    failure: Exception | None = None
    """Raised behind the news."""
    make: Callable[[Path], object] = write_folder
    """Writes the model."""
    expects: str = "test:NAME"
    publisher: str = "tester"
    local: bool = False
    fetched: list[WantedModel] = field(factory=list)
    stopped: int = 0
    """How many fetches were cancelled."""

    def offers(self, model: WantedModel) -> bool:
        return model.uri.startswith(self.prefix)

    async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
        self.fetched.append(model)
        place.scratch.mkdir(parents=True, exist_ok=True)
        (place.scratch / "begun").touch()
        try:
            for what, fraction in self.news:
                progress(what, fraction)
                await anyio.sleep(self.pause)
            await anyio.sleep(self.quiet)
            if self.hangs:
                await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.stopped += 1
            raise
        if self.failure is not None:
            raise self.failure
        self.make(place.folder)
