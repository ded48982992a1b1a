"""llama.cpp's own tokenizer, reached through the server inside the `xllamacpp` wheel.

Knows: how that server is started on a GGUF file and asked for ids. Only the scripts that write golden files
use it: the tests read what they wrote, and need no `xllamacpp`.
"""

from __future__ import annotations

import json
import urllib.request
from importlib.metadata import version
from pathlib import Path

import xllamacpp

__all__ = ["LlamaCpp"]


class LlamaCpp:
    """The tokenizer of one GGUF file."""

    made_by = f"xllamacpp {version('xllamacpp')}"

    def __init__(self, path: Path) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = 256
        params.n_parallel = 1
        params.warmup = False
        self._server = xllamacpp.Server(params)

    def encode(self, text: str, *, specials: bool, surround: bool = False) -> list[int]:
        """The ids of a text.

        Args:
            text: Any text.
            specials: Whether the text of a special token becomes that token.
            surround: Whether the file's begin and end tokens are put around it.
        """
        question = {"content": text, "parse_special": specials, "add_special": surround}
        request = urllib.request.Request(
            f"{self._server.listening_address}/tokenize",
            json.dumps(question).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            answer = json.loads(response.read())
        tokens: list[int] = answer["tokens"]
        return tokens
