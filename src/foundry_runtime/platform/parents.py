"""What ties a child process to its parent: it ends when the parent does, however that ended.

Knows: how each system tells a process that its parent is gone, and how a child stays out of the way of
signals that are meant for the parent.
Refuses to know: what the processes do.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from foundry_runtime.platform.processes import birth_of, windows_waiter

__all__ = ["end_with_parent", "leave_signals_to_parent", "offer_memory_first"]


def end_with_parent(pid: int, birth: str, *, system: str = sys.platform) -> None:
    """Have this process end, at once and wherever it is, when its parent has ended.

    Args:
        pid: The parent's.
        birth: When it began, as `birth_of` has it, or nothing where that is not told: by now another one may
            have its number.
        system: The operating system, as `sys.platform` names it.

    On Linux the kernel kills this process, even amid native code, when the *thread* that started it ends.
    Elsewhere a thread of its own waits for the parent.
    """
    if system == "linux":
        _ask_kernel()
    elif system == "win32":
        _watch(windows_waiter(pid))
    else:
        _watch(_kqueue_wait(pid))
    if (birth_of(pid, system=system) or "") != birth:  # it ended before it could be waited for
        _end()


def _end() -> None:
    os._exit(_ORPHANED)


_ORPHANED: Final = 70
"""The exit status of a process whose parent is gone; nobody asks for it."""


def _ask_kernel() -> None:
    # SIGKILL, since the others may be ignored or wait for Python.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


_PR_SET_PDEATHSIG: Final = 1


def _watch(wait: Callable[[], object]) -> None:
    def watch() -> None:
        wait()
        _end()

    threading.Thread(target=watch, name="the parent's end", daemon=True).start()


def _kqueue_wait(pid: int) -> Callable[[], object]:
    """How BSD and macOS tell that a process has ended."""
    kqueue: Any = vars(select)["kqueue"]()
    names = vars(select)
    event: Any = names["kevent"](
        pid, names["KQ_FILTER_PROC"], names["KQ_EV_ADD"], fflags=names["KQ_NOTE_EXIT"]
    )
    try:
        kqueue.control([event], 0)
    except ProcessLookupError:  # it is gone: nothing to wait for
        return lambda: None
    return lambda: kqueue.control(None, 1)


def leave_signals_to_parent() -> None:
    """Ignore requests to stop: a terminal and a service manager send them to each process of a group, but the
    parent knows when this one may end."""
    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def offer_memory_first(*, system: str = sys.platform, proc: Path = Path("/proc")) -> None:
    """Have a system that runs out of memory end this process before its parent; elsewhere nobody is asked."""
    if system == "linux":
        with suppress(OSError):
            (proc / "self/oom_score_adj").write_text("500")
