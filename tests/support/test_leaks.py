"""What is left behind is found, by its kind: here, in a child process, and by the fixtures of all tests."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import trio.lowlevel

from tests.support import leaks
from tests.support.leaks import no_service_left, nothing_left

ROOT = Path(__file__).parents[2]

LOST = {
    "a file": "open({path!r}, 'w').write('a')",
    "a socket": "import socket; socket.socket()",
    "a coroutine": "async def lost(): pass\nlost()",
    "a thread's exception": "import threading; threading.Thread(target=divmod, args=(1, 0)).start()",
    "a task": "import asyncio, gc\n"
    "async def wait(): await asyncio.get_running_loop().create_future()\n"
    "loop = asyncio.new_event_loop(); loop.create_task(wait()); loop.run_until_complete(asyncio.sleep(0))\n"
    "loop.close(); del loop; gc.collect()",
}
"""Programs that leave something behind, and go on."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_PATIENCE", 0.0)


def test_nothing_is_found_where_nothing_is_left() -> None:
    with nothing_left():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        asyncio.run(asyncio.sleep(0))
        trio.run(trio.sleep, 0)
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_thread_is_found() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="lost")
    with pytest.raises(AssertionError, match=r"^left behind: a thread: lost"), nothing_left():
        thread.start()
    over.set()
    thread.join()


def test_a_file_and_a_socket_are_found(tmp_path: Path) -> None:
    kept: list[Any] = []
    opens: dict[str, Callable[[], Any]] = {
        "lost": lambda: (tmp_path / "lost").open("w"),
        "socket": socket.socket,
    }
    for what, begin in opens.items():
        with pytest.raises(AssertionError, match=rf"^left behind: an open file: .*{what}"), nothing_left():
            kept.append(begin())
        kept.pop().close()


def running(command: list[str]) -> subprocess.Popen[bytes]:
    """A process whose command can be seen."""
    child = subprocess.Popen(command)
    while not leaks._command(child.pid):
        assert child.poll() is None
    return child


def test_a_child_process_is_found() -> None:
    with (
        pytest.raises(AssertionError, match=r"^left behind: a child process: \d+ .*sleep\(600\) $"),
        nothing_left(),
    ):
        child = running([sys.executable, "-c", "import time; time.sleep(600)"])
    child.kill()
    child.wait()


def test_a_service_is_left_to_its_module_and_found_there() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)", "-m", "foundry_serve.daemon", "{}"]
    with (
        pytest.raises(AssertionError, match=r"^left behind: a service: .* -m foundry_serve.daemon {} $"),
        no_service_left(),
        nothing_left(),
    ):
        child = running(command)
    child.kill()
    child.wait()


@pytest.mark.parametrize("what", LOST)
def test_what_a_child_process_leaves_is_found(what: str, tmp_path: Path) -> None:
    program = LOST[what].format(path=str(tmp_path / "lost"))
    with (
        pytest.raises(AssertionError, match=r"^left behind: by a child process: (?s:.*)lost"),
        nothing_left(),
    ):
        subprocess.run([sys.executable, "-c", program, "lost"], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("run", [asyncio.run, lambda main: anyio.run(lambda: main)])
def test_a_task_of_asyncio_is_found(run: Callable[[Any], asyncio.Task[None]]) -> None:
    async def leave() -> asyncio.Task[None]:
        return asyncio.create_task(asyncio.sleep(3600), name="lost")

    with (
        pytest.raises(AssertionError, match=r"^left behind: a task of asyncio: lost \(sleep\)$"),
        nothing_left(),
    ):
        run(leave())


def test_a_task_whose_exception_nobody_has_looked_at_is_found() -> None:
    async def fail() -> None:
        raise ValueError("lost")

    async def leave() -> None:
        asyncio.create_task(fail()).add_done_callback(lambda _: None)  # nobody asks for it
        await asyncio.sleep(0)

    words = r"^left behind: asyncio's own words: Task exception was never retrieved"
    with pytest.raises(AssertionError, match=words), nothing_left():
        asyncio.run(leave())


def test_a_task_of_trio_is_found() -> None:
    async def main() -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="lost")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0)

    with pytest.raises(AssertionError, match=r"^left behind: a task of trio: lost$"), nothing_left():
        anyio.run(main, backend="trio")


SUITE = """
import asyncio, socket, subprocess, sys, threading
import pytest, trio

KEPT = []

def test_mode():
    assert sys.flags.dev_mode
    assert "error" in sys.warnoptions

@pytest.mark.anyio
async def test_debug(anyio_backend_name):
    assert anyio_backend_name == "trio" or asyncio.get_running_loop().get_debug()

def test_thread():
    threading.Thread(target=threading.Event().wait, daemon=True, name="lost").start()

def test_file():
    KEPT.append(open(__file__))

def test_socket():
    socket.socket()

def test_child():
    KEPT.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def test_in_child():
    subprocess.run([sys.executable, "-c", "import socket; socket.socket()"])

@pytest.mark.anyio
async def test_task(anyio_backend_name):
    if anyio_backend_name == "trio":
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="lost")
    else:
        KEPT.append(asyncio.create_task(asyncio.sleep(3600), name="lost"))
"""
FOUND = {
    "test_thread": "left behind: a thread: lost",
    "test_file": "left behind: an open file: ",
    "test_socket": "PytestUnraisableExceptionWarning: Exception ignored in: <socket.socket",
    "test_child": "left behind: a child process: ",
    "test_in_child": "left behind: by a child process: ",
    "test_task[asyncio]": "left behind: a task of asyncio: lost",
    "test_task[trio]": "left behind: a task of trio: lost",
}


def test_each_test_of_a_run_is_looked_after_in_development_mode_also_in_its_workers(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests.conftest import all_are_looked_after, anyio_backend, nothing_is_left\n"
        "from tests.support import leaks\n"
        "leaks._PATIENCE = 0.0\n"
    )
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    options = ("-n", "1", "-p", "no:cacheprovider", "-p", "no:foundry")
    variables = {name: os.environ[name] for name in os.environ.keys() - {"PYTHONPATH", leaks._TELL}}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "pytest", "-rfE", *options, str(tmp_path)],
        cwd=ROOT,
        env={**variables, "COLUMNS": "400"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert len(told) == len(FOUND), done.stdout
    for name, words in FOUND.items():
        assert any(f"::{name} - " in line and words in line for line in told), (name, *told)
