"""The engine alone, as a process: what `generation.py` compares the server with.

No event loop, no HTTP, no text. For each line of standard input, `{"prompt": [ids], "max_tokens": n}`, it
computes the prompt at once, takes the likeliest token n times, and prints how long that took. Threads and
session options are the server's own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from foundry_runtime.engine.genai.binding import Generator, Model, load_library
from foundry_runtime.engine.genai.config import read_config
from foundry_runtime.engine.genai.engine import session_overlay
from foundry_runtime.platform import usable_cores


def main(folder: Path) -> None:
    end_ids = read_config(folder).end_ids
    model = Model(load_library(), folder, session_overlay(usable_cores()))
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        start = first = perf_counter()
        prompt = np.array(job["prompt"], dtype=np.int32)
        tokens: list[int] = []
        with Generator(model, max_length=len(prompt) + job["max_tokens"]) as generator:
            generator.append(prompt)
            while len(tokens) < job["max_tokens"] and (token := generator.next_token()) not in end_ids:
                if not tokens:
                    first = perf_counter()
                tokens.append(token)
        end = perf_counter()
        print(json.dumps({"whole": end - start, "decode": end - first, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
