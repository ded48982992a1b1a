"""A source of models that fetches them from an origin over HTTP: for tests of all that stands above it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from random import Random

from attrs import frozen

from foundry_proto.transfer import WantedFile
from foundry_runtime.download.fetching import Limits, RemoteFile, fetch_folder
from foundry_runtime.download.http import ask, open_client
from foundry_runtime.download.sources.api import Place, WantedModel
from foundry_runtime.download.work import Progress
from tests.runtime.models.folders import CONFIG

__all__ = ["LIST", "RemoteSource", "model_files"]

LIST = "/list"


def model_files(size: int, seed: int = 0) -> dict[str, bytes]:
    """The files of a model, most of whose bytes are in one of them, and their list, as an origin has them."""
    luck = Random(seed)
    files = {
        "/genai_config.json": json.dumps(CONFIG).encode(),
        "/onnx/model.onnx": luck.randbytes(size // 20),
        "/onnx/model.onnx.data": luck.randbytes(size - size // 20),
        "/empty.txt": b"",
    }
    listed = {path[1:]: (len(data), hashlib.sha256(data).hexdigest()) for path, data in files.items()}
    return {**files, LIST: json.dumps(listed).encode()}


@frozen
class RemoteSource:
    """Has the model that an origin lists; its address is the origin's."""

    limits: Limits | None = None
    expects: str = "http://HOST"
    publisher: str = "remote"
    local: bool = False

    def offers(self, model: WantedModel) -> bool:
        return model.uri.startswith("http:")

    async def fetch(self, model: WantedModel, place: Place, progress: Progress) -> None:
        async with open_client() as client:

            async def listing() -> Sequence[RemoteFile]:
                answer = await ask(client, "GET", f"{model.uri}{LIST}", what="the list")
                listed: Mapping[str, tuple[int, str]] = answer.json()
                return [
                    RemoteFile(WantedFile(path=path, size=size, sha256=sha256), f"{model.uri}/{path}")
                    for path, (size, sha256) in listed.items()
                ]

            await fetch_folder(
                listing,
                place,
                progress,
                client=client,
                buffer_size=model.buffer_size,
                limits=self.limits,
            )
