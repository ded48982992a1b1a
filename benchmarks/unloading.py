"""How much memory comes back when a model leaves, and whether it stays so however often models come and go.

Run: `python benchmarks/unloading.py`; reads Linux's `/proc`. The resident set of `foundry serve`, fresh, with
the model after an answer to a prompt of 512 tokens, when its time to live is over, and when it was loaded,
asked and unloaded ten times more, on each loop. A megabyte is 10**6 bytes. The exit status is 1 when a limit
is missed.
"""

from __future__ import annotations

import sys
import time
import urllib.request
from pathlib import Path

from _common import (
    Connection,
    Report,
    chat_request,
    find_model,
    foundry_serve,
    model_parser,
    prompt_maker,
    text_of_length,
    user,
)
from memory import ANSWER_TOKENS, PROMPT_TOKENS, RUNTIMES, memory

ONCE = 120.0
OFTEN = 140.0
TIMES = 10


def settled(pid: int) -> tuple[float, float]:
    """A process's memory once it gives nothing more back."""
    before, now = (0.0, 0.0), memory(pid)
    while abs(now[0] - before[0]) > 0.1:
        time.sleep(0.5)
        before, now = now, memory(pid)
    return now


def get(port: int, target: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{target}") as reply:
        reply.read()


def main() -> int:
    options = model_parser(__doc__).parse_args()
    if not Path("/proc/self/smaps_rollup").exists():
        sys.exit("unloading.py needs Linux's /proc")
    folder = find_model(options.home, options.model)
    prompts = prompt_maker(folder)
    report = Report(
        title="Resident memory when models leave, in MB",
        columns=("server", "after", "resident", "of it anonymous", "limit"),
        notes=("What stays: libraries, and memory of Python's of which each part has a small piece in use.",),
    )
    for runtime in RUNTIMES:
        with foundry_serve(options.home, runtime) as (pid, port):
            connection = Connection(port)
            server = f"foundry serve --runtime {runtime}"

            def ask(number: int, connection: Connection = connection, **more: object) -> None:
                text = text_of_length(prompts, PROMPT_TOKENS, f"Number {number}:")
                connection.chat(chat_request(options.model, [user(text)], max_tokens=ANSWER_TOKENS, **more))

            report.add(server, "start", *memory(pid), "")
            ask(0, ttl=1)
            report.add(server, "an answer", *memory(pid), "")
            time.sleep(2)
            resident, anonymous = settled(pid)
            shown = report.check(f"{server}, once", resident, most=ONCE)
            report.add(server, "a time to live of 1 second", resident, anonymous, shown)
            for number in range(1, TIMES + 1):
                ask(number)
                get(port, f"/openai/unload/{options.model}?force=true")
            resident, anonymous = settled(pid)
            shown = report.check(f"{server}, often", resident, most=OFTEN)
            report.add(server, f"{TIMES} more loads, answers and unloads", resident, anonymous, shown)
            connection.close()
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
