"""A child ends with its parent: what each system is asked for, with the calls of others replaced."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foundry_runtime.platform import birth_of, end_with_parent, offer_memory_first, parents
from tests.runtime.platform.windows import Windows

CHILD = """
import os, sys, time
from foundry_runtime.platform import end_with_parent
end_with_parent(int(sys.argv[1]), sys.argv[2])
print("waits", flush=True)
time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys, time
from foundry_runtime.platform import birth_of
command = [sys.executable, "-c", {CHILD!r}, str(os.getpid()), birth_of(os.getpid())]
with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    print(child.pid, birth_of(child.pid), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set where this process would have ended."""
    event = threading.Event()
    monkeypatch.setattr(parents, "_end", event.set)
    return event


def test_a_killed_parent_takes_its_child_along() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, _, birth = parent.stdout.readline().strip().partition(" ")
        assert birth_of(int(pid)) == birth
        parent.kill()
    for _ in range(2000):
        if birth_of(int(pid)) != birth:
            return
        threading.Event().wait(0.005)
    raise AssertionError("the child goes on")


def test_a_parent_that_is_gone_already_is_noticed(
    ended: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(parents, "_ask_kernel", lambda: asked.append(1))
    end_with_parent(os.getpid(), birth_of(os.getpid()) or "", system="linux")
    assert not ended.is_set()
    end_with_parent(os.getpid(), "another birth", system="linux")
    assert ended.is_set()
    assert asked == [1, 1]


def test_linux_is_asked_for_a_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    library = SimpleNamespace(prctl=lambda *words: asked.append(words))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    parents._ask_kernel()
    assert asked == [(1, signal.SIGKILL, 0, 0, 0)]


def test_windows_tells_when_the_parents_handle_is_set(
    ended: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Windows(processes={7: None, 8: 5})
    windows.install(monkeypatch)
    end_with_parent(7, "5", system="win32")
    assert ended.wait(60)
    ended.clear()
    end_with_parent(9, "", system="win32")
    assert ended.wait(60)


class Kqueue:
    """A kernel that tells at once that the process has ended, or that there is none."""

    def __init__(self, there: bool) -> None:
        self.there = there
        self.asked: list[Any] = []
        self.told = threading.Event()

    def control(self, changes: list[Any] | None, most: int) -> list[Any]:
        self.asked.append((changes, most))
        if changes is None:
            self.told.wait(60)
        elif not self.there:
            raise ProcessLookupError
        return []


@pytest.mark.parametrize("there", [True, False])
def test_macos_tells_by_kqueue(ended: threading.Event, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    kqueue = Kqueue(there)
    monkeypatch.setattr(select, "kqueue", lambda: kqueue, raising=False)
    monkeypatch.setattr(select, "kevent", lambda *words, **more: (words, more), raising=False)
    for number, name in enumerate(("KQ_FILTER_PROC", "KQ_EV_ADD", "KQ_NOTE_EXIT")):
        monkeypatch.setattr(select, name, number, raising=False)
    end_with_parent(os.getpid(), birth_of(os.getpid(), system="darwin") or "", system="darwin")
    assert not there or not ended.is_set()
    kqueue.told.set()
    assert ended.wait(60)
    added = ([((os.getpid(), 0, 1), {"fflags": 2})], 0)
    assert kqueue.asked == ([added, (None, 1)] if there else [added])


def test_linux_is_told_whom_to_end_first_and_may_refuse(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    offer_memory_first(system="linux", proc=tmp_path)
    assert (tmp_path / "self/oom_score_adj").read_text() == "500"
    offer_memory_first(system="linux", proc=tmp_path / "absent")
    offer_memory_first(system="win32", proc=tmp_path / "absent")
