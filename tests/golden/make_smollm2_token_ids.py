"""Write `smollm2_token_ids.json`: the ids that llama.cpp gives to three hundred texts.

    pip install xllamacpp
    python -m tests.golden.make_smollm2_token_ids PATH/SmolLM2-135M-Instruct.Q4_1.gguf

Each text is encoded twice: with the text of special tokens taken as those tokens, and as plain text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.golden.llama_cpp import LlamaCpp
from tests.golden.texts import golden_texts

__all__ = ["main"]

TARGET = Path(__file__).with_name("smollm2_token_ids.json")


def main(source: Path) -> None:
    llama_cpp = LlamaCpp(source)
    cases = []
    for text in golden_texts():
        case: dict[str, object] = {"text": text, "ids": llama_cpp.encode(text, specials=False)}
        with_specials = llama_cpp.encode(text, specials=True)
        if with_specials != case["ids"]:
            case["ids_with_specials"] = with_specials
        cases.append(case)
    lines = ",\n".join(json.dumps(case) for case in cases)
    head = json.dumps({"made_by": LlamaCpp.made_by, "source": source.name})[1:-1]
    TARGET.write_text(f'{{{head}, "cases": [\n{lines}\n]}}\n', encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
