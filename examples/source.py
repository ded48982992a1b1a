"""A model source of your own, held to the contract of sources: `python source.py`.

`make_application(…, sources=[Shelf()])` lets `POST /openai/download` bring models from it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import anyio

from foundry_runtime.download.delivery import Delivery, deliver
from foundry_runtime.download.sources.api import DownloadFailed, Place, WantedModel
from foundry_runtime.download.sources.check import check_source
from foundry_runtime.download.work import Progress
from foundry_runtime.models.directory import ModelDirectory

SHELF = {"mine": {"genai_config.json": json.dumps({"model": {"type": "llama"}})}}


class Shelf:
    """Models that lie in this program's memory, as `shelf:NAME`."""

    expects = "shelf:NAME"  # what errors say
    publisher = "me"  # whose a model is where nobody says
    local = False  # whether addresses are paths of this machine

    def offers(self, model: WantedModel) -> bool:
        """Say by its address whether a model comes from here."""
        return model.uri.startswith("shelf:")

    async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
        """Bring a model's files into the place."""
        files = SHELF.get(model.uri.removeprefix("shelf:"))
        if files is None:
            raise DownloadFailed(f"{model.uri}: expected one of {', '.join(SHELF)}")
        place.folder.mkdir(parents=True, exist_ok=True)
        for number, (name, text) in enumerate(files.items(), start=1):
            await anyio.sleep(0)  # here a real one fetches, and may be cancelled at any time
            (place.folder / name).write_text(text, "utf-8")
            progress(name, number / len(files))


async def main(folder: Path) -> None:
    """Hold the source to its promises, and bring a model."""
    model = WantedModel(id="mine:1", uri="shelf:mine")
    await check_source(Shelf, model, folder / "check")
    directory = ModelDirectory(folder / "home")
    print((await deliver(Delivery(model=model, source=Shelf(), directory=directory), print)).name)
    print([entry.id for entry in directory.entries()])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        anyio.run(main, Path(name))
