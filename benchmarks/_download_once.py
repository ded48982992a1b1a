"""One download in a process of its own, for `downloading.py`: says in JSON how long it took and what it cost.

Run: `_download_once.py KIND URL FOLDER SIZE SHA256`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio

from foundry_proto.transfer import WantedFile
from foundry_runtime.download.fetching import RemoteFile, fetch_folder
from foundry_runtime.download.http import open_client
from foundry_runtime.download.sources.api import Place


async def _ours(url: str, folder: Path, size: int, sha256: str) -> dict[str, float]:
    name = url.rpartition("/")[2]
    stalls = [0.0]

    async def listing() -> Sequence[RemoteFile]:
        return [RemoteFile(WantedFile(path=name, size=size, sha256=sha256), url)]

    async def watch() -> None:
        before = time.perf_counter()
        while True:
            await anyio.sleep(0.001)
            now = time.perf_counter()
            stalls.append(now - before - 0.001)
            before = now

    async with open_client() as client, anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        begun = time.perf_counter()
        await fetch_folder(
            listing,
            Place(folder=folder / "model", scratch=folder / "scratch"),
            lambda *_: None,
            client=client,
        )
        seconds = time.perf_counter() - begun
        tasks.cancel_scope.cancel()
    return {"seconds": seconds, "stall": max(stalls)}


def _theirs(url: str, folder: Path) -> dict[str, float]:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - the variables are set first

    endpoint, _, name = url.rpartition("/")
    begun = time.perf_counter()
    hf_hub_download("a/b", name, endpoint=endpoint, local_dir=folder / "theirs")
    return {"seconds": time.perf_counter() - begun}


def main(arguments: Sequence[str]) -> None:
    kind, url, folder, size, sha256 = arguments
    if kind == "huggingface_hub":
        os.environ |= {
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": folder,
        }
        found = _theirs(url, Path(folder))
    else:
        found = anyio.run(partial(_ours, url, Path(folder), int(size), sha256), backend=kind)
    found["resident"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
