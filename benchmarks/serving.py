"""How a server does with many streams at once, long conversations and bursts, and against another server.

Run: `python benchmarks/serving.py` starts `foundry serve` and measures it against a bare loop around
onnxruntime-genai's generator; with `--url URL` any server that speaks OpenAI's API, and with `--against URL`
a second one in turns with the first. Prompts have about 128 tokens and differ from the first on, answers 256
tokens at temperature 0, unless a row says otherwise. Shares are of values of the same turn; medians of turns.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import sleep

from attrs import Factory, define

from _common import HERE, Report, find_model, foundry_serve, model_parser, process, prompt_maker, user
from _load import Chat, Server, percentile
from generation import ask_engine

STREAMS = (1, 4, 8, 16, 32)
LEAST = {1: 0.95, 4: 1.8, 8: 2.5, 16: 3.5}
"""Of the bare loop's tokens a second, while so many streams run."""
RUNS = 5
TOKENS = 256
SHORT, LONG, LONGEST = 75, 745, 1300
"""Words of a question: prompts of about 128, 800 and 1,400 tokens."""
BARE = "bare loop"
WORDS = (
    *("river", "lamp", "winter", "bridge", "garden", "letter", "engine", "mountain", "paper", "window"),
    *("copper", "harbour", "music", "stone", "cloud", "teacher", "market", "silver", "forest", "island"),
    *("clock", "bread", "circle", "valley", "ocean", "cotton", "marble", "thunder", "ladder", "violin"),
)
COLUMNS = (
    *("what", "server", "decode tokens/s", "share", "limit", "tokens/s end to end"),
    *("first token p50 ms", "p95 ms", "last ms", "gap p50 ms", "gap p99 ms", "longest gap ms"),
)


def question(seed: int, words: int) -> list[dict[str, str]]:
    """A question that differs from all others from its first word on, and makes a model write at length."""
    drawn = random.Random(seed)
    about = " ".join(drawn.choice(WORDS) for _ in range(words))
    return [user(f"{about}. Write a very long story in which all of these words appear, one chapter each.")]


@define
class Bench:
    """The servers that are measured in turns, the bare loop if there is one, and what they gave."""

    servers: dict[str, Server]
    pids: dict[str, int]
    bare: Callable[[], float] | None
    """Tokens a second of the bare loop, after its first."""
    runs: int
    streams: Sequence[int]
    report: Report
    asked: int = 0
    found: dict[tuple[str, str, str], list[float]] = Factory(dict)

    def questions(self, count: int, words: int = SHORT) -> list[list[dict[str, str]]]:
        """As many as are wanted, none of which was asked before."""
        self.asked += count
        return [question(self.asked - number, words) for number in range(count)]

    def turns(self, measure: Callable[[Server], dict[str, float]], what: str) -> None:
        """Measure all servers, several times in turns."""
        for _ in range(self.runs):
            if self.bare is not None:
                self.found.setdefault((what, BARE, "decode"), []).append(self.bare())
            for who, server in self.servers.items():
                for name, value in measure(server).items():
                    self.found.setdefault((what, who, name), []).append(value)

    def median(self, what: str, who: str, name: str) -> float:
        return median(self.found[what, who, name])

    def share(self, what: str, who: str, name: str, of: str, of_whom: str | None = None) -> float:
        """The median of one value's shares of another."""
        pairs = zip(self.found[what, who, name], self.found[what, of_whom or who, of], strict=True)
        return median(one / whole for one, whole in pairs)

    def check(
        self, who: str, what: str, value: float, *, most: float | None = None, least: float | None = None
    ) -> str:
        """Compare with a limit, which is for the first server only; gives the cell that shows it."""
        if who != next(iter(self.servers)):
            return ""
        return self.report.check(f"{who}, {what}", value, most=most, least=least)

    def row(self, what: str, who: str, **cells: str | float | None) -> None:
        """Add a row; names are the columns' with underlines."""
        named = {name.replace(" ", "_").replace("/", "_"): None for name in COLUMNS}
        assert set(cells) <= set(named), set(cells) - set(named)
        self.report.add(*({**named, "what": what, "server": who, **cells}.values()))


def times(chats: Sequence[Chat]) -> dict[str, float]:
    """First tokens and gaps, in ms, and tokens a second from the first request to the last answer's end."""
    firsts = [chat.first * 1000 for chat in chats]
    gaps = [gap * 1000 for chat in chats for gap in chat.gaps]
    whole = max(chat.end for chat in chats) - min(chat.sent for chat in chats)
    return {
        "tokens_s_end_to_end": sum(chat.usage("completion_tokens") for chat in chats) / whole,
        "first_token_p50_ms": percentile(firsts, 0.5),
        "p95_ms": percentile(firsts, 0.95),
        "last_ms": max(firsts),
        "gap_p50_ms": percentile(gaps, 0.5),
        "gap_p99_ms": percentile(gaps, 0.99),
        "longest_gap_ms": max(gaps, default=0.0),
    }


def decode_rate(chats: Sequence[Chat]) -> float:
    """Tokens a second of all streams, from the last first token to the next end.

    Where more come than run at once, the last begin when the first have ended: then of those that are left.
    """
    begin = max(chat.times[0] for chat in chats)
    end = min(chat.times[-1] for chat in chats if chat.times[-1] > begin)
    return sum(begin < time <= end for chat in chats for time in chat.times) / (end - begin)


def measure_streams(bench: Bench) -> None:
    """So many streams at once, all with the same work."""
    for count in bench.streams:

        def measure(server: Server, count: int = count) -> dict[str, float]:
            asked = bench.questions(count)
            bodies = [server.body(one, temperature=0, max_tokens=TOKENS) for one in asked]
            chats = server.run([Chat(body) for body in bodies])
            return {"decode": decode_rate(chats), **times(chats)}

        what = f"{count} streams"
        bench.turns(measure, what)
        if bench.bare is not None:
            bench.row(what, BARE + ", one stream", decode_tokens_s=bench.median(what, BARE, "decode"))
        for who in bench.servers:
            cells: dict[str, str | float] = {
                name: bench.median(what, who, name) for at, by, name in bench.found if (at, by) == (what, who)
            }
            cells["decode_tokens_s"] = cells.pop("decode")
            if bench.bare is not None:
                share = cells["share"] = bench.share(what, who, "decode", "decode", BARE)
                if count in LEAST:
                    cells["limit"] = bench.check(who, what, share, least=LEAST[count])
            bench.row(what, who, **cells)


def measure_turns(bench: Bench) -> None:
    """The second turn of a conversation: its time to first token, of the first turn's."""

    def measure(server: Server) -> dict[str, float]:
        (asked,) = bench.questions(1, LONG)
        (one,) = server.run([Chat(server.body(asked, temperature=0, max_tokens=48))])
        turn = [*asked, {"role": "assistant", "content": one.text}, user("And what came after that?")]
        (two,) = server.run([Chat(server.body(turn, temperature=0, max_tokens=16))])
        return {"first": one.first * 1000, "second": two.first * 1000, "tokens": one.usage("prompt_tokens")}

    what = "second turn"
    bench.turns(measure, what)
    for who in bench.servers:
        share = bench.share(what, who, "second", "first")
        bench.row(
            f"second turn after {bench.median(what, who, 'tokens'):.0f} tokens, of the first's time",
            who,
            share=share,
            limit=bench.check(who, what, share, most=0.1),
            last_ms=bench.median(what, who, "second"),
        )


def measure_shared(bench: Bench) -> None:
    """Eight requests that share a long system prompt, of the time to compute it eight times."""

    def measure(server: Server) -> dict[str, float]:
        (other,), (shared,) = bench.questions(1, LONG), bench.questions(1, LONG)
        (single,) = server.run([Chat(server.body(other, temperature=0, max_tokens=2))])
        system = {"role": "system", "content": shared[0]["content"]}
        last: list[float] = []
        for _ in range(2):
            asked = bench.questions(8, words=4)
            bodies = [server.body([system, *one], temperature=0, max_tokens=2) for one in asked]
            last.append(max(chat.first for chat in server.run([Chat(body) for body in bodies])) * 1000)
        return {"all": single.first * 8000, "cold": last[0], "cached": last[1]}

    what = "8 with one long system prompt"
    bench.turns(measure, what)
    for who in bench.servers:
        for name, most in (("cold", 0.25), ("cached", 0.08)):
            share = bench.share(what, who, name, "all")
            limit = bench.check(who, f"{what}, {name}", share, most=most)
            last = bench.median(what, who, name)
            bench.row(f"{what}, {name}", who, share=share, limit=limit, last_ms=last)


def measure_burst(bench: Bench) -> None:
    """Sixteen prompts come while four streams run, of the time to compute the sixteen one by one."""

    def measure(server: Server) -> dict[str, float]:
        def body(words: int, tokens: int) -> bytes:
            return server.body(bench.questions(1, words)[0], temperature=0, max_tokens=tokens)

        in_order = sum(server.run([Chat(body(165, 1))])[0].first for _ in range(16))
        running = [Chat(body(SHORT, 512)) for _ in range(4)]
        burst = [Chat(body(165, 16), after=1.0) for _ in range(16)]
        server.run([*running, *burst])
        begin, end = min(chat.sent for chat in burst), max(chat.times[0] for chat in burst)
        gaps = [
            (after - before) * 1000
            for chat in running
            for before, after in pairwise(chat.times)
            if after >= begin and before <= end
        ]
        return {
            "in_order": in_order * 1000,
            "last": (end - begin) * 1000,
            "gap_p99_ms": percentile(gaps, 0.99),
            "longest_gap_ms": max(gaps),
        }

    what = "16 prompts of 256 tokens beside 4 streams"
    bench.turns(measure, what)
    for who in bench.servers:
        share, gap99 = bench.share(what, who, "last", "in_order"), bench.median(what, who, "gap_p99_ms")
        limits = (
            bench.check(who, f"{what}, last first token", share, most=1.5),
            bench.check(who, f"{what}, 99 of 100 gaps in ms", gap99, most=150.0),
        )
        bench.row(
            what,
            who,
            share=share,
            limit="; gap p99 ".join(limits),
            last_ms=bench.median(what, who, "last"),
            gap_p99_ms=gap99,
            longest_gap_ms=bench.median(what, who, "longest_gap_ms"),
        )


def measure_mixed(bench: Bench) -> None:
    """Twelve prompts of three lengths at once: short ones need not wait for long ones."""

    def measure(server: Server) -> dict[str, float]:
        asked = [bench.questions(1, (LONGEST, 300, 20)[number % 3])[0] for number in range(12)]
        bodies = [server.body(one, temperature=0, max_tokens=64) for one in asked]
        chats = server.run([Chat(body) for body in bodies])
        return {**times(chats), "short": max(chat.first for chat in chats[2::3]) * 1000}

    what = "12 prompts of 50, 450 and 1,400 tokens"
    bench.turns(measure, what)
    for who in bench.servers:
        names = ("tokens_s_end_to_end", "first_token_p50_ms", "p95_ms", "last_ms")
        bench.row(what, who, **{name: bench.median(what, who, name) for name in names})
        bench.row(f"{what}: the short ones", who, last_ms=bench.median(what, who, "short"))


def measure_memory(bench: Bench) -> None:
    """What a server keeps when it has nothing to do, after one short prompt and after sixteen at once."""
    for who, pid in bench.pids.items():
        server, found = bench.servers[who], []
        for count in (1, 16):
            bodies = [server.body(one, temperature=0, max_tokens=1) for one in bench.questions(count)]
            server.run([Chat(body) for body in bodies])
            sleep(1.0)
            found.append(resident(pid))
        share = found[1] / found[0]
        limit = bench.check(who, "memory of 16 rows of 1", share, most=1.2)
        what = f"idle after 1 and after 16 rows: {found[0]:.0f} and {found[1]:.0f} MB"
        bench.row(what, who, share=share, limit=limit)


def resident(pid: int) -> float:
    """MB of a process's memory; read where Linux tells it."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def bare_loop(options: argparse.Namespace) -> Iterator[Callable[[], float]]:
    """The bare loop around onnxruntime-genai's generator, in a process of its own."""
    folder = find_model(options.home, options.model)
    prompts = prompt_maker(folder)
    with process(options.home, str(HERE / "_bare_engine.py"), str(folder.path)) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        asked = 0

        def rate() -> float:
            nonlocal asked
            asked += 1
            measured = ask_engine(engine, list(prompts.make(question(-asked, SHORT)).ids))
            return (measured.tokens - 1) / measured.decode

        rate()  # the first one warms up
        yield rate


PARTS: dict[str, Callable[[Bench], None]] = {
    "memory": measure_memory,
    "streams": measure_streams,
    "turns": measure_turns,
    "shared": measure_shared,
    "burst": measure_burst,
    "mixed": measure_mixed,
}


def main() -> int:
    made = model_parser(__doc__)
    made.add_argument("--url", metavar="URL", help="measure this server, as http://127.0.0.1:5272/v1")
    made.add_argument("--against", metavar="URL", help="and this one, in turns")
    made.add_argument("--against-model", metavar="MODEL", help="what the model is called there")
    made.add_argument("--runtime", choices=("asyncio", "trio"), default="asyncio", help="of our own server")
    made.add_argument("--runs", type=int, default=RUNS, help=f"turns ({RUNS})")
    made.add_argument("--streams", type=int, nargs="*", default=STREAMS, help="how many at once")
    made.add_argument("--only", nargs="*", choices=tuple(PARTS), default=tuple(PARTS), help="what to measure")
    options = made.parse_args()
    report = Report(
        title="Many streams at once",
        columns=COLUMNS,
        notes=(
            f"Medians of {options.runs} turns. Decode counts from the last first token to the next end.",
            "Its share is of a bare loop around onnxruntime-genai's generator, one stream, in the same turn.",
        ),
    )
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        bench = Bench(servers, {}, None, options.runs, options.streams, report)
        if options.url is None:
            bench.bare = stack.enter_context(bare_loop(options))
            pid, port = stack.enter_context(foundry_serve(options.home, options.runtime))
            servers["foundry"] = Server(f"http://127.0.0.1:{port}/v1", options.model)
            bench.pids["foundry"] = pid
        else:
            servers["first"] = Server(options.url, options.model)
        if options.against is not None:
            servers["other"] = Server(options.against, options.against_model or options.model)
        for server in servers.values():  # loads the model
            server.run([Chat(server.body([user("hi")], max_tokens=4))])
        for part in options.only:
            PARTS[part](bench)
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
