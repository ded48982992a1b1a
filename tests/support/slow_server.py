"""A server in a process of its own that is slow at one thing, so that there is a middle to stop it in.

    python -m tests.support.slow_server HOME RUNTIME PHASE

It prints its address, and `within` when it is amid that thing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from foundry_runtime.download import manager
from foundry_runtime.engine.batched.engine import BatchedEngine
from foundry_runtime.engine.batched.model import BatchedModel
from foundry_runtime.models.directory import ModelDirectory
from foundry_serve.config import Config
from foundry_serve.serving import run_server


class Told:
    def listening(self, endpoints: Sequence[str]) -> None:
        print(endpoints[0], flush=True)  # noqa: T201

    def serving(self) -> None:
        print("serving", flush=True)  # noqa: T201

    def stopping(self) -> None:
        print("stopping", flush=True)  # noqa: T201


def slowly(genuine: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def work(*arguments: Any, **more: Any) -> Any:
        print("within", flush=True)  # noqa: T201
        time.sleep(seconds)
        return genuine(*arguments, **more)

    return work


async def deliver(*_: object) -> None:
    import anyio  # noqa: PLC0415 - not before the others are patched

    print("within", flush=True)  # noqa: T201
    await anyio.sleep(3600)


def _slow_download() -> None:
    setattr(manager, "deliver", deliver)  # noqa: B010 - it is not the module's to give


SLOW: Final[dict[str, Callable[[], object]]] = {
    "loading": lambda: setattr(BatchedEngine, "__init__", slowly(BatchedEngine.__init__, 0.5)),
    "prefill": lambda: setattr(BatchedModel, "compute", slowly(BatchedModel.compute, 0.1)),
    "streaming": lambda: setattr(BatchedModel, "decode", slowly(BatchedModel.decode, 0.02)),
    "downloading": _slow_download,
}

if __name__ == "__main__":
    home, runtime, phase = sys.argv[1:]
    SLOW[phase]()
    config = Config(host="127.0.0.1", port=0, drain=0.3, catalog="off", runtime=runtime)  # type: ignore[arg-type]
    run_server(config, ModelDirectory(Path(home)), Told())
