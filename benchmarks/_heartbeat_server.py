"""The server with a heartbeat in its event loop, as a process: what `loop_stall.py` measures.

It is `foundry serve` but for the heartbeat, a task that wakes every 2 ms and notes when it did. It prints its
port; when its standard input ends it stops, and prints each beat's time and when the engine began to load.
`perf_counter` is one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from time import perf_counter
from typing import Any
from unittest.mock import patch

import anyio
import anyio.to_thread

from foundry_runtime.engine.worker import EngineWorker
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.loading import ModelOpener
from foundry_runtime.server import serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.app import make_application
from foundry_serve.serving import prepare_process

PERIOD = 0.002


async def beat(beats: list[float]) -> None:
    while True:
        beats.append(perf_counter())
        await anyio.sleep(PERIOD)


async def main() -> None:
    beats: list[float] = []
    engine_loads: list[float] = []
    start = EngineWorker.start

    async def noted_start(*args: Any, **options: Any) -> EngineWorker:
        engine_loads.append(perf_counter())
        return await start(*args, **options)

    application = make_application(ModelDirectory.from_environment(), ModelOpener())
    listeners = await open_tcp_listeners("127.0.0.1", 0)
    with patch.object(EngineWorker, "start", noted_start):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(beat, beats)
            await task_group.start(partial(serve, application, listeners))
            print(listeners[0].port, flush=True)
            await anyio.to_thread.run_sync(sys.stdin.read)
            task_group.cancel_scope.cancel()
    print(json.dumps({"beats": beats, "engine_loads": engine_loads}), flush=True)


if __name__ == "__main__":
    prepare_process()
    anyio.run(main, backend=sys.argv[1])
