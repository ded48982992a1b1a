"""A server in a process of its own that is slow at one thing, so that there is a middle to stop it in.

    python -m tests.support.slow_server HOME PHASE

Its settings are the environment's. It prints its address, `serving`, and `within` when it is amid that thing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from foundry_runtime.download.fetching import Limits
from foundry_runtime.engine.api import Engine
from foundry_runtime.engine.batched.engine import BatchedEngine
from foundry_runtime.engine.batched.model import BatchedModel
from foundry_runtime.engine.process import ProcessEngine
from foundry_runtime.models import engines
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import ModelFolder
from foundry_serve import catalog, serving
from foundry_serve.config_sources import load_config
from tests.support.remote_source import RemoteSource

SMALL: Final = Limits(range_size=64 * 1024, save_every=64 * 1024, unrecorded=256 * 1024)
"""What is asked for at once, and how often it is recorded what came: little, so that there is a middle."""
LOADING, STUCK, PREFILL, STREAMING = "loading", "stuck", "prefill", "streaming"
SECONDS: Final = {LOADING: 0.5, STUCK: 600.0, PREFILL: 0.1, STREAMING: 0.02}
"""How long the slow thing takes, each time."""


class Told:
    def listening(self, endpoints: Sequence[str]) -> None:
        print(endpoints[0], flush=True)  # noqa: T201

    def serving(self) -> None:
        print("serving", flush=True)  # noqa: T201

    def stopping(self) -> None:
        print("stopping", flush=True)  # noqa: T201


def slowly(genuine: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    told: list[bool] = []

    def work(*arguments: Any, **more: Any) -> Any:
        if not told:
            told.append(True)
            print("within", flush=True)  # noqa: T201
        time.sleep(seconds)
        return genuine(*arguments, **more)

    return work


def make_slow(phase: str) -> None:
    """Have an engine in this process take its time."""
    owner, name = {
        LOADING: (BatchedEngine, "__init__"),
        STUCK: (BatchedEngine, "__init__"),
        PREFILL: (BatchedModel, "compute"),
        STREAMING: (BatchedModel, "decode"),
    }[phase]
    setattr(owner, name, slowly(getattr(owner, name), SECONDS[phase]))


def make_isolated_slow(phase: str) -> None:
    """The same of an engine in a process of its own."""
    loads = phase in {LOADING, STUCK}

    def make(folder: ModelFolder, kind: engines.EngineKind, /, **more: Any) -> Engine:
        arguments = {"path": str(folder.path), "kind": kind, "seconds": SECONDS[phase], **more}
        return ProcessEngine(f"tests.support.isolated:{'late' if loads else 'slowed'}", arguments)

    if loads:
        make = slowly(make, 0)
    else:
        setattr(ProcessEngine, "step", slowly(ProcessEngine.step, 0))  # noqa: B010 - it is a method
    setattr(engines, "make_isolated_engine", make)  # noqa: B010 - it is a function


def main(home: str, phase: str) -> None:
    config = load_config({"host": "127.0.0.1", "port": "0", "catalog": "off"}, environment=os.environ).config
    (make_isolated_slow if config.isolate else make_slow)(phase)
    if phase == STUCK:
        setattr(serving, "PATIENCE", 0.5)  # noqa: B010 - it is not to be changed
    setattr(catalog, "make_sources", lambda _: [RemoteSource(SMALL)])  # noqa: B010 - it is a function
    serving.run_server(config, ModelDirectory(Path(home)), Told())


if __name__ == "__main__":
    main(*sys.argv[1:])
