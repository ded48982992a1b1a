"""How many cores this process may use.

Knows: affinity, and the CPU quotas of Linux' control groups. Refuses to know: what the cores will do.

Cores count twice over: one thread too many makes a model five times slower, because the threads of a matrix
product wait for the one that is not running. So a container's share counts, not the machine's processors.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foundry_runtime.platform._cgroups import iter_groups, read_file

__all__ = ["usable_cores"]


def usable_cores(
    *, system: str = sys.platform, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")
) -> int:
    """How many cores this process may use: its affinity, bounded by its container's CPU quota.

    Args:
        system: The operating system, as `sys.platform` names it.
        proc: Where Linux tells about processes.
        cgroup: Where Linux mounts the control groups.

    Returns:
        At least 1.

    Choice: half a core of quota is left unused rather than shared by a thread of its own (1.5 gives 1): the
    scheduler would stop all threads while that one waits for the next period.
    """
    cores = _windows_affinity() if system == "win32" else _affinity()
    for group, version in iter_groups(proc, cgroup, "cpu"):
        for quota in _quota(group, version=version):
            cores = min(cores, int(quota))
    return max(cores, 1)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS ties no process to a core


def _windows_affinity() -> int:
    """The processors in this process's affinity mask, which covers one group of at most 64."""
    kernel32: Any = vars(ctypes)["WinDLL"]("kernel32")
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    process, system = ctypes.c_size_t(), ctypes.c_size_t()
    found = kernel32.GetProcessAffinityMask(
        ctypes.c_void_p(kernel32.GetCurrentProcess()), ctypes.byref(process), ctypes.byref(system)
    )
    return process.value.bit_count() if found and process.value else os.cpu_count() or 1


def _quota(group: Path, *, version: int) -> Iterator[float]:
    """This group's own quota, when it has one: `max` and -1 stand for none."""
    if version == 2:
        fields = read_file(group / "cpu.max").split()
    else:
        fields = [
            read_file(group / "cpu.cfs_quota_us").strip(),
            read_file(group / "cpu.cfs_period_us").strip(),
        ]
    if len(fields) == 2 and all(field.isascii() and field.isdigit() and int(field) for field in fields):
        yield int(fields[0]) / int(fields[1])
