"""How many cores count; systems that are not this one run with their system calls replaced."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foundry_runtime.platform import usable_cores


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


def test_this_machine_has_a_core() -> None:
    assert usable_cores() >= 1
