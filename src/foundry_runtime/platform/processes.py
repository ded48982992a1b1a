"""Processes: which one it is, how one is left behind, and how it is asked to end.

Knows: that a process' number may be given to another one later, what a child inherits unless that is
prevented, and what stands in for signals where there are none.
Refuses to know: what the processes do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

__all__ = [
    "birth_of",
    "kill_process",
    "request_stop",
    "start_detached",
    "stop_requests",
    "windows_waiter",
]


def birth_of(pid: int, *, system: str = sys.platform, proc: Path = Path("/proc")) -> str | None:
    """What tells a process from every other that has, had or will have its number: when it began.

    Args:
        pid: Its number.
        system: The operating system, as `sys.platform` names it.
        proc: Where Linux tells about processes.

    Returns:
        A text to compare with an earlier one; `None` when there is no such process, or it has ended.
    """
    if system == "win32":
        return _windows_birth(pid)
    if system == "linux":
        return _linux_birth(pid, proc)
    return _ps_birth(pid)


def _linux_birth(pid: int, proc: Path) -> str | None:
    try:
        # The second field is the program's name in parentheses, in which anything may stand; see proc(5).
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    state, threads, ticks_since_boot = fields[0], int(fields[17]), fields[19]
    # It has ended, and waits for its parent to ask how. While it has more threads, only its first has ended:
    # the others still hold its files, and their locks.
    if state in {b"Z", b"X"} and threads <= 1:
        return None
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{boot} {ticks_since_boot.decode()}"


def _ps_birth(pid: int) -> str | None:
    # One language and one time zone, so that the same moment is always the same text.
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC0"}
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    # No shell, and nothing in the command is a stranger's.
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    state, _, began = done.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else began.strip()


def _windows_birth(pid: int) -> str | None:
    kernel32 = _kernel32()
    process = kernel32.OpenProcess(_QUERY_LIMITED_INFORMATION | _SYNCHRONIZE, False, pid)
    if not process:
        return None
    try:
        # Its object outlives a process for as long as somebody has a handle of it.
        if kernel32.WaitForSingleObject(ctypes.c_void_p(process), 0) != _WAIT_TIMEOUT:
            return None
        times = [ctypes.c_uint64() for _ in range(4)]  # created, ended, in the kernel, outside of it
        found = kernel32.GetProcessTimes(ctypes.c_void_p(process), *map(ctypes.byref, times))
        return str(times[0].value) if found else None
    finally:
        kernel32.CloseHandle(ctypes.c_void_p(process))


def windows_waiter(pid: int) -> Callable[[], object]:
    """Give how to wait until a process of Windows has ended; it is known by its handle from now on."""
    kernel32 = _kernel32()
    process = kernel32.OpenProcess(_QUERY_LIMITED_INFORMATION | _SYNCHRONIZE, False, pid)
    if not process:
        return lambda: None
    return lambda: kernel32.WaitForSingleObject(ctypes.c_void_p(process), _INFINITE)


_QUERY_LIMITED_INFORMATION: Final = 0x1000
_SYNCHRONIZE: Final = 0x100000
_EVENT_MODIFY_STATE: Final = 0x0002
_WAIT_OBJECT: Final = 0
_WAIT_TIMEOUT: Final = 0x102
_INFINITE: Final = 0xFFFFFFFF


def _kernel32() -> Any:
    """Windows' own library, with the results that are handles declared: as `int` they would be cut."""
    kernel32: Any = vars(ctypes)["WinDLL"]("kernel32")
    for name in ("OpenProcess", "CreateEventW", "OpenEventW"):
        getattr(kernel32, name).restype = ctypes.c_void_p
    return kernel32


def start_detached(
    command: Sequence[str],
    *,
    output: BinaryIO,
    folder: Path,
    environment: Mapping[str, str],
    system: str = sys.platform,
) -> subprocess.Popen[bytes]:
    """Start a program that goes on when this one, its terminal and its session are gone.

    It inherits no pipe: who waits for the end of this program's output does not wait for the other's.

    Args:
        command: The program and its arguments.
        output: Where all that it prints goes; a file.
        folder: Where it runs.
        environment: Its variables.
        system: The operating system, as `sys.platform` names it.

    Returns:
        The program. It is reaped when it ends, whether or not anybody asks.

    Raises:
        OSError: It cannot be started.
    """
    options: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": output,
        "stderr": output,
        "cwd": folder,
        "env": dict(environment),
        "close_fds": True,
    }
    if system == "win32":
        try:
            child = _popen(command, {**options, "creationflags": _DETACHED | _BREAKAWAY_FROM_JOB})
        except PermissionError:  # the job that this program is in lets nobody out
            child = _popen(command, {**options, "creationflags": _DETACHED})
    else:
        child = _popen(command, {**options, "start_new_session": True})
    threading.Thread(target=child.wait, name=f"reaper of {child.pid}", daemon=True).start()
    return child


def _popen(command: Sequence[str], options: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, **options)  # noqa: S603 (no shell, and nothing in it is a stranger's)


_DETACHED: Final = 0x08000000 | 0x00000200
"""CREATE_NO_WINDOW, a console that nobody sees, so that its children open none; and
CREATE_NEW_PROCESS_GROUP, so that Ctrl-C in this program's console is not for it."""
_BREAKAWAY_FROM_JOB: Final = 0x01000000
"""Not to end with the terminal or the runner that has put this program into a job."""


@contextmanager
def stop_requests(tell: Callable[[], object], *, system: str = sys.platform) -> Iterator[None]:
    """Have each request to stop told: SIGINT, SIGTERM, and what `request_stop` does.

    Args:
        tell: Called once a request: in the main thread between two of its steps, or in another thread.
        system: The operating system, as `sys.platform` names it.

    To be used in the main thread.
    """
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda *_: tell()) for number in numbers}
    try:
        if system == "win32":
            with _stop_event(tell):
                yield
        else:
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _stop_event(tell: Callable[[], object]) -> Iterator[None]:
    """Wait in a thread for this process' event: Windows' signals reach only the same console."""
    kernel32 = _kernel32()
    event = kernel32.CreateEventW(None, False, False, _event_name(os.getpid()))
    if not event:
        raise OSError("the event that asks this process to stop cannot be made")
    over = threading.Event()

    def wait() -> None:
        while kernel32.WaitForSingleObject(ctypes.c_void_p(event), _INFINITE) == _WAIT_OBJECT:
            if over.is_set():
                return
            tell()

    thread = threading.Thread(target=wait, name="requests to stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        kernel32.SetEvent(ctypes.c_void_p(event))
        thread.join()
        kernel32.CloseHandle(ctypes.c_void_p(event))


def _event_name(pid: int) -> str:
    return f"Local\\foundry-stop-{pid}"


def request_stop(pid: int, *, system: str = sys.platform) -> None:
    """Ask a process to end in good order.

    Raises:
        ProcessLookupError: There is none of this number, or it takes no requests.
        PermissionError: It is another user's.
    """
    if system != "win32":
        os.kill(pid, signal.SIGTERM)
        return
    kernel32 = _kernel32()
    event = kernel32.OpenEventW(_EVENT_MODIFY_STATE, False, _event_name(pid))
    if not event:
        raise ProcessLookupError(f"no process {pid} waits to be asked to stop")
    kernel32.SetEvent(ctypes.c_void_p(event))
    kernel32.CloseHandle(ctypes.c_void_p(event))


def kill_process(pid: int, *, system: str = sys.platform) -> None:
    """End a process at once; one that has ended is left alone.

    Args:
        pid: Its number.
        system: The operating system, as `sys.platform` names it.

    Raises:
        PermissionError: It is another user's.
    """
    try:
        # Windows has no SIGKILL; there, any signal that is none of its console's ends the process.
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    except ProcessLookupError:
        pass
    except OSError:
        # Windows calls a number that no process has a wrong argument, and denies access to one that has ended
        # as long as anybody holds a handle of it.
        if system != "win32" or birth_of(pid, system=system) is not None:
            raise
