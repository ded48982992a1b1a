"""The rooms of the house: who imports what, as the table in CONTRIBUTING.md has it and as the files do."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
SOURCES: Final = ROOT / "src"
FILES: Final = tuple(sorted(SOURCES.glob("foundry_*/**/*.py")))

PACKAGES: Final = ("foundry_proto", "foundry_runtime", "foundry_serve")
"""In their order: each may import those before it."""

RULES: Final = {
    "foundry_proto/": {"attrs", "cattrs", "h11"},
    "foundry_runtime/": {"anyio", "attrs"},
    "foundry_runtime/transport/": {"asyncio", "trio"},
    "foundry_runtime/wakeup.py": {"asyncio", "trio"},
    "foundry_runtime/websocket/": {"wsproto"},
    "foundry_runtime/engine/": {"numpy"},
    "foundry_runtime/engine/session.py": {"onnxruntime"},
    "foundry_runtime/engine/genai/": {"onnxruntime_genai"},
    "foundry_runtime/engine/text/": {"jinja2", "llguidance", "tokenizers"},
    "foundry_runtime/models/external.py": {"httpx"},
    "foundry_runtime/download/": {"httpx"},
    "foundry_runtime/models/published/asking.py": {"httpx"},
    "foundry_runtime/importers/": {"gguf", "numpy", "onnx", "tokenizers"},
    "foundry_runtime/conformance/pytest_items.py": {"pytest"},
    "foundry_serve/": {"anyio", "attrs", "click", "rich"},
    "foundry_serve/metrics.py": {"prometheus_client"},
    "foundry_serve/tracing.py": {"opentelemetry"},
}
"""Place to packages, beside the standard library's; what holds for a place holds below it."""

PURE: Final = {
    "__future__",
    "base64",
    "bisect",
    "codecs",
    "collections.abc",
    "decimal",
    "enum",
    "hashlib",
    "http",
    "itertools",
    "json",
    "json.encoder",
    "math",
    "operator",
    "re",
    "struct",
    "types",
    "typing",
    "urllib.parse",
}
"""What the protocol may import of the standard library."""

DOING: Final = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
"""Built-in functions that do more than compute."""


def section(heading: str) -> str:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def table(heading: str) -> dict[str, str]:
    """The rows of a section's table, the first cell to the second."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section(heading), re.MULTILINE)
    return dict(rows[1:])


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def place(path: Path) -> str:
    return path.relative_to(SOURCES).as_posix()


def imports(path: Path) -> Iterator[str]:
    """The full names of all imported modules, wherever in the file they are imported."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}: imports are absolute"
            yield node.module or ""


def allowed(where: str) -> set[str]:
    """The packages that a file may import, without its own and the standard library's."""
    return set().union(*(packages for room, packages in RULES.items() if where.startswith(room)))


def wrong_imports(where: str, modules: Iterator[str]) -> list[str]:
    """What a file at a place should not import."""
    home = where.partition("/")[0]
    own = PACKAGES[: PACKAGES.index(home) + 1]
    wrong = []
    for module in modules:
        package = module.partition(".")[0]
        if package in own or package in allowed(where):
            continue
        python_has_it = package in sys.stdlib_module_names and package != "asyncio"
        if python_has_it and (home != "foundry_proto" or module in PURE):
            continue
        wrong.append(module)
    return wrong


def test_there_are_files_to_look_at() -> None:
    assert {place(path).partition("/")[0] for path in FILES} == set(PACKAGES)


def test_the_table_in_contributing_is_the_one_that_is_held() -> None:
    assert {code(where)[0]: set(code(cell)) for where, cell in table("Who may import what").items()} == RULES


def test_the_list_in_contributing_is_the_one_that_is_held() -> None:
    listed = section("Who may import what").partition("starts a thread:")[2].partition(".\n\n")[0]
    assert set(code(listed)) == PURE


@pytest.mark.parametrize("room", RULES)
def test_every_place_of_the_table_exists(room: str) -> None:
    assert (SOURCES / room).is_dir() if room.endswith("/") else (SOURCES / room).is_file()


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_file_imports_only_what_its_place_allows(path: Path) -> None:
    assert wrong_imports(place(path), imports(path)) == []


@pytest.mark.parametrize("path", [path for path in FILES if "foundry_proto" in path.parts], ids=place)
def test_the_protocol_calls_nothing_that_does_more_than_compute(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # A message's field may be called `input`.
    read = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    names = {node.id for node in read}
    assert names & DOING == set()


@pytest.mark.parametrize(
    ("where", "module"),
    [
        ("foundry_proto/codec.py", "anyio"),
        ("foundry_proto/codec.py", "asyncio"),
        ("foundry_proto/codec.py", "time"),
        ("foundry_proto/codec.py", "logging"),
        ("foundry_proto/codec.py", "http.client"),
        ("foundry_proto/codec.py", "urllib.request"),
        ("foundry_proto/codec.py", "collections"),
        ("foundry_proto/codec.py", "foundry_runtime.server"),
        ("foundry_proto/codec.py", "numpy"),
        ("foundry_runtime/server.py", "foundry_serve.app"),
        ("foundry_runtime/server.py", "asyncio.streams"),
        ("foundry_runtime/server.py", "trio"),
        ("foundry_runtime/server.py", "h11"),
        ("foundry_runtime/server.py", "numpy"),
        ("foundry_runtime/engine/worker.py", "tokenizers"),
        ("foundry_runtime/engine/text/template.py", "onnxruntime_genai"),
        ("foundry_runtime/wakeup_more.py", "trio"),
        ("foundry_serve/app.py", "asyncio"),
        ("foundry_serve/app.py", "numpy"),
    ],
)
def test_an_import_out_of_place_is_found(where: str, module: str) -> None:
    assert wrong_imports(where, iter([module])) == [module]


@pytest.mark.parametrize(
    ("where", "module"),
    [
        ("foundry_proto/codec.py", "foundry_proto.wire"),
        ("foundry_proto/codec.py", "cattrs"),
        ("foundry_proto/codec.py", "collections.abc"),
        ("foundry_runtime/server.py", "foundry_proto.events"),
        ("foundry_runtime/server.py", "time"),
        ("foundry_runtime/server.py", "anyio.abc"),
        ("foundry_runtime/transport/_asyncio.py", "asyncio"),
        ("foundry_runtime/wakeup.py", "trio.lowlevel"),
        ("foundry_runtime/engine/text/tokenizer.py", "tokenizers"),
        ("foundry_runtime/engine/text/sampler.py", "numpy"),
        ("foundry_serve/cli/root.py", "click"),
        ("foundry_serve/app.py", "foundry_runtime.server"),
    ],
)
def test_an_import_in_its_place_is_let_pass(where: str, module: str) -> None:
    assert wrong_imports(where, iter([module])) == []


@pytest.mark.parametrize("change", table("Where does my change go?"))
def test_where_a_change_goes_is_somewhere(change: str) -> None:
    cell = table("Where does my change go?")[change]
    paths = [name for name in code(cell) if "/" in name]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
