"""Many short requests, given up at random, over the whole server: answers are right, and nothing stays.

A command of its own, `python -m tests.support.soak --help`; the suite runs a short form. Everything that is
drawn comes from a seed, so that a failure can be had again.

Each prompt is asked alone first. From then on every answer that ends must be that answer, cut where the
request cut it; every answer that is given up must be a beginning of it; and at the end no job is left.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import anyio
from attrs import Factory, define, frozen

from foundry_proto.messages.chat import ChatCompletionRequest, StreamOptions, UserMessage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.client import Client
from foundry_runtime.engine.batched.engine import BatchedEngine
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.engines import EngineKind, make_engine
from foundry_runtime.models.folder import ModelFolder
from foundry_runtime.models.loading import ModelOpener
from foundry_runtime.platform import return_freed_memory, return_large_memory_at_once
from foundry_runtime.server import serve_connection
from foundry_runtime.transport import Transport, memory_transport_pair
from foundry_serve.app import make_application
from tests.support.serving import until
from tests.support.tiny_model import MODEL_ID, tiny_model_folder

__all__ = ["Soaked", "soak"]

WORDS: Final = (
    *("the", "and", "world", "hello", "what", "are", "you", "three"),
    *("primary", "colors", "Name", "system", "12345", "99", "!!!", "..."),
)
LENGTHS: Final = (1, 2, 5, 12, 30)
"""How many tokens an answer may have."""
Way = Literal["whole", "streamed", "left early", "left at once"]
WAYS: Final[tuple[Way, ...]] = ("whole", "streamed", "streamed", "streamed", "left early", "left at once")


@frozen(kw_only=True)
class Soaked:
    """What came of it."""

    requests: int
    ways: Counter[str]
    seconds: float
    resident: tuple[int, int]
    """Bytes of this process after a fifth of the requests, and at the end; zeros where nobody tells."""
    kept_tokens: int


@define
class _Plan:
    """What is asked, drawn from a seed."""

    random: random.Random
    prompts: Sequence[str]
    expected: dict[tuple[str, int], str] = Factory(dict)
    ways: Counter[str] = Factory(Counter)
    resident: list[int] = Factory(list)


async def soak(
    home: ModelDirectory, model: str, *, requests: int, seed: int = 0, clients: int = 24, prompts: int = 40
) -> Soaked:
    """Ask so many times, by so many clients at once.

    Args:
        home: Where the model is; it must be one for the batched engine.
        model: Its id.
        requests: How many, over all clients.
        seed: What is drawn comes from it.
        clients: How many ask at once.
        prompts: How many different prompts there are; many begin alike.

    Raises:
        AssertionError: An answer is wrong, or something stayed.
        TimeoutError: A request hung.
    """
    drawn = random.Random(seed)
    beginnings = [" ".join(drawn.choice(WORDS) for _ in range(drawn.randrange(1, 60))) for _ in range(6)]
    texts = [
        f"{drawn.choice(beginnings)} {' '.join(drawn.choice(WORDS) for _ in range(drawn.randrange(0, 40)))}"
        for _ in range(prompts)
    ]
    plan = _Plan(drawn, texts)
    engines: list[BatchedEngine] = []

    def make(
        folder: ModelFolder,
        kind: EngineKind,
        /,
        **more: Any,
    ) -> BatchedEngine:
        engine = make_engine(folder, kind, **more)
        assert isinstance(engine, BatchedEngine)
        engines.append(engine)
        return engine

    application = make_application(home, ModelOpener(engine="batched", make=make))
    began = time.monotonic()
    async with application.running(), anyio.create_task_group() as connections:

        async def connect() -> Transport:
            ours, theirs = memory_transport_pair()
            connections.start_soon(serve_connection, theirs, application)
            return ours

        async with Client("http://soak", connect=connect) as client:
            for text in texts:
                for length in LENGTHS:
                    plan.expected[text, length] = await _whole(client, model, text, length)
            left = iter(range(requests))
            async with anyio.create_task_group() as asking:
                for _ in range(clients):
                    asking.start_soon(_ask, client, model, plan, left, requests)
        (engine,) = engines
        with anyio.fail_after(60):  # what was given up last leaves the engine at its next step
            await until(engine._is_idle)
        # While the model is still here: what leaks must not hide behind what goes with it.
        kept, resident = engine.kept_tokens, _resident()
        connections.cancel_scope.cancel()
    return Soaked(
        requests=requests,
        ways=plan.ways,
        seconds=time.monotonic() - began,
        resident=(plan.resident[0], resident),
        kept_tokens=kept,
    )


def _request(model: str, text: str, length: int, *, stream: bool) -> ChatCompletionRequest:
    return ChatCompletionRequest(
        model=model,
        messages=(UserMessage(role="user", content=text),),
        temperature=0.0,
        max_tokens=length,
        stream=stream,
        stream_options=StreamOptions(include_usage=True) if stream else None,
    )


async def _whole(client: Client, model: str, text: str, length: int) -> str:
    with anyio.fail_after(120):
        completion = await client.call(CHAT_COMPLETIONS, _request(model, text, length, stream=False))
    (choice,) = completion.choices
    usage = completion.usage
    assert usage
    assert (usage.completion_tokens == length) == (choice.finish_reason == "length"), (usage, choice)
    return choice.message.content or ""


async def _ask(client: Client, model: str, plan: _Plan, left: Iterator[int], requests: int) -> None:
    for number in left:
        if number == requests // 5:
            plan.resident.append(_resident())
        text, length = plan.random.choice(plan.prompts), plan.random.choice(LENGTHS)
        way, leaves_after = plan.random.choice(WAYS), plan.random.randrange(1, 6)
        expected = plan.expected[text, length]
        plan.ways[way] += 1
        match way:
            case "whole":
                said = await _whole(client, model, text, length)
                assert said == expected, f"{text!r}, {length} tokens: expected {expected!r}, got {said!r}"
            case "left at once":
                with anyio.move_on_after(plan.random.random() * 0.02):
                    await _whole(client, model, text, length)
            case _:
                pieces = await _streamed(
                    client, model, text, length, leaves_after if way == "left early" else None
                )
                said = "".join(pieces)
                ok = said == expected if way == "streamed" else expected.startswith(said)
                assert ok, f"{text!r}, {length} tokens, {way}: expected {expected!r}, got {said!r}"


async def _streamed(
    client: Client, model: str, text: str, length: int, leaves_after: int | None
) -> list[str]:
    pieces: list[str] = []
    with anyio.fail_after(120):
        async with client.stream(CHAT_COMPLETIONS, _request(model, text, length, stream=True)) as stream:
            async for chunk in stream:
                pieces += [choice.delta.content or "" for choice in chunk.choices]
                if leaves_after is not None and len(pieces) > leaves_after:
                    break
    return pieces


def _resident() -> int:
    return_freed_memory()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak for long, and say what came of it."""
    made = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    made.add_argument("--requests", type=int, default=20_000)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--clients", type=int, default=24)
    made.add_argument("--runtime", choices=("asyncio", "trio"), default="asyncio")
    made.add_argument("--home", type=Path, help="with a model of its own; by default a tiny one is made")
    made.add_argument("--model", default=MODEL_ID)
    options = made.parse_args(arguments)
    return_large_memory_at_once()
    with TemporaryDirectory() as folder:
        home = ModelDirectory(options.home or Path(folder))
        if options.home is None:
            home.models.joinpath("Test").mkdir(parents=True)
            tiny_model_folder(home.models / "Test")
        found = anyio.run(
            lambda: soak(
                home, options.model, requests=options.requests, seed=options.seed, clients=options.clients
            ),
            backend=options.runtime,
        )
    before, after = (size / 1e6 for size in found.resident)
    print(  # noqa: T201 - a command
        f"{found.requests} requests on {options.runtime}, seed {options.seed}: {dict(found.ways)};"
        f" {found.seconds:.0f} s; resident {before:.1f} MB after a fifth, {after:.1f} MB at the end"
        f" ({after / before - 1:+.1%}); {found.kept_tokens} tokens kept"
    )
    return 0 if after <= before * 1.05 else 1


if __name__ == "__main__":
    sys.exit(main())
