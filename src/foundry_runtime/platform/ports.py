"""Which process listens on a port, so that an error can name it.

Knows: where each system keeps its list of sockets. Refuses to know: why anybody asks.

It is told to people, so that nothing here fails: what cannot be found out is not known.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any, Final

__all__ = ["port_holder"]


def port_holder(port: int, *, system: str = sys.platform, proc: Path = Path("/proc")) -> str | None:
    """The process that listens on a TCP port of this machine: `nginx, PID 812`.

    Args:
        port: The port.
        system: The operating system, as `sys.platform` names it.
        proc: Where Linux tells about processes.

    Returns:
        `None` when nobody does, or it is another user's and cannot be seen.
    """
    if system == "win32":
        found = _windows_holder(port)
    elif system == "linux":
        found = _linux_holder(port, proc)
    else:
        found = _lsof_holder(port)
    return None if found is None else f"{found[1]}, PID {found[0]}" if found[1] else f"PID {found[0]}"


def _linux_holder(port: int, proc: Path) -> tuple[int, str] | None:
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port, proc)}
    if not sockets:
        return None
    for process in proc.iterdir():
        if process.name.isdecimal():
            try:
                if any(str(file.readlink()) in sockets for file in (process / "fd").iterdir()):
                    return int(process.name), (process / "comm").read_text(errors="replace").strip()
            except OSError:
                continue  # it has ended, or is another user's
    return None


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            local, state, inode = fields[1], fields[3], fields[9]
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                yield inode


_LISTENING: Final = "0A"
"""The kernel's TCP_LISTEN, as its table writes it."""


def _lsof_holder(port: int) -> tuple[int, str] | None:
    program = shutil.which("lsof", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        return None
    command = [program, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
    # No shell, and nothing in the command is a stranger's.
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    fields = {line[:1]: line[1:] for line in reversed(done.stdout.splitlines())}  # the first process counts
    return (int(fields["p"]), fields.get("c", "")) if fields.get("p", "").isdecimal() else None


def _windows_holder(port: int) -> tuple[int, str] | None:
    load = vars(ctypes)["WinDLL"]
    iphlpapi = load("iphlpapi")
    # Each row is made of 32-bit numbers; where in it the local port and the owner stand.
    for family, words, local_port, owner in ((2, 6, 2, 5), (23, 14, 5, 13)):  # AF_INET, AF_INET6
        for row in _windows_rows(iphlpapi, family, words):
            # The port's two bytes come in the network's order, as the lower half of a number.
            if int.from_bytes(struct.pack("<H", row[local_port] & 0xFFFF), "big") == port:
                return row[owner], _windows_name(load("kernel32"), row[owner])
    return None


def _windows_rows(iphlpapi: Any, family: int, words: int) -> Iterator[tuple[int, ...]]:
    """The listening sockets of a family, with their processes."""
    size = ctypes.c_uint32(0)
    table = ctypes.create_string_buffer(0)
    for _ in range(10):  # the table may grow between two calls
        arguments = (table, ctypes.byref(size), False, family, _TABLE_OWNER_PID_LISTENER, 0)
        status = iphlpapi.GetExtendedTcpTable(*arguments)
        if status == 0:
            row = struct.Struct(f"<{words}I")
            (count,) = struct.unpack_from("<I", table.raw)
            yield from row.iter_unpack(table.raw[4 : 4 + count * row.size])
            return
        if status != _INSUFFICIENT_BUFFER:
            return
        table = ctypes.create_string_buffer(size.value)


_TABLE_OWNER_PID_LISTENER: Final = 3
_INSUFFICIENT_BUFFER: Final = 122
_QUERY_LIMITED_INFORMATION: Final = 0x1000


def _windows_name(kernel32: Any, pid: int) -> str:
    kernel32.OpenProcess.restype = ctypes.c_void_p
    process = kernel32.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)
    if not process:
        return ""
    length = ctypes.c_uint32(32768)
    path = ctypes.create_unicode_buffer(length.value)
    found = kernel32.QueryFullProcessImageNameW(ctypes.c_void_p(process), 0, path, ctypes.byref(length))
    kernel32.CloseHandle(ctypes.c_void_p(process))
    return PureWindowsPath(path.value).name if found else ""
