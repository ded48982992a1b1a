"""One of our engines stepped in a bare loop, as a process: what `generation.py` sets beside the engine alone.

No event loop, no HTTP, no text. For each line of standard input, `{"prompt": [ids], "max_tokens": n,
"sampling": {…}, "logprobs": k}`, it runs one job to its end, and prints how long that took.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Final

from foundry_runtime.engine.api import Engine, Finished, Job, Sampling, Token
from foundry_runtime.engine.batched import BatchedEngine
from foundry_runtime.engine.genai import GenaiEngine

ENGINES: Final[Mapping[str, Callable[[Path], Engine]]] = {
    "genai": GenaiEngine,
    # Nothing is kept of one prompt for the next: each turn computes its own, as the engine alone does.
    "batched": lambda folder: BatchedEngine(folder, kept=0),
}


def main(name: str, folder: Path) -> None:
    engine = ENGINES[name](folder)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        sampling = Sampling(**asked.pop("sampling"))
        start = first = perf_counter()
        tokens: list[int] = []
        engine.admit(Job(sampling=sampling, **asked))
        ended = False
        while not ended:
            for event in engine.step():
                if isinstance(event, Token):
                    if not tokens:
                        first = perf_counter()
                    tokens.append(event.id)
                ended = isinstance(event, Finished)
        end = perf_counter()
        print(json.dumps({"whole": end - start, "decode": end - first, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
