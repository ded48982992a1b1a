"""How freed memory is given back to the system.

Knows: GNU's allocator, which must be asked. Refuses to know: what the memory was for.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

__all__ = ["return_freed_memory", "return_large_memory_at_once"]


def return_freed_memory(*, system: str = sys.platform) -> None:
    """Give memory that was freed back to the system, after much of it was.

    GNU's allocator keeps freed memory between pieces that are in use: 40 MB after a small model. The others
    return it by themselves, or offer no way to ask.
    """
    if system == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def return_large_memory_at_once(*, system: str = sys.platform) -> None:
    """Have the system get back each large block of memory when it is freed: for a program, not a library.

    GNU's allocator learns from each large block that it frees to keep the next ones, and keeps what a thread
    freed between pieces that are in use: after long answers a server held three times the memory it needs.
    """
    if system == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:
            set_option(_M_MMAP_THRESHOLD, 1024 * 1024)


_M_MMAP_THRESHOLD: Final = -3
"""`malloc.h`'s name for: blocks of this many bytes and more are mapped, each by itself."""
