"""Laws of `foundry service`: one service a home, found as long as it is there, and no longer."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from foundry_runtime.platform import birth_of, kill_process
from foundry_serve.daemon.state import ServiceFiles, ServiceState
from tests.support.command import FOUNDRY, call, environment, foundry, serving

NOT_RUNNING = (
    "🔴 Model management service is not running!\n"
    "To start the service, run the following command: foundry service start\n"
)
PYTHON_AND_JS = r"http://(?:[a-zA-Z0-9.-]+|\d{1,3}(\.\d{1,3}){3}):\d+"
"""How the official clients look for the service in what `status` prints; the first match counts."""
CSHARP = r"is running on (http://.*)\s+"
STARTED = r"🟢 Service is Started on (http://127\.0\.0\.1:\d+)/, PID (\d+)!\n"

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to one process")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose service ends with the test."""
    yield (home := tmp_path / "ein Zuhause ☕")
    state = ServiceFiles(home).read()
    if state is not None and state.lives:
        kill_process(state.pid)


def start(home: Path, *options: object) -> tuple[str, int]:
    done = call(home, "service", "start", "--port", 0, *options)
    started = re.fullmatch(STARTED, done.stdout)
    assert started, done
    assert (done.exit_code, done.stderr) == (0, "")
    return started[1], int(started[2])


def state_of(home: Path) -> ServiceState:
    state = ServiceFiles(home).read()
    assert state is not None
    return state


def is_stopped(home: Path) -> bool:
    done = call(home, "service", "status")
    assert re.search(PYTHON_AND_JS, done.stdout) is None
    return (done.exit_code, done.stdout, done.stderr) == (0, NOT_RUNNING, "")


def until(condition: Callable[[], object], *, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_status_has_the_address_of_a_service_that_answers_and_no_other(home: Path) -> None:
    done = foundry(home, "service", "status")
    assert (done.returncode, done.stdout, done.stderr) == (0, NOT_RUNNING, "")
    assert re.search(PYTHON_AND_JS, done.stdout) is None
    assert not home.exists()
    # It ends only when nobody has its pipes any more: not the service either.
    done = foundry(home, "service", "start", "--port", 0, "--drain", 600)
    started = re.fullmatch(STARTED, done.stdout)
    assert started
    assert (done.returncode, done.stderr) == (0, "")
    url, pid = started[1], int(started[2])
    done = foundry(home, "service", "status", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="latin-1")
    said = f"🟢 Model management service is running on {url}/openai/status\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    for pattern in (PYTHON_AND_JS, CSHARP):
        assert (match := re.search(pattern, done.stdout))
        assert match[0].split()[-1].startswith(url)
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", "/openai/status")
    assert url in json.load(connection.getresponse())["endpoints"]

    # An idle connection that is kept alive keeps nobody waiting.
    done = foundry(home, "service", "stop")
    assert (done.returncode, done.stdout, done.stderr) == (0, "🔴 Service is stopped.\n", "")
    connection.close()
    assert birth_of(pid) is None
    assert is_stopped(home)
    again = call(home, "service", "stop")
    assert (again.exit_code, again.stdout) == (0, "🔴 Model management service is not running!\n")


def test_a_second_start_finds_the_first(home: Path) -> None:
    url, pid = start(home)
    done = call(home, "service", "start")
    running = f"🟢 Service is already running on {url}/.\n"
    assert (done.exit_code, done.stdout, done.stderr) == (0, running, "")
    done = call(home, "service", "start", "--drain", 5)
    assert (done.exit_code, done.stdout) == (0, running)
    assert done.stderr == (
        "foundry: it runs with the options that it was started with; "
        "`foundry service restart` gives it others\n"
    )
    assert state_of(home).pid == pid


def test_of_two_starts_at_once_comes_one_service(home: Path) -> None:
    command = [*FOUNDRY, "service", "start", "--port", "0"]
    starts = [
        subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, encoding="utf-8")
        for _ in range(2)
    ]
    # One that looks meanwhile waits for it, as the clients do that do not wait for the start itself.
    until(ServiceFiles(home).state.exists)
    status = foundry(home, "service", "status")
    printed = sorted(one.communicate()[0] for one in starts)
    assert [one.returncode for one in starts] == [0, 0]
    started, running = re.fullmatch(STARTED, printed[0]), printed[1]
    assert started
    assert running == f"🟢 Service is already running on {started[1]}/.\n"
    assert started[1] in status.stdout


@posix
def test_a_service_that_was_killed_is_noticed(home: Path) -> None:
    url, pid = start(home)
    kill_process(pid)
    until(lambda: birth_of(pid) is None)
    assert ServiceFiles(home).state.exists()
    assert is_stopped(home)
    assert not ServiceFiles(home).state.exists()
    again, other = start(home)
    assert (again, other) != (url, pid)


@posix
@pytest.mark.parametrize(("number", "runtime"), [(signal.SIGTERM, "asyncio"), (signal.SIGINT, "trio")])
def test_a_signal_ends_an_idle_service_at_once(home: Path, number: int, runtime: str) -> None:
    _, pid = start(home, "--runtime", runtime, "--drain", 600)
    os.kill(pid, number)
    until(lambda: birth_of(pid) is None)
    assert not ServiceFiles(home).state.exists()
    assert ServiceFiles(home).log.read_text("utf-8").endswith(" INFO foundry_serve.daemon: ended\n")


def test_a_taken_port_is_named_and_the_default_one_gives_way(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call(home, "service", "start", "--port", port)
        assert (done.exit_code, done.stdout) == (1, "")
        first, *log, last = done.stderr.splitlines()
        assert first == f"foundry: the last lines of {ServiceFiles(home).log}:"
        assert any(
            f"cannot listen on localhost:{port}: " in line and f"PID {os.getpid()} has it" in line
            for line in log
        )
        assert last == "foundry: the service did not start; it ended with status 1"
    assert is_stopped(home)
    try:
        default = socket.create_server(("127.0.0.1", 5272))
    except OSError:  # somebody else has it, which is as good
        default = socket.socket()
    with default:
        done = call(home, "service", "start")
    started = re.fullmatch(STARTED, done.stdout)
    assert started
    assert urlsplit(started[1]).port not in (5272, None)
    assert re.fullmatch(r"foundry: port 5272 is taken.*, so it took a free one\n", done.stderr)


def test_a_start_that_fails_tells_why(home: Path) -> None:
    done = call(home, "service", "start", "--host", "203.0.113.1", "--runtime", "trio")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "cannot listen on 203.0.113.1:5272: " in done.stderr
    assert is_stopped(home)
    home.chmod(0o700)
    (home / "settings.json").write_text("[]")
    done = call(home, "service", "start")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"foundry: {home / 'settings.json'}: expected an object, got []\n"


def test_a_restart_keeps_the_options_that_it_is_not_given(home: Path) -> None:
    url, pid = start(home, "--drain", 3, "--cachedir", home / "elsewhere")
    port = urlsplit(url).port
    done = call(home, "service", "restart", "--port", port, "--verbose")
    restarted = re.fullmatch(STARTED, done.stdout)
    assert restarted
    assert restarted[1] == url
    state = state_of(home)
    assert (state.pid, state.options.drain, state.options.verbose) == (int(restarted[2]), 3, True)
    assert state.model_dir_path == str(home / "elsewhere")
    assert state.pid != pid
    call(home, "service", "stop")
    done = call(home, "service", "restart", "--port", 0)
    assert re.fullmatch(STARTED, done.stdout)
    assert state_of(home).options.drain == 10


def test_a_server_in_the_foreground_is_the_service(home: Path) -> None:
    with serving(home) as (server, port):
        status = call(home, "service", "status", "--json")
        described = json.loads(status.stdout)
        assert described["running"]
        assert (described["pid"], described["log"]) == (server.pid, None)
        facts = json.loads(call(home, "service", "diag", "--json").stdout)
        assert facts["log"] == f"standard error of process {server.pid}"
        assert described["endpoints"][0] == f"http://127.0.0.1:{port}"
        with serving(home) as (_, other):  # another one does not take its place
            assert other != port
            assert json.loads(call(home, "service", "status", "--json").stdout) == described
        done = call(home, "service", "stop")
        assert (done.exit_code, done.stdout) == (0, "🔴 Service is stopped.\n")
        assert server.wait(60) == 0
    assert json.loads(call(home, "service", "status", "--json").stdout) == {"running": False}


def test_diagnosis_says_what_runs_where_and_why(home: Path) -> None:
    done = call(home, "service", "diag", "--logs")
    log = ServiceFiles(home).log
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"foundry: there is no log yet at {log}\n"
    url, pid = start(home)
    done = call(home, "service", "diag")
    facts = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert (facts["process"], facts["home"], facts["log"]) == (str(pid), str(home), str(log))
    assert facts["service"].startswith("is running since ")
    assert facts["endpoints"].startswith(url)
    assert (facts["health"], facts["loaded"]) == ("ready", "no models")
    assert facts["models"].startswith(f"{home / 'cache' / 'models'} (0 models, ")
    assert re.fullmatch(r"port = 0(, catalog = off)?", facts["settings"])  # as where the tests run
    assert re.fullmatch(r"\d+ MB", facts["memory"])
    again = json.loads(call(home, "service", "diag", "--json").stdout)
    assert again == {**facts, "memory": again["memory"]}
    lines = call(home, "service", "diag", "--logs").stdout.splitlines()
    assert lines == log.read_text("utf-8").splitlines()
    assert any(line.endswith(f"serving the models in {home / 'cache' / 'models'}") for line in lines)
    last = call(home, "service", "diag", "--logs", "--lines", 1, "--json").stdout
    assert json.loads(last) == lines[-1:]
