"""Memory: how much there is, taken page by page, given back; each system is asked in its own way."""

from __future__ import annotations

import ctypes
import mmap
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from foundry_runtime.platform import (
    LazyMemory,
    memory,
    return_freed_memory,
    return_large_memory_at_once,
    usable_memory,
)


@pytest.fixture
def looked_up_anew() -> Iterator[None]:
    """The C library is looked into once; here, in this test and again after it."""
    memory._allocator.cache_clear()
    yield
    memory._allocator.cache_clear()


@pytest.mark.usefixtures("looked_up_anew")
def test_freed_memory_is_given_back_where_that_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    libraries = [SimpleNamespace(malloc_trim=asked.append)]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libraries.pop(0))
    for system in ("win32", "darwin", "linux", "linux"):
        return_freed_memory(system=system)
    assert asked == [0, 0]
    assert not libraries


@pytest.mark.usefixtures("looked_up_anew")
def test_a_c_library_that_cannot_be_asked_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    return_freed_memory(system="linux")
    return_large_memory_at_once(system="linux")


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


def test_memory_is_the_machine_s_or_less_where_a_container_has_less(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (cgroup / "app.slice").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/app.slice/one\n")
    whole = usable_memory(proc=tmp_path / "none", cgroup=cgroup)
    assert whole > 100_000_000
    (cgroup / "app.slice" / "memory.max").write_text("max\n")
    assert usable_memory(proc=proc, cgroup=cgroup) == whole
    (cgroup / "app.slice" / "memory.max").write_text("52428800\n")
    assert usable_memory(proc=proc, cgroup=cgroup) == 52428800
    (proc / "self" / "cgroup").write_text("4:memory:/docker/x\n")
    (cgroup / "memory").mkdir()
    (cgroup / "memory" / "memory.limit_in_bytes").write_text("1048576\n")
    assert usable_memory(proc=proc, cgroup=cgroup) == 1048576


def test_windows_is_asked_for_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def tell(status: Any) -> int:
        fields = status._obj
        assert ctypes.c_uint32.from_buffer(fields).value == ctypes.sizeof(fields) == 64
        fields[1] = 8 * 1024**3
        return answer

    kernel32 = SimpleNamespace(GlobalMemoryStatusEx=tell)
    monkeypatch.setattr(ctypes, "WinDLL", lambda _: kernel32, raising=False)
    answer = 1
    assert usable_memory(system="win32", proc=tmp_path) == 8 * 1024**3
    answer = 0
    with pytest.raises(OSError, match=r"^GlobalMemoryStatusEx tells nothing$"):
        usable_memory(system="win32", proc=tmp_path)


class Mapping:
    """What a system is asked for."""

    def __init__(self, *arguments: object, **more: object) -> None:
        self.asked: list[object] = [(arguments, more)]

    def madvise(self, *advice: int) -> None:
        self.asked.append(advice)

    def close(self) -> None:
        self.asked.append("close")


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_each_system_is_asked_in_its_own_way(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(mmap, "mmap", Mapping)
    for name, value in {"MADV_FREE": 5, "MADV_DONTNEED": 4, "MADV_NOHUGEPAGE": 15}.items():
        monkeypatch.setattr(mmap, name, value, raising=False)
    size, page = 10 * mmap.PAGESIZE, mmap.PAGESIZE
    memory = LazyMemory(size, system=system)
    memory.give_back(1, size - 2)
    memory.give_back(page + 1, page)  # no page is whole
    memory.close()
    (arguments, more), *asked = cast("Any", memory.buffer).asked
    assert arguments == (-1, size)
    assert ("flags" in more) == (system != "win32")
    assert (
        asked
        == {
            "linux": [(15,), (4, page, 8 * page), "close"],
            "darwin": [(5, page, 8 * page), "close"],
            "win32": ["close"],
        }[system]
    )


def test_address_space_that_there_is_not_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match=r"^no address space for \d+ bytes: "):
        LazyMemory(2**62)
    with pytest.raises(MemoryError, match=r"^no address space for \d+ bytes: "):
        LazyMemory(2**70)


def test_lazy_memory_is_zeroed_and_keeps_what_stands_beside_what_is_given_back() -> None:
    memory = LazyMemory(4 * mmap.PAGESIZE)
    assert memory.buffer[:10] == bytes(10)
    memory.buffer[:] = b"x" * (4 * mmap.PAGESIZE)
    memory.give_back(mmap.PAGESIZE // 2, 2 * mmap.PAGESIZE)
    assert memory.buffer[: mmap.PAGESIZE] == b"x" * mmap.PAGESIZE
    assert memory.buffer[2 * mmap.PAGESIZE :] == b"x" * (2 * mmap.PAGESIZE)
    memory.close()
