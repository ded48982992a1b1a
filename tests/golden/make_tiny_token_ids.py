"""Write `tiny_token_ids.json`: the ids that llama.cpp gives with the tokenizers of the tiny model.

    pip install xllamacpp
    python -m tests.golden.make_tiny_token_ids

One tokenizer for each pre-tokenizer that the importer knows, all with the same tokens and merges, and two of
SentencePiece's kind. Tokenizers that gave the same ids throughout share an entry.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.golden.llama_cpp import LlamaCpp
from tests.golden.texts import golden_texts
from tests.golden.tiny_tokenizers import SURROUNDED, TINY_TOKENIZERS
from tests.support.tiny_model import write_tiny_gguf

__all__ = ["main"]

TARGET = Path(__file__).with_name("tiny_token_ids.json")


def main() -> None:
    texts = golden_texts()
    names: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, fields in TINY_TOKENIZERS.items():
            path = Path(directory, f"{name}.gguf")
            write_tiny_gguf(path, fields=fields)
            names.setdefault(_answers(LlamaCpp(path), texts), []).append(name)
    entries = ",\n".join(
        f'{{"names": {json.dumps(its_names)}, {answers[1:]}' for answers, its_names in names.items()
    )
    head = json.dumps({"made_by": LlamaCpp.made_by, "texts": texts})[1:-1]
    TARGET.write_text(f'{{{head}, "entries": [\n{entries}\n]}}\n', encoding="ascii")


def _answers(llama_cpp: LlamaCpp, texts: list[str]) -> str:
    ids = [llama_cpp.encode(text, specials=False) for text in texts]
    with_specials = [llama_cpp.encode(text, specials=True) for text in texts]
    answers = {
        "surrounded": llama_cpp.encode(SURROUNDED, specials=False, surround=True),
        "with_specials": {
            index: tokens for index, tokens in enumerate(with_specials) if tokens != ids[index]
        },
        "ids": ids,
    }
    return json.dumps(answers, separators=(",", ":"))


if __name__ == "__main__":
    main()
