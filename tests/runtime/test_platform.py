"""What the systems do their own way; those that are not this one run with their system calls replaced."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foundry_runtime.platform import (
    return_freed_memory,
    return_large_memory_at_once,
    shared_library_name,
    usable_cores,
)


@pytest.fixture(autouse=True)
def _sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def machine(root: Path, membership: str, **files: str) -> dict[str, Any]:
    """A Linux machine in a folder: the process's groups, and the groups' files with `__` for slashes."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, text in files.items():
        path = (
            root / "cgroup" / name.replace("__", "/").replace("cpu_max", "cpu.max").replace("cfs", "cpu.cfs")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"system": "linux", "proc": root / "proc", "cgroup": root / "cgroup"}


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("linux", "libonnxruntime-genai.so"),
        ("darwin", "libonnxruntime-genai.dylib"),
        ("win32", "onnxruntime-genai.dll"),
    ],
)
def test_each_system_names_libraries_its_own_way(system: str, name: str) -> None:
    assert shared_library_name("onnxruntime-genai", system=system) == name


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(system="linux", proc=tmp_path, cgroup=tmp_path) == 16


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 16),
        ("400000 100000\n", 4),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("3200000 100000", 16),
    ],
)
def test_a_version_2_quota_bounds_the_cores(tmp_path: Path, text: str, cores: int) -> None:
    assert usable_cores(**machine(tmp_path, "0::/box/inner\n", box__inner__cpu_max=text)) == cores


def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    files = {"cpu_max": "900000 100000", "a__cpu_max": "300000 100000", "a__b__cpu_max": "500000 100000"}
    assert usable_cores(**machine(tmp_path, "0::/a/b\n", **files)) == 3


def test_a_path_of_the_host_leads_to_the_containers_own_root(tmp_path: Path) -> None:
    assert usable_cores(**machine(tmp_path, "0::/../../docker/0123\n", cpu_max="200000 100000")) == 2


def test_a_hybrid_system_keeps_version_2_below_unified(tmp_path: Path) -> None:
    assert usable_cores(**machine(tmp_path, "0::/a\n", unified__a__cpu_max="200000 100000")) == 2


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_version_1_quota_bounds_the_cores(tmp_path: Path, mount: str) -> None:
    files = {f"{mount}__box__cfs_quota_us": "250000\n", f"{mount}__box__cfs_period_us": "50000\n"}
    membership = "5:memory:/box\n4:cpu,cpuacct:/box\n0::/\n"
    assert usable_cores(**machine(tmp_path, membership, **files)) == 5


def test_a_version_1_quota_of_minus_one_is_none(tmp_path: Path) -> None:
    files = {"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}
    assert usable_cores(**machine(tmp_path, "1:cpu:/\n", **files)) == 16


@pytest.mark.parametrize("text", ["", "max", "x y", "0 0", "100000 0", "² 100000", "1 2 3"])
def test_what_is_no_quota_is_none(tmp_path: Path, text: str) -> None:
    assert usable_cores(**machine(tmp_path, "nonsense\n0::/\n", cpu_max=text)) == 16


def test_macos_has_no_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert usable_cores(system="darwin", proc=tmp_path, cgroup=tmp_path) == 10
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(system="darwin", proc=tmp_path, cgroup=tmp_path) == 1


def kernel32(mask: int) -> Callable[[str], SimpleNamespace]:
    """Windows' kernel32, as far as it is asked: a process with this mask; 0 makes the call fail."""
    process = 2**64 - 1  # the pseudo handle -1, which a default `int` result would cut

    def affinity(handle: ctypes.c_void_p, process_mask: Any, system_mask: Any) -> int:
        assert handle.value == process
        process_mask._obj.value = mask
        return int(mask != 0)

    def load(name: str) -> SimpleNamespace:
        assert name == "kernel32"
        # A lambda takes attributes, as a foreign function does.
        return SimpleNamespace(GetCurrentProcess=lambda: process, GetProcessAffinityMask=affinity)

    return load


@pytest.mark.parametrize(("mask", "cores"), [(0b1011, 3), (2**12 - 1, 12), (0, 10)])
def test_windows_counts_the_affinity_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int, cores: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    monkeypatch.setattr(ctypes, "WinDLL", kernel32(mask), raising=False)
    assert usable_cores(system="win32", proc=tmp_path, cgroup=tmp_path) == cores


def test_freed_memory_is_given_back_where_that_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    libraries: list[SimpleNamespace] = [SimpleNamespace(malloc_trim=asked.append), SimpleNamespace()]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: libraries.pop(0))
    for system in ("win32", "darwin", "linux", "linux"):  # the second Linux has another C library
        return_freed_memory(system=system)
    assert asked == [0]
    assert not libraries


def test_this_machine_has_a_core() -> None:
    assert usable_cores() >= 1


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
