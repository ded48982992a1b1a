"""One step after the other towards an answer, as a process that says how much memory each took.

`_memory_steps.py WAY MODEL_FOLDER`, where WAY is `bare` (engine and tokenizer alone) or `serving` (what
`foundry serve` imports, then the same). After each step it prints what was done, and waits for a line of
input while the reader looks at its memory.
"""

# ruff: noqa: PLC0415 - when each thing is imported is what is measured

from __future__ import annotations

import importlib
import sys
from pathlib import Path

PROMPT_TOKENS = 512
ANSWER_TOKENS = 32


def done(step: str) -> None:
    print(step, flush=True)
    sys.stdin.readline()


def main(way: str, folder: Path) -> None:
    done("the interpreter")
    if way == "serving":
        importlib.import_module("asyncio")
        done("+ asyncio")
        importlib.import_module("foundry_runtime.server")
        done("+ protocol and runtime")
        importlib.import_module("foundry_serve.cli.serve")
        done("+ the serve command")
    from foundry_runtime.engine.text.tokenizer import Tokenizer

    done("+ the tokenizers library")
    tokenizer = Tokenizer.load(folder)
    done("+ the model's tokenizer")
    from foundry_runtime.engine.genai.binding import load_library

    done("+ numpy")
    load_library()
    done("+ onnxruntime and onnxruntime-genai")
    from foundry_runtime.engine.api import Finished, Job, Sampling
    from foundry_runtime.engine.genai.engine import GenaiEngine

    engine = GenaiEngine(folder)
    done("+ the model")
    (ids,) = tokenizer.encode_pieces([" time" * PROMPT_TOKENS])
    assert len(ids) == PROMPT_TOKENS
    engine.admit(Job(prompt=ids, max_tokens=ANSWER_TOKENS, sampling=Sampling(temperature=0)))
    while not any(isinstance(event, Finished) for event in engine.step()):
        pass
    done(f"+ a prompt of {PROMPT_TOKENS} tokens, answered")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
