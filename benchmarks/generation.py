"""How many tokens a second come out of the whole server, and of our engines' steps, against the engine alone.

Run: `python benchmarks/generation.py`. One stream at a time: the same greedy answer of 256 tokens from a bare
loop around onnxruntime-genai's generator (`_bare_engine.py`), from the steps of our engines, and from
`foundry serve` on asyncio and on trio, each a process of its own, in turns; the client is a plain socket in
this process. The exit status is 1 when steps have less than 0.97 of the bare loop's tokens a second, or a
server less than 0.95. Tokens that need the logits are shown beside them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from statistics import median
from typing import Final

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
LEAST_STEPPED = 0.97
STEPPED = ("genai", "batched")
BARE = "engine alone, greedy"
RUNTIMES = ("asyncio", "trio")
QUESTION = "Write a long story about the keeper of a lighthouse."


GREEDY = "greedy"
WAYS: Final[Mapping[str, Mapping[str, object]]] = {
    "greedy, 5 top_logprobs": {"sampling": {"temperature": 0.0}, "logprobs": 5},
    "greedy, frequency_penalty": {
        "sampling": {"temperature": 0.0, "frequency_penalty": 0.1, "presence_penalty": 0.1}
    },
    "temperature 1, top_p 0.9": {"sampling": {"top_p": 0.9, "seed": 1}},
    GREEDY: {"sampling": {"temperature": 0.0}},
}
"""What our engines' steps are asked for."""


@frozen
class Measured:
    """One answer, in seconds."""

    whole: float
    """From the request to the answer's end."""
    decode: float
    """From the first token to the answer's end."""
    tokens: int


def ask_engine(engine: subprocess.Popen[str], prompt: list[int], **more: object) -> Measured:
    assert engine.stdin is not None
    assert engine.stdout is not None
    engine.stdin.write(json.dumps({"prompt": prompt, "max_tokens": TOKENS, **more}) + "\n")
    engine.stdin.flush()
    took = json.loads(engine.stdout.readline())
    return Measured(took["whole"], took["decode"], len(took["tokens"]))


def ask_server(port: int, request: bytes) -> Measured:
    connection = Connection(port)  # each time: a turn of all may take longer than a server waits
    reply = connection.chat(request)
    connection.close()
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
        for name in STEPPED:
            stepped = stack.enter_context(
                process(options.home, str(HERE / "_stepped_engine.py"), name, str(folder.path))
            )
            assert stepped.stdout is not None
            assert stepped.stdout.readline() == "ready\n"
            for how, more in WAYS.items():
                asked[f"steps of {name}, {how}"] = lambda s=stepped, m=more: ask_engine(s, prompt, **m)  # type: ignore[misc]
        for runtime in RUNTIMES:
            _, port = stack.enter_context(foundry_serve(options.home, runtime))
            for how, request in (("greedy", greedy), ("temperature 0.2, top_p 0.9", drawn)):
                asked[f"server on {runtime}, {how}"] = lambda p=port, r=request: ask_server(p, r)  # type: ignore[misc]
        found: dict[str, list[Measured]] = {what: [] for what in asked}
        for run in range(options.runs + 1):
            for what, ask in asked.items():
                measured = ask()
                if run:  # the first one loads and warms up
                    found[what].append(measured)
    speeds = {what: [one.tokens / one.whole for one in ones] for what, ones in found.items()}
    for what, ones in found.items():
        share = median(ours / alone for ours, alone in zip(speeds[what], speeds[BARE], strict=True))
        limited = what != BARE and what.endswith(GREEDY)
        least = LEAST_STEPPED if what.startswith("steps") else LEAST
        limit = report.check(f"{what}, share of the engine's speed", share, least=least) if limited else ""
        decode = median((one.tokens - 1) / one.decode for one in ones)
        report.add(what, median(speeds[what]), share, limit, decode, ones[0].tokens)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
