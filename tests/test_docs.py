"""The documentation is true: its programs run and print what it shows, its links lead somewhere, its tables
agree with the code. How a page is read and run stands in `tests/support/pages.py`.

What talks to the product's port talks to its server: over a scripted engine, and once more over the real
model.
"""

from __future__ import annotations

import ast
import fnmatch
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Final

import anyio
import anyio.from_thread
import attrs
import click
import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from foundry_proto.chat.markup import FAMILIES
from foundry_proto.codec import structure
from foundry_proto.conformance import CASES, PROFILES
from foundry_proto.connection import ClientConnection, Limits
from foundry_proto.exchange import MAX_QUERY_WORDS
from foundry_proto.jsontext import MAX_DEPTH, MAX_DIGITS, ContentError, show
from foundry_proto.messages.chat import MAX_MESSAGES, ChatCompletionRequest
from foundry_proto.messages.embeddings import MAX_INPUTS, EmbeddingRequest
from foundry_proto.messages.text_completions import MAX_CHOICES, TextCompletionRequest
from foundry_proto.openapi import statuses
from foundry_proto.operations import ALL, CHAT_COMPLETIONS
from foundry_proto.wire import describe, field_name, wire_of
from foundry_runtime.application import WorkLimits
from foundry_runtime.crowd import CrowdLimits
from foundry_runtime.download.manager import MOST_DOWNLOADS
from foundry_runtime.download.sources._registry import REGIONS
from foundry_runtime.engine.admission import MOST_WAITING
from foundry_runtime.engine.api import Sampling
from foundry_runtime.engine.text import template
from foundry_runtime.engine.text.guidance import asked, forms, grammars, patterns, schema
from foundry_runtime.importers.gguf import import_gguf
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.folder import SearchDefaults
from foundry_runtime.models.recipes import DEFAULT_ID, DEFAULT_RECIPE
from foundry_runtime.models.sampling import sampling_for
from foundry_runtime.server import TimeOuts, serve
from foundry_runtime.transport import open_tcp_listeners
from foundry_serve.app import make_application
from foundry_serve.config import DEFAULT_PORT, settings
from foundry_serve.metrics import Metrics
from tests.support.command_tree import command_named, options_of
from tests.support.mutants import MUTANTS
from tests.support.pages import (
    BLOCKS,
    PAGES,
    PRODUCT_PORT,
    ROOT,
    Block,
    Pages,
    anchors,
    check_output,
    commands_of,
    links,
    prose,
    read_blocks,
    table,
)
from tests.support.scripted_model import ScriptedModels
from tests.support.tiny_encoder import write_encoder_folder
from tests.support.tiny_model import write_tiny_gguf
from tests.support.transcripts import TRANSCRIPTS

DOCS: Final = ROOT / "docs"
SERVER_PAGE: Final = DOCS / "server.md"
STRUCTURED_PAGE: Final = DOCS / "structured-output.md"
ROUTES_PAGE: Final = DOCS / "routes.md"
PROGRAMS: Final = [block for blocks in BLOCKS.values() for block in blocks if block.runs]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def block_name(block: Block) -> str:
    return block.name


# Programs.

ANSWER: Final = "The primary colors are:\n\nRed (R)\nBlue (B)\nYellow (Y)"
"""What the scripted engine says: what the real model says at temperature 0."""

# A scripted model counts other tokens; the real one may choose other words on another processor.
ANY_COUNT: Final = (re.compile(r'_tokens":\d+'), '_tokens":0')
ANY_LENGTH: Final = (re.compile(r'"(completion|total)_tokens":\d+'), '"some_tokens":0')
# What earlier programs have left in the cache depends on which of them have run.
ANY_CACHE: Final = (re.compile(r'"cached_tokens":\d+'), '"cached_tokens":0')
ANY_WORDS: Final = (re.compile(r'"content":"[^"]+"'), '"content":"some text"')


@asynccontextmanager
async def scripted_product(directory: ModelDirectory) -> AsyncIterator[int]:
    """Serve the product's application over TCP, with a scripted engine; give the port."""
    stop = anyio.Event()
    async with anyio.create_task_group() as engines, anyio.create_task_group() as tasks:
        listeners = await open_tcp_listeners("localhost", 0)
        endpoints = [f"http://{listener.address}" for listener in listeners]
        application = make_application(directory, ScriptedModels(engines, text=ANSWER), endpoints=endpoints)
        await tasks.start(partial(serve, application, listeners, stop=stop))
        yield listeners[0].port
        stop.set()


@contextmanager
def scripted(directory: ModelDirectory) -> Iterator[Pages]:
    """Pages whose programs talk to the product over the models of a home."""
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(scripted_product(directory)) as port,
    ):
        pages = Pages(folder=directory.home.parent, home=directory.home, port=port)
        yield pages
        pages.close()


@pytest.fixture(scope="module")
def scripted_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The product over a scripted engine, whose model is called like the default one."""
    folder = tmp_path_factory.mktemp("docs")
    directory = ModelDirectory(folder / "home")
    write_tiny_gguf(folder / "tiny.gguf")
    target = directory.path_for(DEFAULT_RECIPE.publisher, DEFAULT_ID)
    import_gguf(folder / "tiny.gguf", target, model_id=DEFAULT_ID)
    with scripted(directory) as pages:
        yield pages


@pytest.fixture(scope="module")
def encoder_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The product over a tiny encoder that is called like a published one."""
    directory = ModelDirectory(tmp_path_factory.mktemp("docs") / "home")
    write_encoder_folder(directory.models / "encoder", name="all-minilm-l6-v2:1")
    with scripted(directory) as pages:
        yield pages


@pytest.fixture(scope="module")
def real_pages(default_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The product as it is, with the real model."""
    command = [sys.executable, "-m", "foundry_serve", "serve", "--port", "0"]
    environment = {**os.environ, "FOUNDRY_HOME": str(default_home), "PYTHONUTF8": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as server:
        try:
            assert server.stdout is not None
            announced = re.search(r"http://127\.0\.0\.1:(\d+)/", server.stdout.readline())
            assert announced
            pages = Pages(folder=tmp_path_factory.mktemp("docs"), home=default_home, port=int(announced[1]))
            yield pages
            pages.close()
        finally:
            server.kill()


def need(block: Block) -> None:
    if "openai" in block.code:
        pytest.importorskip("openai")
    if block.language == "sh" and not (shutil.which("bash") and shutil.which("curl")):
        pytest.skip("there is no curl")


def check_program(pages: Pages, block: Block) -> None:
    need(block)
    printed = pages.run(block)
    if block.output is not None:
        check_output(block.output, printed, ANY_COUNT)


@pytest.mark.parametrize(
    "block", [block for block in PROGRAMS if block.marker not in {"model", "embeddings"}], ids=block_name
)
def test_programs_run_and_print_what_the_page_shows(scripted_pages: Pages, block: Block) -> None:
    check_program(scripted_pages, block)


@pytest.mark.parametrize(
    "block", [block for block in PROGRAMS if block.marker == "embeddings"], ids=block_name
)
def test_programs_that_embed_run_and_print_what_the_page_shows(encoder_pages: Pages, block: Block) -> None:
    check_program(encoder_pages, block)


@pytest.mark.model
@pytest.mark.parametrize(
    "block",
    [
        block
        for block in PROGRAMS
        if block.marker == "model" or (PRODUCT_PORT in block.code and block.marker != "embeddings")
    ],
    ids=block_name,
)
def test_programs_run_with_the_real_model(real_pages: Pages, block: Block) -> None:
    need(block)
    printed = real_pages.run(block)
    assert printed.strip() or block.language == "sh"  # an answer may be empty
    if block.output is not None and '"content"' in block.output:
        check_output(block.output, printed, ANY_WORDS, ANY_LENGTH, ANY_CACHE)
    elif block.output is not None and block.marker == "model":
        check_output(block.output, printed)


def test_an_untrue_page_is_noticed() -> None:
    text = (
        "# Untrue\n\n<!-- docs: model -->\n```python\nprint(1)\n```\n\n"
        "```text\n2 …\n```\n\n```sh\ncurl x\n```\n\nSo:\n\n```text\nx\n```\n"
    )
    program, shown, called, told = read_blocks(DOCS / "untrue.md", text)
    assert (program.name, program.marker, program.code) == ("untrue.md:4", "model", "print(1)\n")
    assert [block.output for block in (program, shown, called, told)] == ["2 …\n", None, None, None]
    assert [block.runs for block in (program, shown, called, told)] == [True, False, True, False]
    check_output("2 …\n", "2 and more  \n")
    for printed in ("1\n", "2 \n3\n", ""):
        with pytest.raises(AssertionError):
            check_output("2 …\n", printed)


# Links and names.


@every_page
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{page.name}: {link}: no such file"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}: no such heading"


def test_the_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= linked


@every_page
def test_names_in_the_text_exist(page: Path) -> None:
    for name in re.findall(r"`(foundry_(?:proto|runtime|serve)(?:\.\w+)+)[`(]", prose(page)):
        package, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(package), last), f"{page.name}: {name}"


# Conformance.


def test_the_table_of_wrong_servers_is_the_one_that_is_tested() -> None:
    def written(pattern: str) -> str:
        return f"not `{pattern[1:]}`" if pattern.startswith("!") else f"`{pattern}`"

    rows = [[one.name, one.wrong, ", ".join(map(written, one.caught_by))] for one in MUTANTS]
    assert table(DOCS / "conformance.md", "server") == rows


def test_the_report_of_the_page_speaks_of_cases_that_there_are() -> None:
    ids = [case.id for case in CASES]
    named = [
        name for row in table(DOCS / "conformance.md", "cases") for name in re.findall(r"`([^`]+)`", row[0])
    ]
    assert named
    assert [name for name in named if not fnmatch.filter(ids, name)] == []


def test_the_profiles_of_the_page_are_those_that_there_are() -> None:
    assert [row[0].strip("`") for row in table(DOCS / "conformance.md", "profile")] == list(PROFILES)


# Commands.


@every_page
def test_commands_in_the_text_exist_with_their_options(page: Path) -> None:
    for words in commands_of(page):
        command, rest = command_named(words)
        for option in (word.partition("=")[0] for word in rest if word.startswith("-")):
            assert option in options_of(command), f"{page.name}: foundry {' '.join(words)}"


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("terminal.md", ("model", "run")),
        ("models.md", ("model", "import")),
        ("conformance.md", ("conformance",)),
    ],
    ids=str,
)
def test_every_option_has_its_row_with_its_default(page: str, words: tuple[str, ...]) -> None:
    command, _ = command_named(words)
    rows = {row[0].strip("`").split()[0]: row for row in table(DOCS / page, "option")}
    options = {
        one.opts[0] if isinstance(one, click.Option) else str(one.metavar or one.name).upper(): one
        for one in command.params
    }
    assert set(rows) == set(options)
    for name, option in options.items():
        if isinstance(option, click.Option) and option.show_default:
            assert rows[name][1] == f"`{option.default}`", name


def test_every_metric_has_its_row_with_its_labels() -> None:
    there = {
        f"{one._name}{'_total' if isinstance(one, Counter) else ''}": [*one._labelnames]
        for one in vars(Metrics()).values()
        if isinstance(one, MetricWrapperBase)
    }
    rows = {row[0].strip("`"): quoted(row[1]) for row in table(DOCS / "observability.md", "metric")}
    assert rows.pop("foundry_build_info") == ["version"]
    assert rows.pop("process_…`, `python_…") == []
    assert rows == there


def test_every_setting_has_its_row_with_its_default() -> None:
    rows = {row[0].strip("`"): row[1] for row in table(DOCS / "configuration.md", "setting")}
    assert list(rows) == [one.name for one in settings()]
    for one in settings():
        if one.default is not None and one.default != ():
            assert rows[one.name] == f"`{one.show(one.default)}`", one.name
    assert rows["port"] == f"`{DEFAULT_PORT}`"
    assert (rows["azure_regions"], len(REGIONS)) == ("six regions", 6)


def test_every_setting_is_an_option_unless_its_row_says_otherwise() -> None:
    rows = {row[0].strip("`"): row[2] for row in table(DOCS / "configuration.md", "setting")}
    options = options_of(command_named(["serve"])[0])
    for one in settings():
        assert one.variable == f"FOUNDRY_{one.name.upper()}"
        assert (one.flag in options) == ("In the file and the environment only" not in rows[one.name])
    negated = {flag.replace("--no-", "--", 1) for flag in options}
    assert negated == {one.flag for one in settings() if one.has_flag} | {"--help", "-h"}


@pytest.mark.skipif(os.name == "nt", reason="a pipe that nobody reads is told otherwise there")
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--max-tokens", "5"), 1, ""),  # whoever reads the pipe is gone
        (
            ("--max-tokens", "600"),
            1,
            "foundry: the prompt has … tokens and max_tokens is 600: together they …\n",
        ),
        (
            ("--max-tokens", "0"),
            2,
            "…\n…\n\nError: Invalid value for '--max-tokens': 0 is not in the range x>=1.\n",
        ),
    ],
    ids=["pipe", "context", "option"],
)
def test_exit_statuses_are_those_of_the_page(
    scripted_pages: Pages, options: Sequence[str], status: int, message: str
) -> None:
    command = [sys.executable, "-m", "foundry_serve", "model", "run", DEFAULT_ID, "x", *options]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        environment = {**os.environ, "FOUNDRY_HOME": str(scripted_pages.home)}
        done = subprocess.run(
            command, env=environment, stdout=nobody, stderr=subprocess.PIPE, encoding="utf-8", check=False
        )
    assert done.returncode == status
    check_output(message, done.stderr)
    assert str(status) in {row[0] for row in table(DOCS / "terminal.md", "status")}


# Tables.


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("server.md", ChatCompletionRequest),
        ("embeddings.md", EmbeddingRequest),
        ("completions.md", TextCompletionRequest),
    ],
)
def test_every_parameter_has_its_row_with_what_is_accepted(page: str, message: Any) -> None:
    rows = table(DOCS / page, "property")
    fields = attrs.fields(attrs.resolve_types(message, include_extras=True))
    assert sorted(row[0] for row in rows) == sorted(f"`{one.name}`" for one in fields)
    accepted = {row[0].strip("`"): row[1] for row in rows}
    assert accepted == {one.name: describe(one.type) for one in fields}


def test_a_wrong_value_of_each_parameter_is_refused_as_the_table_says() -> None:
    least: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    for name, accepted, *_, refused in table(SERVER_PAGE, "property"):
        field = name.strip("`")
        wrong = "x" if re.match("an? (number|integer)", accepted) else 5
        with pytest.raises(ContentError) as caught:
            structure(ChatCompletionRequest, {**least, field: wrong})
        assert str(caught.value) == f"{field}: expected {accepted}, got {show(wrong)}"
        assert refused.startswith("400")


def test_what_is_left_out_comes_from_where_the_table_says() -> None:
    """Each sampling parameter's last column: the model's `search` where it names it, else the value there."""
    rows = {row[0].strip("`"): row[3] for row in table(SERVER_PAGE, "property")}
    names = [one.name for one in attrs.fields(Sampling) if one.name not in ("seed", "logit_bias")]
    request = structure(ChatCompletionRequest, {"model": "m", "messages": [{"role": "user", "content": "x"}]})
    silent = sampling_for(request, SearchDefaults())
    assert (silent.seed, silent.logit_bias) == (None, {})
    of_the_model = {one.name for one in attrs.fields(SearchDefaults)}
    for name in names:
        assert float(rows[name].split()[-1]) == getattr(silent, name), name
        assert (f"`search.{name}`" in rows[name]) == (name in of_the_model), name
        if name in of_the_model:
            its_own: dict[str, Any] = {name: 0.5}
            stated = sampling_for(request, SearchDefaults(**its_own))
            assert getattr(stated, name) == 0.5, name


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_the_keywords_of_schemas_are_all_named_where_they_belong() -> None:
    rows = {row[0]: row[1] for row in table(STRUCTURED_PAGE, "keyword")}
    assert sorted(quoted(" ".join(rows))) == sorted(schema.APPLIED)
    assert quoted(rows["`format`"]) == list(patterns.FORMATS)
    refused = STRUCTURED_PAGE.read_text("utf-8").partition("and are refused: ")[2].partition(". What")[0]
    assert sorted(quoted(refused)) == sorted(schema.REFUSED)


def test_the_limits_of_forms_are_those_of_the_code() -> None:
    text = " ".join(STRUCTURED_PAGE.read_text("utf-8").split())
    for limit in (
        f"At most {schema.MAX_PROPERTIES} of one object",
        f"at most {patterns.MAX_PATTERN} characters. |",
        f"word boundaries, at most {patterns.MAX_PATTERN} characters.",
        f"A schema may have {schema.MAX_SIZE} schemas and constants together, {schema.MAX_DEPTH} within",
        f"at most {forms.MAX_LARK} characters, {forms.MAX_RULES} rules and {forms.MAX_GROUPS} opening",
        f"the last {grammars.MAX_KEPT} are kept",
        f"at most {asked.MOST_CALLS} calls",
        f"A number has at most {grammars.MAX_DIGITS} digits in a row",
    ):
        assert limit in text, limit


def test_every_route_has_its_row_with_what_it_answers() -> None:
    rows = [
        [
            f"`{', '.join(one.methods)} {one.path}`",
            one.profile,
            one.summary,
            " ".join(map(str, statuses(one))),
        ]
        for one in ALL
    ]
    assert table(ROUTES_PAGE, "route") == rows


def test_every_exchange_that_a_page_shows_is_a_golden_transcript() -> None:
    golden = {transcript.text for transcript in TRANSCRIPTS}
    shown = [block for blocks in BLOCKS.values() for block in blocks if block.language == "http"]
    assert shown
    for block in shown:
        assert block.code in golden, block.name


def test_every_word_of_a_route_has_its_row_with_what_is_accepted() -> None:
    accepted: dict[str, dict[str, set[str]]] = {}
    for operation in ALL:
        if operation.query is not NoneType:
            casing = wire_of(operation.query).writes[0]
            for one in attrs.fields(attrs.resolve_types(operation.query, include_extras=True)):
                of = accepted.setdefault(field_name(one, casing), {})
                of.setdefault(describe(one.type), set()).add(operation.name)
    shown: dict[str, dict[str, set[str]]] = {}
    for word, operations, kind, *_ in table(ROUTES_PAGE, "word"):
        named = shown.setdefault(word.strip("`"), {}).setdefault(kind, set())
        named.update(re.findall(r"`(\w+)`", operations))
    assert shown == accepted


def test_the_readme_says_of_every_route_whether_it_is_offered() -> None:
    rows = [
        (re.findall(r"`(?:[A-Z]+ )?(/[^`]*)`", row[0]), row[1]) for row in table(ROOT / "README.md", "route")
    ]
    offered = {path for paths, text in rows for path in paths if text != "not yet"}
    assert offered == {operation.path for operation in ALL}
    assert {path for paths, text in rows for path in paths if text == "not yet"} >= set(ALL.not_yet)


def test_every_family_of_markers_has_its_row_with_its_signs() -> None:
    rows = {row[0]: row for row in table(DOCS / "tools.md", "family")}
    assert list(rows) == [family.name for family in FAMILIES]
    for family in FAMILIES:
        _, signs, told = (cell.replace("\\", "") for cell in rows[family.name])
        assert signs == ", ".join(f"`{sign}`" for sign in family.signs)
        for block in family.markup.calls:
            assert f"`{block.begin.removesuffix(block.keeps)}`" in told
            assert block.end is None or f"`{block.end}`" in told


def codes_in_the_source() -> Iterator[tuple[str, str | None]]:
    """Each error code that is written somewhere, with the status beside it, if one is."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                written = {
                    one.arg: one.value.value for one in node.keywords if isinstance(one.value, ast.Constant)
                }
                if isinstance(code := written.get("code"), str):
                    yield code, str(written["status"]) if "status" in written else None


def test_every_error_code_has_its_row_with_its_status() -> None:
    shown = {row[1].strip("`"): row[0] for row in table(SERVER_PAGE, "status")}
    written = list(codes_in_the_source())
    assert set(shown) - {"null"} == {code for code, _ in written}
    for code, status in written:
        assert status in {None, shown[code]}, code


@pytest.mark.parametrize("page", ["server.md", "runtime.md", "protocol.md"])
def test_limits_are_those_of_the_code(page: str) -> None:
    """Each stands in the row that has its name."""
    limits, time_outs = Limits(), TimeOuts()
    true = {
        **{
            f"`Limits.{one.name}`": f"{getattr(limits, one.name) // 1024} KiB"
            for one in attrs.fields(Limits)
            if one.name not in ("body", "headers", "depth")
        },
        "`Limits.body`": "none",
        "`Limits.headers`": str(limits.headers),
        "`Limits.depth`": str(limits.depth),
        "`WorkLimits.requests`": str(WorkLimits().requests),
        "`WorkLimits.seconds`": f"{WorkLimits().seconds:g} s",
        "`CrowdLimits.total`": str(CrowdLimits().total),
        "`CrowdLimits.per_address`": str(CrowdLimits().per_address),
        **{f"`TimeOuts.{one.name}`": f"{getattr(time_outs, one.name):g} s" for one in attrs.fields(TimeOuts)},
        "`Operation.body_limit`": f"{CHAT_COMPLETIONS.body_limit // 1024**2} MiB",
    }
    rows = [line for line in (DOCS / page).read_text("utf-8").splitlines() if line.startswith("| ")]
    named = [(row, name) for row in rows for name in true if name in row]
    assert {name for _, name in named} == {
        name for name in true if page != "protocol.md" or not name.startswith(("`Time", "`Crowd", "`Work"))
    }
    for row, name in named:
        assert f"| {true[name]} |" in row, f"{page}: {row}"


@pytest.mark.parametrize(("page", "first"), [("security.md", "who"), ("hardening.md", "fault")])
def test_what_a_page_says_is_shown_by_tests_that_there_are(page: str, first: str) -> None:
    written = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    rows = table(DOCS / page, first)
    assert rows
    for *_, shown in rows:
        names = re.findall(r"`(test_\w+)`", shown)
        assert names
        assert all(f"def {name}(" in written for name in names), shown


def test_limits_without_a_name_are_those_of_the_code() -> None:
    rows = {row[0]: row[1] for row in table(SERVER_PAGE, "what")}
    assert rows["messages in a request"] == str(MAX_MESSAGES)
    assert rows["nesting of arrays and objects in a body"] == str(MAX_DEPTH)
    assert rows["digits of a number"] == str(MAX_DIGITS)
    named = {row[2]: row[1] for row in table(SERVER_PAGE, "what")}
    assert named["`ModelOpener(max_waiting=…)`"] == str(MOST_WAITING)
    assert named["`Downloads(most=…)`"] == str(MOST_DOWNLOADS)
    rows = {row[0]: row[1] for row in table(DOCS / "protocol.md", "limit")}
    assert rows["words of a query string"] == str(MAX_QUERY_WORDS)
    (of_answers,) = {one.default for one in attrs.fields(ClientConnection) if one.name == "_limit"}
    assert of_answers == 64 * 1024**2
    assert rows["a whole answer, or one item of a stream"] == "64 MiB"
    assert f"at most {MAX_CHOICES} texts" in (DOCS / "completions.md").read_text("utf-8")
    assert f"at most {MAX_INPUTS} texts" in (DOCS / "embeddings.md").read_text("utf-8")
    text = (DOCS / "models.md").read_text("utf-8")
    of_templates = template.Limits()
    for number in (template._LARGEST_SOURCE, of_templates.text, of_templates.output):
        assert f"{number:,} characters" in text
