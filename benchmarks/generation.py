"""How many tokens a second come out of the whole server, against the engine alone.

Run: `python benchmarks/generation.py`. One stream at a time: the same greedy answer of 256 tokens from a bare
loop around the engine (`_bare_engine.py`), from `foundry serve` on asyncio and from `foundry serve` on trio,
each a process of its own, in turns; the client is a plain socket in this process. The exit status is 1 when
a server has less than 0.95 of the engine's tokens a second. Tokens drawn at random are shown beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median

from attrs import frozen

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
    user,
)

RUNS = 7
TOKENS = 256
LEAST = 0.95
BARE = "engine alone, greedy"
RUNTIMES = ("asyncio", "trio")
QUESTION = "Write a long story about the keeper of a lighthouse."


@frozen
class Measured:
    """One answer, in seconds."""

    whole: float
    """From the request to the answer's end."""
    decode: float
    """From the first token to the answer's end."""
    tokens: int


def ask_engine(engine: subprocess.Popen[str], prompt: list[int]) -> Measured:
    assert engine.stdin is not None
    assert engine.stdout is not None
    engine.stdin.write(json.dumps({"prompt": prompt, "max_tokens": TOKENS}) + "\n")
    engine.stdin.flush()
    took = json.loads(engine.stdout.readline())
    return Measured(took["whole"], took["decode"], len(took["tokens"]))


def ask_server(connection: Connection, request: bytes) -> Measured:
    reply = connection.chat(request)
    assert reply.data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    return Measured(reply.end - reply.sent, reply.end - reply.first, reply.count("completion_tokens"))


def main() -> int:
    made = model_parser(__doc__)
    made.add_argument("--runs", type=int, default=RUNS, help=f"answers of each ({RUNS})")
    options = made.parse_args()
    folder = find_model(options.home, options.model)
    prompt = list(prompt_maker(folder).make([user(QUESTION)]).ids)
    stream = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": TOKENS}
    greedy = chat_request(options.model, [user(QUESTION)], temperature=0, **stream)
    drawn = chat_request(options.model, [user(QUESTION)], temperature=0.2, top_p=0.9, seed=1, **stream)
    report = Report(
        title="Generation through the server against the engine alone",
        columns=("what", "tokens/s", "of the engine's", "limit", "tokens/s after the first", "tokens"),
        notes=(
            f"Medians of {options.runs} turns, in each of which all answer once, one stream at a time.",
            "A share is of the engine's speed in the same turn.",
        ),
    )
    with ExitStack() as stack:
        engine = stack.enter_context(process(options.home, str(HERE / "_bare_engine.py"), str(folder.path)))
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        asked: dict[str, Callable[[], Measured]] = {BARE: lambda: ask_engine(engine, prompt)}
        for runtime in RUNTIMES:
            _, port = stack.enter_context(foundry_serve(options.home, runtime))
            connection = Connection(port)
            for how, request in (("greedy", greedy), ("temperature 0.2, top_p 0.9", drawn)):
                asked[f"server on {runtime}, {how}"] = partial(ask_server, connection, request)
        found: dict[str, list[Measured]] = {what: [] for what in asked}
        for run in range(options.runs + 1):
            for what, ask in asked.items():
                measured = ask()
                if run:  # the first one loads and warms up
                    found[what].append(measured)
    speeds = {what: [one.tokens / one.whole for one in ones] for what, ones in found.items()}
    for what, ones in found.items():
        share = median(ours / alone for ours, alone in zip(speeds[what], speeds[BARE], strict=True))
        limited = what != BARE and what.endswith("greedy")
        limit = report.check(f"{what}, share of the engine's speed", share, least=LEAST) if limited else ""
        decode = median((one.tokens - 1) / one.decode for one in ones)
        report.add(what, median(speeds[what]), share, limit, decode, ones[0].tokens)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
