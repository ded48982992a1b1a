"""Processes: told apart from all others, left behind, asked to end; on Windows with its calls replaced."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from foundry_runtime.platform import birth_of, kill_process, request_stop, start_detached, stop_requests
from tests.runtime.platform.windows import Windows

posix = pytest.mark.skipif(os.name == "nt", reason="signals and sessions are not Windows'")
HERE = [
    sys.platform,
    pytest.param(
        "ps", marks=pytest.mark.skipif(os.name == "nt" or not shutil.which("ps"), reason="there is no ps")
    ),
]
"""This system's own way, and the one of those that have no other."""


@contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("system", HERE)
def test_a_process_has_one_birth_for_as_long_as_it_lives(system: str) -> None:
    with sleeping() as process:
        birth = birth_of(process.pid, system=system)
        assert birth is not None
        assert birth_of(process.pid, system=system) == birth
        process.kill()
        # Nobody has asked yet how it ended, so that the system still knows it.
        until(lambda: birth_of(process.pid, system=system) is None)
    assert birth_of(process.pid, system=system) is None


def proc(root: Path, pid: int, stat: str, boot: str | None = "b00t") -> Path:
    (root / str(pid)).mkdir(parents=True)
    (root / str(pid) / "stat").write_text(stat)
    if boot is not None:
        (root / "sys/kernel/random").mkdir(parents=True)
        (root / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
    return root


def stat(pid: int, name: str, state: str, began: int, threads: int = 1) -> str:
    return f"{pid} ({name}) {state} 1 {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 {began} 0 0\n"


def test_linux_tells_processes_apart_by_boot_and_clock(tmp_path: Path) -> None:
    births = [
        birth_of(7, system="linux", proc=proc(tmp_path / str(number), 7, stat(7, name, "S", began), boot))
        for number, (name, began, boot) in enumerate(
            [("x) Z 1 (", 5, "a"), ("x", 5, "a"), ("x", 6, "a"), ("x", 5, "b"), ("x", 5, None)]
        )
    ]
    assert births == ["a 5", "a 5", "a 6", "b 5", " 5"]
    ended = proc(tmp_path / "ended", 7, stat(7, "x", "Z", 5))
    assert birth_of(7, system="linux", proc=ended) is None
    assert birth_of(8, system="linux", proc=ended) is None


def test_on_linux_a_process_has_ended_when_its_last_thread_has(tmp_path: Path) -> None:
    """A killed process's first thread may end before the others, which still hold its locks."""
    ending = proc(tmp_path / "ending", 7, stat(7, "x", "Z", 5, threads=4))
    assert birth_of(7, system="linux", proc=ending) == "b00t 5"


def test_windows_tells_processes_apart_by_their_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Windows(processes={7: 2**40 + 1, 8: None})
    windows.install(monkeypatch)
    assert birth_of(7, system="win32") == str(2**40 + 1)
    assert birth_of(8, system="win32") is None
    assert birth_of(9, system="win32") is None
    assert windows.handles == {}


LEAVES_ONE_BEHIND = """
import os, pathlib, sys
from foundry_runtime.platform import start_detached
folder, environment = pathlib.Path(sys.argv[1]), {**os.environ, "ONE": "ä"}
with (folder / "output").open("ab") as output:
    child = start_detached(
        [sys.executable, "-c", "import os, time; print(os.getcwd(), os.environ['ONE'],"
         " getattr(os, 'getsid', lambda _: os.getpid())(0) == os.getpid(), flush=True); time.sleep(60)"],
        output=output, folder=folder, environment=environment,
    )
print(child.pid)
"""


def test_what_is_left_behind_holds_no_pipe_and_lives_in_a_session_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-X", "utf8", "-c", LEAVES_ONE_BEHIND, str(tmp_path)]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=True, timeout=60
    )
    pid = int(done.stdout)
    try:
        assert done.stderr == ""
        output = tmp_path / "output"
        until(lambda: output.read_text("utf-8").endswith("\n"))
        assert output.read_text("utf-8") == f"{tmp_path.resolve()} ä True\n"
        assert birth_of(pid) is not None
    finally:
        kill_process(pid)
    until(lambda: birth_of(pid) is None)
    kill_process(pid)  # which is gone


def test_what_was_left_behind_is_reaped_when_it_ends(tmp_path: Path) -> None:
    with (tmp_path / "output").open("ab") as output:
        command = [sys.executable, "-c", "raise SystemExit(3)"]
        child = start_detached(command, output=output, folder=tmp_path, environment=os.environ)
    until(lambda: child.poll() is not None)
    assert child.poll() == 3


class Child:
    """What `Popen` gives; it ends at once."""

    pid = 5

    def wait(self) -> int:
        return 0


@pytest.mark.parametrize("may_leave_its_job", [True, False])
def test_windows_detaches_by_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, may_leave_its_job: bool
) -> None:
    calls: list[dict[str, Any]] = []

    def popen(command: list[str], **options: Any) -> Child:
        calls.append(options)
        if options["creationflags"] & 0x01000000 and not may_leave_its_job:
            raise PermissionError
        return Child()

    monkeypatch.setattr(subprocess, "Popen", popen)
    with (tmp_path / "output").open("ab") as output:
        child = start_detached(["x"], output=output, folder=tmp_path, environment={"A": "B"}, system="win32")
    assert child.pid == 5
    assert [hex(call["creationflags"]) for call in calls] == ["0x9000200", "0x8000200"][
        : 2 - may_leave_its_job
    ]
    for call in calls:
        assert "start_new_session" not in call
        assert (call["stdin"], call["cwd"], call["env"]) == (subprocess.DEVNULL, tmp_path, {"A": "B"})


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_requests_to_stop_as_long_as_the_block_lasts(number: int) -> None:
    told: list[None] = []
    before = signal.getsignal(number)
    with stop_requests(lambda: told.append(None)):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        until(lambda: len(told) == 2)
    assert signal.getsignal(number) is before


@posix
def test_a_process_is_asked_by_a_signal() -> None:
    with sleeping() as process:
        request_stop(process.pid)
        assert process.wait() == -signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            request_stop(process.pid)


def test_windows_asks_by_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Windows()
    windows.install(monkeypatch)
    told = threading.Semaphore(0)
    with pytest.raises(ProcessLookupError, match=rf"no process {os.getpid()} waits"):
        request_stop(os.getpid(), system="win32")
    with stop_requests(told.release, system="win32"):
        for _ in range(2):
            request_stop(os.getpid(), system="win32")
            assert told.acquire(timeout=60)
    assert not told.acquire(blocking=False)
    assert windows.handles == {}
    assert not any(thread.name == "requests to stop" for thread in threading.enumerate())


@pytest.mark.parametrize(
    "says", [OSError(errno.EINVAL, "a wrong argument"), PermissionError(errno.EACCES, "no")]
)
def test_windows_has_its_own_words_for_a_process_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, says: OSError
) -> None:
    Windows(processes={7: None, 8: 133_000}).install(monkeypatch)

    def kill(_pid: int, _number: int) -> None:
        raise says

    monkeypatch.setattr(os, "kill", kill)
    kill_process(6, system="win32")
    kill_process(7, system="win32")
    with pytest.raises(type(says)):
        kill_process(8, system="win32")
