"""Freed memory goes back where that must be asked for, and nothing is asked elsewhere."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from foundry_runtime.platform import return_freed_memory, return_large_memory_at_once


def test_freed_memory_is_given_back_where_that_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    libraries: list[SimpleNamespace] = [SimpleNamespace(malloc_trim=asked.append), SimpleNamespace()]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libraries.pop(0))
    for system in ("win32", "darwin", "linux", "linux"):  # the second Linux has another C library
        return_freed_memory(system=system)
    assert asked == [0]
    assert not libraries


FREES_LARGE_BLOCKS_IN_A_THREAD = """
import pathlib, sys, threading
from foundry_runtime.platform import return_large_memory_at_once

def resident():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024

def work():
    large, small = [b"x" * 16_000_000], []
    large.clear()  # from here on the allocator would keep blocks of this size
    for _ in range(40):
        large.append(b"x" * 6_000_000)
        small.append(b"x" * 100_000)  # lies between them, and stays
    large.clear()
    kept.append(small)

kept = []
if sys.argv[1] == "at once":
    return_large_memory_at_once()
before = resident()
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other allocators return large blocks by themselves")
def test_large_memory_is_returned_at_once() -> None:
    def kept(how: str) -> int:
        command = [sys.executable, "-c", FREES_LARGE_BLOCKS_IN_A_THREAD, how]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    assert kept("at once") < 40
    if platform.libc_ver()[0] == "glibc":
        assert kept("as it is") > 100  # else there is nothing to be done, and the function can go


def test_elsewhere_large_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", None)
    for system in ("darwin", "win32"):
        return_large_memory_at_once(system=system)
