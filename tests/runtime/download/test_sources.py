"""Every source keeps the contract; and the check of the contract notices who does not."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import anyio
import pytest
from attrs import define, evolve

from foundry_runtime.download.sources.api import Place, WantedModel
from foundry_runtime.download.sources.check import check_source
from foundry_runtime.download.sources.default_model import DEFAULT_WANTED
from foundry_runtime.download.sources.local_files import LINKED, LocalFiles
from foundry_runtime.download.work import Progress
from tests.runtime.download.published import publish
from tests.runtime.models.folders import write_folder

pytestmark = pytest.mark.anyio


async def test_the_default_models_source_keeps_the_contract(tmp_path: Path) -> None:
    published = publish(tmp_path / "published")
    await check_source(published.source, DEFAULT_WANTED, tmp_path / "work")


async def test_local_files_keep_the_contract(tmp_path: Path) -> None:
    published = publish(tmp_path / "published")
    folder = write_folder(tmp_path / "Modell Ä", "other:7")
    (folder / "model.onnx").write_bytes(b"x" * 3000)
    (folder / "v1" / "empty").mkdir(parents=True)
    (folder / "v1" / "nothing").touch()
    uris = (folder.as_uri(), f"{folder.as_uri()}{LINKED}", published.wheel.as_uri())
    for number, uri in enumerate(uris):
        model = WantedModel(id="mine:1", uri=uri, buffer_size=100)
        await check_source(LocalFiles, model, tmp_path / f"work-{number}")


@define
class Scripted:
    """A source that does as it is told."""

    expects: str = "test:model"
    publisher: str = "test"
    local: bool = False
    prefix: str = "test:"
    fraction: float = 0.5
    strays: bool = False
    changes: bool = False
    tears: bool = False
    """Whether an interrupted call leaves what the next one does not clear away."""
    leaks: bool = False
    """Whether its work goes on when nobody wants it."""
    fetches: int = 0

    def offers(self, model: WantedModel) -> bool:
        return model.uri.startswith(self.prefix)

    async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
        self.fetches += 1
        place.folder.mkdir(parents=True, exist_ok=True)
        try:
            for _ in range(4):
                progress("model", self.fraction)
                await anyio.sleep(0.005)
        except anyio.get_cancelled_exc_class():
            if self.tears:
                (place.folder / "torn").touch()
            if self.leaks:
                threading.Thread(target=_go_on, args=(progress,), name="goes on").start()
            raise
        if self.strays:
            (place.folder.parent.parent / "beside" / "x").touch()
        content = {"n": self.fetches if self.changes else 0}
        (place.folder / "genai_config.json").write_text(json.dumps(content))


def _go_on(progress: Progress) -> None:
    for _ in range(20):
        progress("model", 0.5)
        time.sleep(0.01)


MODEL = WantedModel(id="m:1", uri="test:m")


async def test_a_source_that_keeps_the_contract_passes(tmp_path: Path) -> None:
    await check_source(Scripted, MODEL, tmp_path)


BROKEN: dict[str, tuple[Scripted, str]] = {
    "is silent": (Scripted(expects=""), "a source says what it expects"),
    "is nobody's": (Scripted(publisher=""), "a source says whose its models are"),
    "refuses": (Scripted(prefix="other:"), "a source offers the model that it has"),
    "takes all": (Scripted(prefix=""), "a source offers no model of an unknown place"),
    "strays": (Scripted(strays=True), "nothing is written outside of the place"),
    "counts percents": (Scripted(fraction=50), "a fraction is from 0 to 1, got 50 for model"),
    "changes": (Scripted(changes=True), "a second call for a place leaves the same files"),
    "tears": (Scripted(tears=True), "a call after one that was cancelled at report 1 brings the whole model"),
    "leaks": (Scripted(leaks=True), "a call that was cancelled has ended all work when it raises"),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_who_breaks_the_contract_is_told_which_law(tmp_path: Path, kind: str) -> None:
    source, law = BROKEN[kind]
    with pytest.raises(AssertionError, match=f"^expected: {law}"):
        await check_source(lambda: evolve(source), MODEL, tmp_path)
    for thread in threading.enumerate():
        if thread.name == "goes on":
            await anyio.to_thread.run_sync(thread.join)
