"""What the benchmarks share: the model, the machine's description, a server in a process of its own, a client
that costs it nothing, and how results are shown and kept.

The client is a plain blocking socket in the benchmark's own process: it sends bytes that were made before and
reads what comes, so it shares neither the event loop nor the interpreter with the server that is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Final

from attrs import Factory, define, frozen

from foundry_runtime.engine.text.prompt import PromptMaker
from foundry_runtime.engine.text.template import ChatTemplate
from foundry_runtime.engine.text.tokenizer import Tokenizer
from foundry_runtime.models.catalog import Catalog
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import ModelFolder

# What is measured asks no catalogue meanwhile.
os.environ["FOUNDRY_CATALOG"] = "off"

HERE: Final = Path(__file__).resolve().parent
DEFAULT_MODEL: Final = "smollm2-135m"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_PACKAGES: Final = (
    "onnxruntime-genai",
    "onnxruntime",
    "tokenizers",
    "llguidance",
    "numpy",
    "anyio",
    "trio",
    "h11",
    "uvicorn",
    "starlette",
    "httptools",
)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    first = (description or "").split("\n", 1)[0]
    made = argparse.ArgumentParser(description=first)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file, too")
    return made


def model_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark that needs a model."""
    made = parser(description)
    model_options(made)
    return made


def model_options(made: argparse.ArgumentParser) -> None:
    """Add the options that say which model."""
    home = os.environ.get("FOUNDRY_HOME") or Path("~", ".foundry").expanduser()
    made.add_argument("--home", type=Path, default=Path(home), help="where the models are ($FOUNDRY_HOME)")
    made.add_argument("--model", default=DEFAULT_MODEL, help=f"which model ({DEFAULT_MODEL})")


def find_model(home: Path, name: str) -> ModelFolder:
    """The model's folder, or the end of the program."""
    folder = Catalog(ModelDirectory(home.absolute())).folder(name)
    if folder is None:
        sys.exit(f"no model {name} in {home}: `foundry model run {name}` fetches it")
    return folder


def prompt_maker(folder: ModelFolder) -> PromptMaker:
    tokenizer = Tokenizer.load(folder.path, rows=folder.vocab_size)
    return PromptMaker(tokenizer, ChatTemplate.load(folder.path))


def text_of_length(prompts: PromptMaker, tokens: int, begin: str = "") -> str:
    """A user's message whose whole prompt, template and all, has exactly this many tokens."""
    text = begin + " time" * (tokens - len(prompts.make([{"role": "user", "content": begin}]).ids))
    length = len(prompts.make([{"role": "user", "content": text}]).ids)
    assert length == tokens, f"expected a prompt of {tokens} tokens, got {length}"
    return text


@frozen
class Reply:
    """What a request brought, and when."""

    sent: float
    first: float
    """When its first bytes came."""
    end: float
    data: bytes
    """Head and body, as on the wire."""

    @property
    def status(self) -> int:
        return int(self.data[9:12])

    def count(self, name: str) -> int:
        """A number of the usage object."""
        found = re.search(rb'"%b":(\d+)' % name.encode(), self.data)
        assert found is not None, f"no {name} in {self.data[-1000:]!r}"
        return int(found[1])


class Connection:
    """A connection to a server on this machine, for one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = port

    def close(self) -> None:
        self._socket.close()

    def chat(self, request: bytes, expect: Sequence[int] = (200,)) -> Reply:
        """Send a request's body and read the reply to its end."""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(request)}\r\n\r\n"
        )
        sent = perf_counter()
        self._socket.sendall(head.encode() + request)
        pieces = [self._read()]
        first = perf_counter()
        while b"\r\n\r\n" not in pieces[0]:
            pieces[0] += self._read()
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", pieces[0])
        if length is None:
            while not pieces[-1].endswith(_LAST_CHUNK) and not b"".join(pieces[-2:]).endswith(_LAST_CHUNK):
                pieces.append(self._read())
        else:
            missing = pieces[0].index(b"\r\n\r\n") + 4 + int(length[1]) - len(pieces[0])
            while missing > 0:
                pieces.append(self._read())
                missing -= len(pieces[-1])
        reply = Reply(sent, first, perf_counter(), b"".join(pieces))
        assert reply.status in expect, f"expected a status of {expect}, got {reply.data[:1000]!r}"
        return reply

    def _read(self) -> bytes:
        data = self._socket.recv(1 << 14)
        assert data, "the server closed the connection"
        return data


def chat_request(model: str, messages: Sequence[object], **options: object) -> bytes:
    return json.dumps({"model": model, "messages": messages, **options}, ensure_ascii=False).encode()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@contextmanager
def process(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process whose standard input and output are ours to talk through; ended with the block."""
    environment = {**os.environ, "FOUNDRY_HOME": str(home.absolute())}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=pipe, stdout=pipe, text=True, env=environment
    ) as child:
        try:
            yield child
        finally:
            child.terminate()
            child.wait()


@contextmanager
def foundry_serve(home: Path, runtime: str) -> Iterator[tuple[int, int]]:
    """`foundry serve` on a free port; gives its process id and the port."""
    options = ("serve", "--host", "127.0.0.1", "--port", "0", "--runtime", runtime)
    with process(home, "-m", "foundry_serve", *options) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found is not None, f"expected the server's address, got {line!r}"
        yield child.pid, int(found[1])


def machine() -> dict[str, object]:
    """What the results depend on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "date": datetime.now(UTC).date().isoformat(),
    }


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    fields = dict(re.findall(r"(?m)^(model name|cpu family|model)\s*: (.*)$", text))
    numbers = f"family {fields.get('cpu family', '?')}, model {fields.get('model', '?')}"
    return f"{fields.get('model name', platform.processor())} ({numbers})"


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _load() -> list[float]:
    """How busy the machine was in the last minute, 5 and 15: what else ran disturbs every figure."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


Cell = str | float | None


@define
class Report:
    """A table of results: printed as Markdown, and written as JSON where that is asked for."""

    title: str
    columns: Sequence[str]
    notes: Sequence[str] = ()
    load_before: Sequence[float] = Factory(_load)
    rows: list[Sequence[Cell]] = Factory(list)
    missed: list[str] = Factory(list)
    """The limits that were not kept."""

    def add(self, *cells: Cell) -> None:
        self.rows.append(cells)

    def check(self, what: str, value: float, *, most: float | None = None, least: float | None = None) -> str:
        """Compare with a limit; gives the cell that shows it."""
        if most is not None:
            if value > most:
                self.missed.append(f"{what}: {_shown(value)}, expected at most {_shown(most)}")
            return f"≤ {_shown(most)}{' missed' if value > most else ''}"
        assert least is not None
        if value < least:
            self.missed.append(f"{what}: {_shown(value)}, expected at least {_shown(least)}")
        return f"≥ {_shown(least)}{' missed' if value < least else ''}"

    def finish(self, path: Path | None) -> int:
        """Print it and write it.

        Returns:
            The exit status: 1 when a limit was missed.
        """
        about = machine()
        load = {"before": self.load_before, "after": _load()}
        print(f"# {self.title}\n")
        print(f"| {' | '.join(self.columns)} |")
        print(f"|{'---|' * len(self.columns)}")
        for row in self.rows:
            print(f"| {' | '.join(_shown(cell) for cell in row)} |")
        print()
        for note in self.notes:
            print(f"{note}\n")
        for missed in self.missed:
            print(f"**Limit missed**: {missed}\n")
        packages = about["packages"]
        assert isinstance(packages, dict)
        versions = ", ".join(f"{name} {found}" for name, found in packages.items())
        print(f"{about['date']}: {about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB; ", end="")
        print(f"{about['system']}; Python {about['python']}; {versions}.")
        print(f"Load average before {load['before']}, after {load['after']}.")
        if path is not None:
            document = {
                "title": self.title,
                "machine": about,
                "load_average": load,
                "missed": self.missed,
                "results": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            }
            path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return 1 if self.missed else 0


def _shown(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case float():
            return f"{cell:.3f}" if abs(cell) < 10 else f"{cell:.1f}" if abs(cell) < 1000 else f"{cell:.0f}"
        case _:
            return str(cell)
