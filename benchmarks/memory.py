"""How much memory the server takes with a model in it, and what it goes to.

Run: `python benchmarks/memory.py`; reads Linux's `/proc`. The resident set of `foundry serve`, fresh, after
one prompt of 512 tokens and an answer of 32, on each loop; after five more of both; and step by step, in
processes of their own, what the engine with its tokenizer takes alone and what serving adds; and what of many
answers at once stays, with the keys and values that are kept of them and without. A megabyte is 10**6 bytes.
The exit status is 1 when the server is over the limit after its first answer, or when more stays.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from _common import (
    HERE,
    Connection,
    Report,
    chat_request,
    find_model,
    foundry_serve,
    model_parser,
    process,
    prompt_maker,
    text_of_length,
    user,
)
from foundry_runtime.engine.batched.layout import read_layout
from foundry_runtime.engine.batched.memory import WARM_IDLE

LIMIT = 380.0
PROMPT_TOKENS = 512
ANSWER_TOKENS = 32
RUNTIMES = ("asyncio", "trio")
AFTER_LOAD = 1.1
"""Of what was taken before, when nothing is kept any more."""
WAYS = {"bare": "engine and tokenizer alone", "serving": "what foundry serve has, step by step"}


def memory(pid: int) -> tuple[float, float]:
    """A process's resident set in MB, and how much of it no file is behind."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = {name: int(size) * 1024 / 1e6 for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
    return found["Rss"], found["Anonymous"]


def main() -> int:
    options = model_parser(__doc__).parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        sys.exit("memory.py needs Linux's /proc")
    folder = find_model(options.home, options.model)
    prompts = prompt_maker(folder)
    report = Report(
        title="Resident memory, in MB",
        columns=("process", "after", "resident", "of it anonymous", "limit"),
        notes=(
            "What is not anonymous is mapped from files: libraries, and the model's file while it loads.",
        ),
    )
    for runtime in RUNTIMES:
        with foundry_serve(options.home, runtime) as (pid, port):
            connection = Connection(port)
            server = f"foundry serve --runtime {runtime}"
            report.add(server, "start", *memory(pid), "")
            for answers in range(1, 7):
                text = text_of_length(prompts, PROMPT_TOKENS, f"Number {answers}:")
                request = chat_request(options.model, [user(text)], max_tokens=ANSWER_TOKENS)
                reply = connection.chat(request)
                assert reply.count("prompt_tokens") == PROMPT_TOKENS
                if answers == 1:
                    resident, anonymous = memory(pid)
                    shown = report.check(server, resident, most=LIMIT)
                    report.add(server, "the first answer", resident, anonymous, shown)
            report.add(server, "five more answers", *memory(pid), "")
            connection.close()
    for way, name in WAYS.items():
        with process(options.home, str(HERE / "_memory_steps.py"), way, str(folder.path)) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            for line in child.stdout:
                report.add(name, line.strip(), *memory(child.pid), "")
                child.stdin.write("\n")
                child.stdin.flush()
    measure_load(report, options, folder.path)
    return report.finish(options.json)


def measure_load(report: Report, options: argparse.Namespace, folder: Path) -> None:
    """What stays of many answers at once: what is kept of them, the pages for the next one, and no more."""
    name = "the batched engine alone"
    token = read_layout(folder).bytes_per_token / 1e6
    with process(options.home, str(HERE / "_memory_steps.py"), "load", str(folder)) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        before = 0.0
        for line in child.stdout:
            resident, anonymous = memory(child.pid)
            kept = re.search(r"(\d+) tokens kept", line)
            shown = ""
            if kept is not None:
                most = before * AFTER_LOAD + (int(kept[1]) + WARM_IDLE) * token
                shown = report.check(f"{name}, with what is kept", resident, most=most)
            elif before:
                shown = report.check(f"{name}, after many answers", resident, most=before * AFTER_LOAD)
            else:
                before = resident
            report.add(name, line.strip(), resident, anonymous, shown)
            child.stdin.write("\n")
            child.stdin.flush()


if __name__ == "__main__":
    sys.exit(main())
