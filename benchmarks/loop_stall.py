"""How long the server's event loop stands still while a model loads, reads a prompt and answers.

Run: `python benchmarks/loop_stall.py`. Each run starts a fresh server (the real application, over loopback)
with a 2 ms heartbeat in its loop, and sends it one request after the other from this process, which shares
neither loop nor interpreter with it. What counts is the longest time between two beats in each phase, median
of the runs, beside that of the idle server in the same runs: what an engine does may add at most 20 ms to
that. The exit status is 1 when a limit is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

from _common import (
    HERE,
    Connection,
    Report,
    chat_request,
    find_model,
    model_parser,
    process,
    prompt_maker,
    text_of_length,
    user,
)
from _load import Chat, Server

RUNS = 5
PAUSE = 0.05
"""Seconds after each reply that still belong to it: what it leaves behind must be freed."""
RUNTIMES = ("asyncio", "trio")
IDLE = "idle, the control"
PREFILL = "prefill, 512 tokens"
DECODE = "decode, 64 tokens"
FIRST_FORM = "first answer with a form"
MANY = "16 answers at once"
LOAD = "model load"
SMALL = (FIRST_FORM, PREFILL, DECODE)
OF_ENGINE = (LOAD, *SMALL, MANY)
ABOVE_IDLE = 20.0
# The library's parser of `tokenizer.json` holds the interpreter lock.
TOKENIZER = "tokenizer load"
TOKENIZER_LIMIT = 150.0
LIMIT = 50.0

_SENTENCE = "The keeper of the lighthouse wrote down each ship that passed, its name and its flag. "


def requests(model: str, prompt: str) -> dict[str, bytes]:
    """Each phase's request. What is longer than the context is refused, once its length is known."""
    story = user("Write a long story about the keeper of a lighthouse.")
    parts = [{"type": "text", "text": _SENTENCE[index % 40 :]} for index in range(9_500)]
    choices = [{"const": index, "title": "x"} for index in range(29_000)]
    arrays: list[object] = [[] for _ in range(250_000)]

    def with_schema(members: list[Any]) -> bytes:
        function = {"name": "f", "parameters": {"enum": members}}
        return chat_request(model, [story], tools=[{"type": "function", "function": function}], max_tokens=1)

    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["one", "two"]}}}
    return {
        FIRST_FORM: chat_request(model, [story], response_format=form),
        PREFILL: chat_request(model, [user(prompt)], max_tokens=1),
        DECODE: chat_request(model, [story], max_tokens=64, temperature=0, stream=True),
        "1 MB body: one text": chat_request(model, [user(_SENTENCE * 11_800)], max_tokens=1),
        "1 MB body: 9,500 parts": chat_request(model, [{"role": "user", "content": parts}], max_tokens=1),
        "1 MB body: a tool's schema": with_schema(choices),
        "1 MB body: empty arrays": with_schema(arrays),
        "200 KB prompt": chat_request(model, [user(_SENTENCE * 2_360)], max_tokens=1),
    }


def run_once(home: Path, runtime: str, model: str, prompt: str) -> dict[str, float]:
    """Return the longest gap of each phase, in ms."""
    windows: dict[str, tuple[float, float]] = {}
    with process(home, str(HERE / "_heartbeat_server.py"), runtime) as server:
        assert server.stdout is not None
        connection = Connection(int(server.stdout.readline()))
        sleep(0.2)
        windows[IDLE] = (perf_counter(), perf_counter() + 1)
        sleep(1 + PAUSE)
        first = connection.chat(chat_request(model, [user("Hello.")], max_tokens=1))
        sleep(PAUSE)
        for phase, request in requests(model, prompt).items():
            reply = connection.chat(request, expect=(200,) if phase in SMALL else (200, 400))
            begin = reply.first if phase == DECODE else reply.sent
            windows[phase] = (begin, reply.end + PAUSE)
            sleep(PAUSE)
        many = Server(f"http://127.0.0.1:{connection.port}/v1", model)
        story = "Write a long story about the keeper of lighthouse number"
        bodies = [many.body([user(f"{number} {story} {number}.")], max_tokens=64) for number in range(16)]
        chats = many.run([Chat(body) for body in bodies])
        sleep(PAUSE)
        windows[MANY] = (min(chat.sent for chat in chats), max(chat.end for chat in chats) + PAUSE)
        connection.close()
        output = finish(server)
    (engine_load,) = output["engine_loads"]
    windows[TOKENIZER] = (first.sent, engine_load)
    windows[LOAD] = (engine_load, first.end + PAUSE)
    return {phase: longest_gap(output["beats"], *window) for phase, window in windows.items()}


def finish(server: subprocess.Popen[str]) -> dict[str, list[float]]:
    output, _ = server.communicate(timeout=30)
    found: dict[str, list[float]] = json.loads(output)
    return found


def longest_gap(beats: Sequence[float], begin: float, end: float) -> float:
    """In ms, of the gaps in the window; of one that began before it or ends after it, the part inside."""
    return 1e3 * max(min(later, end) - max(beat, begin) for beat, later in pairwise(beats))


def main() -> int:
    made = model_parser(__doc__)
    made.add_argument("--runs", type=int, default=RUNS, help=f"fresh servers a runtime ({RUNS})")
    options = made.parse_args()
    folder = find_model(options.home, options.model)
    prompts = prompt_maker(folder)
    report = Report(
        title="The event loop's longest stall, in ms",
        columns=("loop", "phase", "median", "lowest", "highest", "limit"),
        notes=(f"Gaps of a 2 ms heartbeat in the server's loop, over {options.runs} fresh servers.",),
    )
    gaps: dict[tuple[str, str], list[float]] = {}
    for run in range(options.runs):
        for runtime in RUNTIMES:
            prompt = text_of_length(prompts, 512, f"Run {run}:")
            for phase, gap in run_once(options.home, runtime, options.model, prompt).items():
                gaps.setdefault((runtime, phase), []).append(gap)
    for runtime in RUNTIMES:
        phases = [phase for loop, phase in gaps if loop == runtime]
        for phase in sorted(phases, key=[IDLE, TOKENIZER, LOAD, *phases].index):
            values = gaps[runtime, phase]
            most = LIMIT
            if phase in OF_ENGINE:
                most = median(gaps[runtime, IDLE]) + ABOVE_IDLE
            elif phase == TOKENIZER:
                most = TOKENIZER_LIMIT
            shown = "" if phase == IDLE else report.check(f"{runtime}, {phase}", median(values), most=most)
            report.add(runtime, phase, median(values), min(values), max(values), shown)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
