"""Who listens on a port: found on each system its own way, and never an error."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foundry_runtime.platform import port_holder
from tests.runtime.platform.windows import Windows

lsof = pytest.mark.skipif(not shutil.which("lsof", path="/usr/sbin:/usr/bin"), reason="there is no lsof")


@pytest.mark.parametrize("system", [sys.platform, pytest.param("lsof", marks=lsof)])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_listening_process_is_found(system: str, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with listener:
        port = listener.getsockname()[1]
        assert (port_holder(port, system=system) or "").endswith(f", PID {os.getpid()}")
    assert port_holder(port, system=system) is None


LINE = "   0: 0100007F:1498 00000000:0000 {state} 0:0 0:0 0  1000  0 {inode} 1 0 100\n"


def proc(root: Path, *, state: str = "0A") -> Path:
    (root / "net").mkdir(parents=True)
    (root / "net/tcp").write_text("heading\n" + LINE.format(state=state, inode=77))
    for pid, inode in ((1, 76), (5272, 77)):
        (root / str(pid) / "fd").mkdir(parents=True)
        (root / str(pid) / "fd/3").symlink_to(f"socket:[{inode}]")
        (root / str(pid) / "comm").write_text("other thing\n")
    (root / "2").mkdir()  # another user's
    (root / "version").touch()
    return root


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_linux_looks_for_the_socket_in_all_processes(tmp_path: Path) -> None:
    assert port_holder(0x1498, system="linux", proc=proc(tmp_path / "a")) == "other thing, PID 5272"
    assert port_holder(0x1499, system="linux", proc=tmp_path / "a") is None
    assert port_holder(0x1498, system="linux", proc=proc(tmp_path / "b", state="01")) is None
    shutil.rmtree(tmp_path / "a/5272")
    assert port_holder(0x1498, system="linux", proc=tmp_path / "a") is None


@pytest.mark.parametrize(
    ("output", "holder"),
    [("p12\ncnginx\nf3\np13\ncother\n", "nginx, PID 12"), ("p12\n", "PID 12"), ("", None), ("cx\n", None)],
)
def test_macos_asks_lsof(monkeypatch: pytest.MonkeyPatch, output: str, holder: str | None) -> None:
    def run(command: list[str], **options: Any) -> SimpleNamespace:
        assert command == ["/usr/sbin/lsof", "-nP", "-iTCP:80", "-sTCP:LISTEN", "-Fpc"]
        return SimpleNamespace(stdout=output)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/usr/sbin/{name}")
    assert port_holder(80, system="darwin") == holder
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    assert port_holder(80, system="darwin") is None


def row(words: int, local_port: int, owner: int, port: int, pid: int) -> bytes:
    numbers = [9] * words
    numbers[local_port] = socket.htons(port) | 0xDEAD0000  # the upper half means nothing
    numbers[owner] = pid
    return struct.pack(f"<{words}I", *numbers)


def test_windows_asks_for_the_tables_of_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Windows(
        processes={12: 1, 13: 1},
        images={12: "C:\\Program Files\\nginx.exe"},
        tables={
            2: struct.pack("<I", 2) + row(6, 2, 5, 80, 12) + row(6, 2, 5, 5272, 13),
            23: struct.pack("<I", 1) + row(14, 5, 13, 443, 14),
        },
    )
    windows.install(monkeypatch)
    holders = [port_holder(port, system="win32") for port in (80, 5272, 443, 81)]
    assert holders == ["nginx.exe, PID 12", "PID 13", "PID 14", None]
    assert windows.handles == {}
