"""How much memory this process may use, how it is taken page by page, and how it is given back.

Knows: the machine's memory and its container's limit, mappings, and GNU's allocator, which must be asked.
Refuses to know: what the memory is for.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, final

from foundry_runtime.platform._cgroups import iter_groups, read_file

__all__ = [
    "LazyMemory",
    "resident_memory",
    "return_freed_memory",
    "return_large_memory_at_once",
    "usable_memory",
]


def usable_memory(
    *, system: str = sys.platform, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes of memory that this process may use: the machine's, bounded by its container's limit."""
    memory = _windows_memory() if system == "win32" else _memory()
    for group, version in iter_groups(proc, cgroup, "memory"):
        limit = read_file(group / ("memory.max" if version == 2 else "memory.limit_in_bytes")).strip()
        if limit.isascii() and limit.isdigit():  # version 2 writes `max` for none
            memory = min(memory, int(limit))
    return memory


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _windows_memory() -> int:
    """The machine's memory, as `GlobalMemoryStatusEx` tells it in a structure of two small and seven large
    numbers, of which the first is the structure's size and the third the memory's."""
    status = (ctypes.c_uint64 * 8)()
    ctypes.c_uint32.from_buffer(status).value = ctypes.sizeof(status)
    kernel32: Any = vars(ctypes)["WinDLL"]("kernel32")
    if not kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx tells nothing")
    return int(status[1])


def resident_memory(pid: int, *, system: str = sys.platform, proc: Path = Path("/proc")) -> int | None:
    """Bytes that a process has in memory now; `None` when there is none of this number, or it is not told."""
    if system == "linux":
        fields = read_file(proc / str(pid) / "statm").split()  # in pages; see proc(5)
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else None
    if system == "win32":
        return _windows_resident(pid)
    # No shell, and the system's own program, wherever it keeps it.
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return int(told.stdout) * 1024 if told.stdout.strip().isdecimal() else None


def _windows_resident(pid: int) -> int | None:
    """As `GetProcessMemoryInfo` tells it in a structure of two small and eight large numbers, of which the
    first is the structure's size and the fourth what is in memory."""
    kernel32: Any = vars(ctypes)["WinDLL"]("kernel32")
    kernel32.OpenProcess.restype = ctypes.c_void_p
    process = kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not process:
        return None
    counters = (ctypes.c_uint64 * 9)()
    size = ctypes.sizeof(counters)
    ctypes.c_uint32.from_buffer(counters).value = size
    try:
        found = kernel32.K32GetProcessMemoryInfo(ctypes.c_void_p(process), ctypes.byref(counters), size)
        return int(counters[2]) if found else None
    finally:
        kernel32.CloseHandle(ctypes.c_void_p(process))


def return_freed_memory(*, system: str = sys.platform) -> None:
    """Give memory that was freed back to the system, after much of it was.

    GNU's allocator keeps freed memory between pieces that are in use: 40 MB after a small model. The others
    return it by themselves, or offer no way to ask.
    """
    if system == "linux":
        trim = _allocator("malloc_trim")
        if trim is not None:
            trim(0)


def return_large_memory_at_once(*, system: str = sys.platform) -> None:
    """Have the system get back each large block of memory when it is freed: for a program, not a library.

    GNU's allocator learns from each large block that it frees to keep the next ones, and keeps what a thread
    freed between pieces that are in use: after long answers a server held three times the memory it needs.
    """
    if system == "linux":
        set_option = _allocator("mallopt")
        if set_option is not None:
            set_option(_M_MMAP_THRESHOLD, 1024 * 1024)


@functools.cache
def _allocator(function: str) -> Callable[..., object] | None:
    """A function of the C library's allocator, if it has it.

    Looked up once: ctypes loses a few bytes at each look-up for good, and a few bytes in the middle keep a
    whole megabyte of Python's own memory from being given back.
    """
    found: Callable[..., object] | None = getattr(ctypes.CDLL(None), function, None)
    return found


_M_MMAP_THRESHOLD: Final = -3
"""`malloc.h`'s name for: blocks of this many bytes and more are mapped, each by itself."""


@final
class LazyMemory:
    """Zeroed memory that is taken from the system as it is written, and can be given back in parts.

    Args:
        size: Bytes, at least one; may be far more than the machine has, if they are not all written.
        system: The operating system, as `sys.platform` names it.

    Raises:
        MemoryError: The system gives no address space for that many.

    Windows counts the whole size against its page file, and keeps what was once written until `close`.
    """

    def __init__(self, size: int, *, system: str = sys.platform) -> None:
        self._system = system
        try:
            if system == "win32":
                self.buffer = mmap.mmap(-1, size)
            else:
                # Without the reservation, Linux refuses more than it has, though it will never be written.
                flags = mmap.MAP_PRIVATE | mmap.MAP_ANON | getattr(mmap, "MAP_NORESERVE", 0)
                self.buffer = mmap.mmap(-1, size, flags=flags)
        except (OSError, OverflowError) as error:
            raise MemoryError(f"no address space for {size} bytes: {error}") from error
        if system == "linux":
            # Huge pages would take 2 MB where a few tokens are written; a kernel may be without them.
            with suppress(OSError):
                self.buffer.madvise(mmap.MADV_NOHUGEPAGE)

    def give_back(self, begin: int, size: int) -> None:
        """Give whole pages back; what stood in these bytes is undefined afterwards.

        Args:
            begin: The first byte.
            size: How many bytes from there on are no longer needed.
        """
        if self._system == "win32":
            return
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (begin + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            advice = mmap.MADV_FREE if self._system == "darwin" else mmap.MADV_DONTNEED
            self.buffer.madvise(advice, first, last - first)

    def close(self) -> None:
        """Give everything back. What looks at the buffer must be gone.

        Raises:
            BufferError: It is not.
        """
        self.buffer.close()
