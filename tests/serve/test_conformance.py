"""The product passes its own conformance kit, by each way in which the kit can be run."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import anyio.from_thread
import pytest

from foundry_proto.conformance import CASES, PROFILES, Report, Target, run_script, selected
from foundry_runtime.conformance import Place, perform, perform_blocking
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.server import serve
from foundry_runtime.transport import connect_tcp, open_tcp_listeners
from foundry_serve.app import make_application
from tests.runtime.models.folders import write_folder
from tests.support.asgi_kit import EVERYTHING, TEXT, failed, make_kit_home, tried_under
from tests.support.asgi_servers import ServerKind
from tests.support.command import call, serving
from tests.support.pages import ROOT, table
from tests.support.scripted_model import ScriptedModels, scripted_server
from tests.support.scripted_source import ScriptedSource
from tests.support.tiny_encoder import write_encoder_folder
from tests.support.tiny_model import MODEL_ID


@pytest.fixture(scope="session")
def kit_home(tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    return make_kit_home(tmp_path_factory.mktemp("kit"), tmp_path_factory.mktemp("tiny"))


def fresh(home: ModelDirectory, folder: Path) -> ModelDirectory:
    """A home with the same models, to which another may be downloaded."""
    (folder / "cache").mkdir(parents=True)
    directory = ModelDirectory(folder)
    directory.models.mkdir(parents=True)
    (directory.models / "Test").symlink_to(home.models / "Test", target_is_directory=True)
    return directory


def bad(report: Report) -> list[tuple[str, str, str]]:
    return [
        (verdict.case.id, verdict.outcome, verdict.message)
        for verdict in report.verdicts
        if verdict.outcome not in ("passed", "not offered")
    ]


@pytest.mark.anyio
async def test_the_product_passes_every_case_of_every_profile(
    kit_home: ModelDirectory, tmp_path: Path
) -> None:
    home = fresh(kit_home, tmp_path / "home")
    source = ScriptedSource(
        prefix="pkg:", make=partial(write_folder, name="smollm2-135m-instruct-generic-cpu:1")
    )
    stopped = anyio.Event()
    async with scripted_server(
        home, text=TEXT, sources=[source], stop=stopped.set, endpoints=["http://127.0.0.1:5272"]
    ) as (server, _):
        target = Target(host="test", allow=EVERYTHING)
        # In memory nothing listens that could stop listening.
        cases = [case for case in CASES if case.id != "core.shutdown.end"]
        report = await perform(run_script(target, list(PROFILES), cases=cases), server.connect)
        assert stopped.is_set()
    assert bad(report) == []
    assert report.seconds < 60
    assert len(report.verdicts) == len(cases)


@pytest.fixture(scope="module")
def url(kit_home: ModelDirectory) -> Iterator[str]:
    """The product over TCP, with a scripted engine."""

    async def serve_it(*, task_status: anyio.abc.TaskStatus[int]) -> None:
        async with anyio.create_task_group() as engines:
            listeners = await open_tcp_listeners("127.0.0.1", 0)
            application = make_application(kit_home, ScriptedModels(engines, text=TEXT))
            engines.start_soon(serve, application, listeners)
            task_status.started(listeners[0].port)

    with anyio.from_thread.start_blocking_portal() as portal:
        future, port = portal.start_task(serve_it)
        yield f"http://127.0.0.1:{port}"
        future.cancel()


def test_plain_sockets_do_as_well(url: str) -> None:
    place = Place.of(url)
    cases = [case for case in CASES if case.id.startswith(("http.", "sse.", "chat.stream.", "unload."))]
    # Another test may have left a model in memory, which is unloaded here.
    target = Target(host=place.authority, allow=frozenset({"unload"}))
    report = perform_blocking(run_script(target, ["documented"], cases=cases), place)
    assert bad(report) == []
    assert len(report.verdicts) > 100


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "column", "anyio_backend"),
    [
        ("uvicorn", 1, "asyncio"),
        ("uvicorn with websockets", 3, "asyncio"),
        ("hypercorn on trio", 4, "trio"),
    ],
)
async def test_under_a_server_of_others_no_more_fails_than_is_told(
    kind: ServerKind, column: int, kit_home: ModelDirectory, tmp_path: Path
) -> None:
    """Of the cases that a server has a part in; `python -m tests.support.asgi_kit` tries all.

    A newer server may do better.
    """
    cases = [case for case in CASES if case.id.startswith(("http.", "sse.", "websocket.", "chat.stream."))]
    report = await tried_under(kind, fresh(kit_home, tmp_path / "home"), cases)
    rows = table(ROOT / "docs/embedding.md", "case")
    told = {row[0].strip("`") for row in rows if row[column] == "fails"}
    assert failed(report).keys() <= told, failed(report)
    assert len(report.verdicts) > 100


# The command.


def test_the_command_prints_what_came_of_it(url: str, tmp_path: Path) -> None:
    done = call(
        tmp_path, "conformance", url, "--profile", "openai", "--only", "chat.stream", "--runtime", "trio"
    )
    assert done.exit_code == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1].endswith(f"with the model {MODEL_ID}")
    streams = [case for case in selected(CASES, ["openai"]) if case.id.startswith("chat.stream")]
    musts = sum(case.level == "MUST" for case in streams)
    assert lines[-4].split() == ["MUST", str(musts), "0", "0", "0", "0", "0"]


def test_the_command_writes_xml_and_heeds_what_is_known(url: str, tmp_path: Path) -> None:
    known = tmp_path / "known.toml"
    known.write_text('[known]\n"chat.stream.done" = "none is sent"\n')
    xml = tmp_path / "report.xml"
    done = call(
        tmp_path, "conformance", url, "--only", "chat.stream.d", "--known", known, "--junit", xml, "--verbose"
    )
    assert done.exit_code == 1
    assert "unexpected pass\n  MUST   chat.stream.done\n" in done.stdout
    assert "expected to fail: none is sent" in done.stdout
    suite = ET.fromstring(xml.read_text())
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "expected to fail: none is sent"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x", "Expected '=' after a key in a key/value pair (at end of document)"),
        ("[other]\n", "expected one table, [known]"),
        ('[known]\n"no.case" = "why"\n', "known: there is no case 'no.case'"),
        ('[known]\n"chat.n" = ""\n', "known.'chat.n': expected a reason, got ''"),
    ],
)
def test_a_file_of_known_deviations_that_is_none_is_refused(tmp_path: Path, content: str, words: str) -> None:
    known = tmp_path / "known.toml"
    known.write_text(content)
    done = call(tmp_path, "conformance", "http://127.0.0.1:1", "--known", known)
    assert (done.exit_code, done.stderr) == (1, f"foundry: {known}: {words}\n")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:5272", "url: expected http://HOST:PORT or https://HOST:PORT, got 'localhost:5272'"),
        ("http://x:99999", "url: expected a port from 0 to 65535, got 'http://x:99999'"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1: expected a connection to the server, got none"),
    ],
)
def test_a_server_that_is_none_is_said_to_be_none(tmp_path: Path, url: str, words: str) -> None:
    done = call(tmp_path, "conformance", url)
    assert (done.exit_code, done.stderr) == (1, f"foundry: {words}\n")


def test_cases_can_be_listed_and_what_may_be_done_is_checked(tmp_path: Path) -> None:
    done = call(tmp_path, "conformance", "http://x", "--list", "--only", "chat.stream.done")
    assert done.stdout == (
        "MUST   chat.stream.done\n"
        "       A stream ends with data: [DONE]. (the REST reference page, POST /v1/chat/completions)\n"
    )
    done = call(tmp_path, "conformance", "http://x", "--allow", "download,theft")
    assert done.exit_code == 2
    assert "expected download, unload, shutdown, got theft" in done.stderr


def test_a_place_is_what_its_url_says() -> None:
    assert Place.of("https://a.example/mounted/") == Place(
        host="a.example", port=443, tls=True, prefix="/mounted"
    )
    assert Place.of("http://[::1]:5272").authority == "[::1]:5272"


# The plugin.


def pytest_with(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:foundry", "-p", "foundry_runtime.pytest_plugin"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:anyio", *arguments],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=100,
    )


def test_the_plugin_has_a_test_for_each_case_and_no_other(url: str, tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own() -> None: ...\n")
    known = tmp_path / "known.toml"
    known.write_text('[known]\n"chat.stream.done" = "none is sent"\n')
    arguments = ["--foundry-url", url, "--foundry-profile", "openai", "-k", "chat.stream or embeddings"]
    done = pytest_with(tmp_path, *arguments, "--foundry-known", str(known), "-rsf")
    assert "foundry: 127.0.0.1" in done.stdout
    assert "test_own" not in done.stdout
    assert "1 failed" in done.stdout, done.stdout
    assert "MUST chat.stream.done: A stream ends with data: [DONE]." in done.stdout
    assert "expected to fail: none is sent" in done.stdout
    assert done.returncode == 1


def test_the_plugin_says_what_is_wrong(tmp_path: Path) -> None:
    done = pytest_with(tmp_path, "--foundry-url", "http://127.0.0.1:1")
    assert "ERROR: --foundry-url: http://127.0.0.1:1: expected a connection" in done.stderr
    done = pytest_with(tmp_path, "--foundry-url", "http://x", "--foundry-profile", "none")
    assert (
        "ERROR: --foundry-profile: expected documented, sdk-0.5, core, openai, extra, got none" in done.stderr
    )


def test_the_plugin_imports_nothing_until_it_is_used() -> None:
    program = (
        "import sys, foundry_runtime.pytest_plugin\n"
        "print({'anyio', 'attrs', 'attr', 'cattrs', 'h11', 'pytest', 'trio'}.intersection(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.model
def test_the_product_passes_with_the_real_model(default_model: Path, tmp_path: Path) -> None:
    directory = ModelDirectory(tmp_path / "home")
    publisher = directory.models / default_model.parent.name
    publisher.mkdir(parents=True)
    (publisher / default_model.name).symlink_to(default_model, target_is_directory=True)
    write_encoder_folder(directory.models / "Test" / "encoder")
    with serving(directory.home, "--allow-shutdown") as (_, port):
        target = Target(host=f"127.0.0.1:{port}", allow=EVERYTHING)
        script = run_script(target, list(PROFILES))
        report = anyio.run(perform, script, partial(connect_tcp, "127.0.0.1", port))
    assert [one for one in bad(report) if one[1] != "untested"] == []
    assert report.count("untested") <= 10
