"""The documentation's pages as what tests can hold them to: programs with outputs, tables, commands, links.

A page's ```python blocks are programs of their own, run in a folder that all blocks of the page share; one
that begins with `# NAME.py` is saved under that name for the others to import. A ```text block right behind a
program is its output, in which `…` stands for anything. ```sh blocks are run if they call curl. An HTML
comment above a block changes this:

- `<!-- docs: background -->`: a server, kept running for the rest of the page on the port that it names;
- `<!-- docs: model -->`: it is true of the real model alone;
- `<!-- docs: embeddings -->`: it needs a model for embeddings, which the real model is not.

Ports are replaced by free ones, and put back in what is printed.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from tests.support import leaks

__all__ = [
    "BLOCKS",
    "PAGES",
    "PRODUCT_PORT",
    "ROOT",
    "Block",
    "Pages",
    "anchors",
    "check_output",
    "commands_of",
    "links",
    "prose",
    "read_blocks",
    "table",
]

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PRODUCT_PORT: Final = "5272"
"""Who talks to this port talks to the product's server."""


@frozen(kw_only=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    marker: str
    """`background`, `model`, `embeddings`, or nothing."""
    code: str
    output: str | None
    """What the page shows as its output."""

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether the page's own tests run it."""
        if self.marker == "clients":
            return False
        return self.language == "python" or (self.language == "sh" and self.code.startswith("curl "))


_FENCED: Final = re.compile(
    r"(?:^<!-- docs: (?P<marker>\w+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```\n",
    re.MULTILINE | re.DOTALL,
)


def read_blocks(page: Path, text: str) -> list[Block]:
    """All fenced blocks; a `text` block right behind another one is taken for its output."""
    found = list(_FENCED.finditer(text))
    blocks = []
    for match, following in zip_longest(found, found[1:]):
        output = None
        if following is not None and following["language"] == "text":
            between = text[match.end() : following.start()]
            output = None if between.strip() else following["code"]
        blocks.append(
            Block(
                page=page,
                line=text.count("\n", 0, match.start("code")),
                language=match["language"],
                marker=match["marker"] or "",
                code=match["code"],
                output=output,
            )
        )
    return blocks


BLOCKS: Final = {page: read_blocks(page, page.read_text("utf-8")) for page in PAGES}

# What differs from run to run.
_VARYING: Final = (
    (re.compile(r"\b(chatcmpl|cmpl)-[0-9a-f]{32}"), "ID"),
    (re.compile(r'"created":\d+'), '"created":0'),
)


def check_output(expected: str, actual: str, *changes: tuple[re.Pattern[str], str]) -> None:
    """Compare line by line, but for blanks at their ends; `…` stands for anything.

    Args:
        expected: What the page shows.
        actual: What was printed.
        changes: What else may differ, and what to read instead in both.
    """
    for pattern, plain in (*_VARYING, *changes):
        expected, actual = pattern.sub(plain, expected), pattern.sub(plain, actual)
    shown = [line.rstrip() for line in expected.rstrip().splitlines()]
    printed = [line.rstrip() for line in actual.rstrip().splitlines()]
    assert len(printed) == len(shown), f"expected\n{expected}\ngot\n{actual}"
    for wanted, got in zip(shown, printed, strict=True):
        assert re.fullmatch(re.escape(wanted).replace("…", ".*"), got), f"expected\n{wanted}\ngot\n{got}"


@define
class Pages:
    """Runs the programs of pages, each page's in a folder of its own."""

    folder: Path
    home: Path
    """Their `FOUNDRY_HOME`."""
    port: int
    """Where the product's server listens."""
    _ports: dict[tuple[Path, str], int] = field(factory=dict)
    """By page, and the port that the page names: the one that is used instead."""
    _servers: ExitStack = field(factory=ExitStack)

    def run(self, block: Block) -> str:
        """Run a program to its end, and give what it printed; of a server, start it and give nothing."""
        for server in BLOCKS[block.page]:
            if server.marker == "background":
                self._start(server)
        if block.marker == "background":
            return ""
        if block.language == "sh":
            quiet = self._translate(block).replace("curl ", "curl --silent --show-error ")
            command = ["bash", "-c", quiet]
        else:
            command = self._python(block)
        done = subprocess.run(
            command,
            cwd=self._folder(block.page),
            env=self._environment(),
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        printed = done.stdout
        for (page, written), used in self._ports.items():
            if page == block.page:
                printed = re.sub(rf"\b{used}\b", written, printed)
        return printed

    def close(self) -> None:
        """Stop the servers."""
        self._servers.close()

    def _folder(self, page: Path) -> Path:
        """The page's folder, with the files that it has the reader save."""
        folder = self.folder / page.stem
        if not folder.exists():
            folder.mkdir()
            for block in BLOCKS[page]:
                if saved := re.match(r"# (\w+\.py)\n", block.code):
                    (folder / saved[1]).write_text(self._translate(block), "utf-8")
        return folder

    def _translate(self, block: Block) -> str:
        """The code, with ports that are free here."""
        code = block.code.replace(PRODUCT_PORT, str(self.port))
        for written in _own_ports(block):
            used = self._ports.setdefault((block.page, written), _free_port())
            code = code.replace(written, str(used))
        return code

    def _python(self, block: Block) -> list[str]:
        file = self._folder(block.page) / f"line_{block.line}.py"
        file.write_text(self._translate(block), "utf-8")
        return [sys.executable, "-W", "error", str(file)]

    def _environment(self) -> Mapping[str, str]:
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        return {**os.environ, "FOUNDRY_HOME": str(self.home), "PYTHONPATH": path, "PYTHONUTF8": "1"}

    def _start(self, block: Block) -> None:
        if (self._folder(block.page) / f"line_{block.line}.py").exists():
            return
        program = subprocess.Popen(self._python(block), env=self._environment(), text=True)
        leaks.shared.add(program.pid)
        self._servers.callback(_stop, program)
        (written,) = _own_ports(block)
        _wait_for(self._ports[block.page, written], program)


def _own_ports(block: Block) -> set[str]:
    """The ports of the page's own servers: 8000 and its neighbours."""
    return set(re.findall(r"\b80\d\d\b", block.code))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def _wait_for(port: int, program: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert program.poll() is None, f"the server ended with status {program.returncode}"
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.02)
        else:
            return


def _stop(program: subprocess.Popen[str]) -> None:
    program.kill()
    program.wait()


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCED.sub("", page.read_text("utf-8"))


def links(page: Path) -> list[str]:
    """Where the page's links lead to."""
    return re.findall(r"\[[^]\n]*\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub names them in links."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(page: Path, first: str) -> list[list[str]]:
    """The rows of the page's table whose first column has this title, cell by cell."""
    lines = iter(page.read_text("utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            next(lines)
            rows = takewhile(lambda row: row.startswith("|"), lines)
            return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    raise AssertionError(f"{page.name}: no table of {first}")


def commands_of(page: Path) -> list[list[str]]:
    """What follows each `foundry` in the page's commands, and in the code within its lines."""
    shell = [block.code for block in BLOCKS[page] if block.language == "sh" and not block.runs]
    inline = prose(page).split("`")[1::2]
    called = [code for code in inline if code.startswith("foundry ")]
    return [words for code in (*shell, *called) for words in _calls(code)]


def _calls(code: str) -> Iterator[list[str]]:
    for line in code.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        for number, word in enumerate(words, start=1):
            if word.rpartition("/")[2] == "foundry":
                yield list(takewhile(lambda word: not set(word) <= set("|&;<>()"), words[number:]))
